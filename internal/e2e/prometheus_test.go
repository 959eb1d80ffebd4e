//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/demo/workday"
	"github.com/kubeagents/kubeagents/internal/natstest"
)

// expected says why an alert fires on the server of TestPrometheusQueries. No other alert may.
var expected = map[string]string{
	"KubeAgentsCertificateExpires":     "the test's certificate lives for an hour",
	"KubeAgentsCertificateExpiresSoon": "the same",
	"KubeAgentsTeamNearShare":          "a team uses all of its share",
}

// TestPrometheusQueries lets a Prometheus, configured as the manual says, scrape a server on which the demo's agents work,
// alone and in a cluster. Every query of the rules and of the dashboard must return data, and no alert may fire without a
// reason.
func TestPrometheusQueries(t *testing.T) {
	needPrometheus(t)
	t.Run("alone", func(t *testing.T) {
		all := withoutAlerts(t)
		maps.DeleteFunc(all, func(_, query string) bool { return isAboutCluster(query) })
		testQueries(t, all)
	})
	t.Run("in a cluster", func(t *testing.T) {
		testQueries(t, withoutAlerts(t), "NATS_URL="+natstest.Start(t, 1).URL(), "NATS_REPLICAS=1")
	})
}

// isAboutCluster reports whether a query returns data in a cluster only.
func isAboutCluster(query string) bool {
	return !slices.ContainsFunc(metricName.FindAllString(query, -1), func(name string) bool { return !strings.HasPrefix(name, "kubeagents_cluster_") })
}

// testQueries tests that queries return data, and which alerts fire, on a server with these settings.
func testQueries(t *testing.T, all map[string]string, environment ...string) {
	s, holders := startMonitored(t, environment...)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { follow(ctx, s, holders["reads"]) })
	running.Go(func() { play(ctx, t, s, holders) })
	prometheus := startPrometheus(t, s, holders["reads"])

	prometheus.requireData(t, all)
	_, alerts := rules(t)
	for _, alert := range alerts {
		fires := len(prometheus.query(t, alert.Expr)) > 0
		require.Equal(t, expected[alert.Alert] != "", fires, "%s: %s", alert.Alert, expected[alert.Alert])
	}
	prometheus.requireHealthyRules(t)
}

// startMonitored starts a server with everything that has metrics, and returns the holders of its tokens.
func startMonitored(t *testing.T, environment ...string) (s encrypted, holders map[string]accesstest.Holder) {
	t.Helper()
	tokens, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	rules := writeFile(t, filepath.Join(t.TempDir(), "rules.yaml"),
		[]byte("destinations: {a: {command: {program: /bin/true}}}\nrules: [{name: a, on: [waits], after: 0s, to: [a]}]\n"))
	s = startTLS(t, append(environment, "DATA_DIR="+t.TempDir(), "DATA_MAX_BYTES=1GiB", "TOKENS_FILE="+tokens, "NOTIFY_FILE="+rules,
		"MAX_SESSIONS=100000", "TEAM_SHARE=0.001")...)
	require.Eventually(t, func() bool { return s.do(t, "GET", "/health/ready", "").Code == http.StatusOK }, time.Minute, 10*time.Millisecond)
	var team strings.Builder
	for i := range 100 { // its share of the sessions
		fmt.Fprintf(&team, ",%s", reportOf("team/a", fmt.Sprint(i), "running"))
	}
	require.Equal(t, http.StatusOK, s.do(t, "POST", "/webhook/status", "["+team.String()[1:]+"]", holders["team"].Header()...).Code)
	return s, holders
}

// follow follows the changes until ctx is done, as a dashboard does.
func follow(ctx context.Context, s encrypted, holder accesstest.Holder) {
	r := must(http.NewRequestWithContext(ctx, "GET", "https://"+s.address+"/api/events", nil))
	r.Header.Set("Authorization", "Bearer "+holder.Token)
	resp, err := s.client.Do(r)
	if err != nil {
		return // the query of the subscribers' metrics fails the test
	}
	defer resp.Body.Close()        //nolint:errcheck // it ends with ctx
	io.Copy(io.Discard, resp.Body) //nolint:errcheck // it ends with ctx
}

// play lets the demo's agents work until ctx is done, at fifty events a second, and a person read. One request in fifty
// has no token.
func play(ctx context.Context, t *testing.T, s encrypted, holders map[string]accesstest.Holder) {
	day := workday.New(1, time.Now())
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	send := func(method, path, body string, header ...string) {
		r := must(http.NewRequestWithContext(ctx, method, "https://"+s.address+path, strings.NewReader(body)))
		for _, line := range header {
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Set(name, value)
		}
		resp, err := s.client.Do(r)
		if err != nil {
			return // ctx is done, or the queries fail the test
		}
		io.Copy(io.Discard, resp.Body) //nolint:errcheck // only the server's metrics matter
		resp.Body.Close()              //nolint:errcheck // it was read to the end
	}
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		e := day.Next()
		send("POST", e.Path, string(e.Body), append(holders["reports"].Header(), "X-Agent-Host: "+e.Host)...)
		send("GET", "/api/sessions?limit=10", "", holders["reads"].Header()...)
		if i%25 == 0 {
			send("GET", "/api/sessions", "")
		}
	}
}

