//go:build unix

package e2e

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// prometheusVariable is the environment variable without which the tests with Prometheus are skipped; see make
// test-alerts.
const prometheusVariable = "KUBEAGENTS_PROMETHEUS"

func needPrometheus(t *testing.T) {
	t.Helper()
	if os.Getenv(prometheusVariable) == "" {
		t.Skip("needs Prometheus: run make test-alerts (on Debian, apt-get install prometheus first)")
	}
}

// Files that operators install, and the tests of one of them.
const (
	rulesFile      = root + "/deploy/prometheus/kubeagents.rules.yaml"
	rulesTestsFile = root + "/deploy/prometheus/kubeagents.rules.test.yaml"
)

// runbook is the page that describes the alerts.
const runbook = "docs/operate.md"

// rule is an alerting rule, or a recording rule if Alert is "".
type rule struct {
	Alert       string
	Record      string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

// rules returns the rules for Prometheus: those that record and those that alert.
func rules(t *testing.T) (records, alerts []rule) {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []rule
		}
	}
	decodeYAML(t, rulesFile, &file)
	for _, group := range file.Groups {
		for _, r := range group.Rules {
			if r.Alert == "" {
				records = append(records, r)
				continue
			}
			alerts = append(alerts, r)
		}
	}
	require.NotEmpty(t, records)
	require.NotEmpty(t, alerts)
	return records, alerts
}

func decodeYAML(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, yaml.UnmarshalWithOptions(text, into, yaml.DisallowUnknownField()), path)
}

// TestManualListsEveryAlert compares the alerts with the sections of the manual that say what to do.
func TestManualListsEveryAlert(t *testing.T) {
	_, alerts := rules(t)
	_, text, found := strings.Cut(manual(t)[runbook], "\n## Alerts\n")
	require.True(t, found)
	text, _, _ = strings.Cut(text, "\n## ")
	sections := strings.Split(text, "\n### ")[1:]
	require.Len(t, sections, len(alerts))
	for i, alert := range alerts {
		name, body, _ := strings.Cut(sections[i], "\n")
		require.Equal(t, alert.Alert, name, "the manual has the alerts in the order of the rules")
		require.Greater(t, len(strings.Fields(body)), 15, "%s: the manual says what to do", name)
		require.Equal(t, "https://github.com/kubeagents/kubeagents/blob/main/"+runbook+"#"+strings.ToLower(name), alert.Annotations["runbook_url"])
		require.NotEmpty(t, alert.Annotations["summary"], name)
		require.NotEmpty(t, alert.Annotations["description"], name)
		require.Contains(t, []string{"critical", "warning", "info"}, alert.Labels["severity"], name)
	}
}

// TestEveryAlertIsTested requires that the tests of the rules look at each alert before it fires, while it does, and
// after that. TestPrometheusRules runs them.
func TestEveryAlertIsTested(t *testing.T) {
	var file struct {
		RuleFiles          []string `yaml:"rule_files"`
		EvaluationInterval string   `yaml:"evaluation_interval"`
		Tests              []struct {
			Name        string
			Interval    string
			InputSeries []map[string]string `yaml:"input_series"`
			Alerts      []struct {
				At       string `yaml:"eval_time"`
				Name     string `yaml:"alertname"`
				Expected []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	decodeYAML(t, rulesTestsFile, &file)
	looked := map[string]string{} // what is expected of each alert, in the order of time
	for _, test := range file.Tests {
		var last time.Duration
		for _, alert := range test.Alerts {
			at, err := time.ParseDuration(alert.At)
			require.NoError(t, err, test.Name)
			require.Greater(t, at, last, test.Name)
			last = at
			if len(alert.Expected) > 0 {
				looked[alert.Name] += "fires "
			} else {
				looked[alert.Name] += "quiet "
			}
		}
	}
	_, alerts := rules(t)
	for _, alert := range alerts {
		require.Contains(t, looked[alert.Alert], "quiet fires quiet ", alert.Alert)
	}
}

// TestPrometheusRules checks the rules with Prometheus' own tool, and runs their tests.
func TestPrometheusRules(t *testing.T) {
	needPrometheus(t)
	for _, args := range [][]string{{"check", "rules", "--lint=all", "--lint-fatal", rulesFile}, {"test", "rules", rulesTestsFile}} {
		out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}

// metricName matches names of our metrics in queries.
var metricName = regexp.MustCompile(`\bkubeagents_[a-z0-9_]+`)

// TestQueriesNameMetrics checks that the metrics in the rules and in the dashboard are in the manual.
func TestQueriesNameMetrics(t *testing.T) {
	page := manual(t)[runbook]
	for name, query := range queries(t) {
		for _, metric := range metricName.FindAllString(query, -1) {
			metric = regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(metric, "")
			require.Contains(t, page, "`"+metric, "%s: %s is not in %s", name, metric, runbook)
		}
	}
}

// queries returns every query in the rules and in the dashboard, by where it is.
func queries(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	records, alerts := rules(t)
	for i, r := range records {
		all[fmt.Sprintf("record %d, %s", i, r.Record)] = r.Expr
	}
	for _, r := range alerts {
		all["alert "+r.Alert] = r.Expr
	}
	maps.Copy(all, readGrafana(t).queries())
	return all
}