// withoutAlerts returns the queries that return data on a healthy server. Instead of an alert, which returns none, these
// are the series that it looks at, with the same matchers.
func withoutAlerts(t *testing.T) map[string]string {
	t.Helper()
	all := queries(t)
	_, alerts := rules(t)
	for _, alert := range alerts {
		delete(all, "alert "+alert.Alert)
		series := regexp.MustCompile(`\b(kubeagents[a-z0-9_:]+|up)\b(\{[^}]*\})?`).FindAllString(alert.Expr, -1)
		require.NotEmpty(t, series, alert.Alert)
		for _, selector := range series {
			all["alert "+alert.Alert+" "+selector] = selector
		}
	}
	return all
}

// prometheus is a running Prometheus.
type prometheus struct{ address string }

// startPrometheus starts a Prometheus as the manual says, except that it scrapes this server every second.
func startPrometheus(t *testing.T, s encrypted, holder accesstest.Holder) prometheus {
	t.Helper()
	var config map[string]any
	for _, b := range blocksOf(manual(t)[runbook]) {
		if b.language == "yaml" {
			require.NoError(t, yaml.Unmarshal([]byte(b.code), &config))
		}
	}
	dir := t.TempDir()
	path, err := filepath.Abs(rulesFile)
	require.NoError(t, err)
	require.Equal(t, []any{filepath.Base(rulesFile)}, config["rule_files"])
	config["rule_files"] = []string{path}
	config["global"] = map[string]string{"scrape_interval": "1s", "evaluation_interval": "1s"}
	job := config["scrape_configs"].([]any)[0].(map[string]any)
	job["tls_config"] = map[string]string{"ca_file": s.caFile}
	job["static_configs"].([]any)[0].(map[string]any)["targets"] = []string{s.address}
	job["authorization"].(map[string]any)["credentials_file"] = writeFile(t, filepath.Join(dir, "token"), []byte(holder.Token+"\n"))
	text, err := yaml.Marshal(config)
	require.NoError(t, err)
	_, stderr := startReceiver(t, "prometheus", "--config.file="+writeFile(t, filepath.Join(dir, "prometheus.yml"), text),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")
	p := prometheus{addressIn(t, stderr)}
	require.Eventually(t, func() bool {
		return responseTo(must(http.NewRequest("GET", "http://"+p.address+"/-/ready", nil))).Code == http.StatusOK
	}, 30*time.Second, 10*time.Millisecond)
	return p
}

// get decodes the data of a response of the API into a value.
func (p prometheus) get(t *testing.T, path string, into any) {
	t.Helper()
	w := responseTo(must(http.NewRequestWithContext(t.Context(), "GET", "http://"+p.address+path, nil)))
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer), "%s: %s", path, w.Body)
	require.Equal(t, "success", answer.Status, "%s: %s", path, answer.Error)
	require.NoError(t, json.Unmarshal(answer.Data, into), path)
}

// query returns the values that a query of the rules or the dashboard has now.
func (p prometheus) query(t *testing.T, query string) (values []float64) {
	t.Helper()
	query = strings.NewReplacer("$job", "kubeagents", "$instance", ".*", "$__rate_interval", "10s").Replace(query)
	var data struct {
		Result []struct{ Value [2]any }
	}
	p.get(t, "/api/v1/query?"+url.Values{"query": {query}}.Encode(), &data)
	for _, series := range data.Result {
		value, err := strconv.ParseFloat(series.Value[1].(string), 64)
		require.NoError(t, err, query)
		values = append(values, value)
	}
	return values
}

// requireData requires that each query returns a number, within two minutes.
func (p prometheus) requireData(t *testing.T, queries map[string]string) {
	t.Helper()
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for range 120 {
		maps.DeleteFunc(queries, func(_, query string) bool { return slices.ContainsFunc(p.query(t, query), isNumber) })
		if len(queries) == 0 {
			return
		}
		<-every.C
	}
	require.Empty(t, queries, "these queries return no data")
}

func isNumber(value float64) bool { return !math.IsNaN(value) && !math.IsInf(value, 0) }

// requireHealthyRules requires that all rules were evaluated without an error, and that the last scrape succeeded.
func (p prometheus) requireHealthyRules(t *testing.T) {
	t.Helper()
	var loaded struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	p.get(t, "/api/v1/rules", &loaded)
	records, alerts := rules(t)
	count := 0
	for _, group := range loaded.Groups {
		for _, r := range group.Rules {
			require.Equal(t, "ok", r.Health, "%s: %s", r.Name, r.LastError)
			count++
		}
	}
	require.Equal(t, len(records)+len(alerts), count)
	var targets struct {
		ActiveTargets []struct{ Health, LastError string }
	}
	p.get(t, "/api/v1/targets", &targets)
	require.Len(t, targets.ActiveTargets, 1)
	require.Equal(t, "up", targets.ActiveTargets[0].Health, targets.ActiveTargets[0].LastError)
	jobs := []string{}
	p.get(t, "/api/v1/label/job/values?match[]=kubeagents_build_info", &jobs)
	require.Equal(t, []string{"kubeagents"}, jobs, "what the dashboard's variables offer")
}
