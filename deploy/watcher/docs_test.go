package main

import (
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubeagents/kubeagents/deploy/watcher/internal/report"
	"github.com/kubeagents/kubeagents/deploy/watcher/internal/watch"
)

// read returns a file of the repository.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

const manual = "../../docs/watcher.md"

// TestManualListsEverySetting compares the manual's table with the settings: names, defaults and allowed values.
func TestManualListsEverySetting(t *testing.T) {
	_, section, found := strings.Cut(read(t, manual), "# ")
	require.True(t, found)
	_, section, found = strings.Cut(section, "## Settings\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n#")
	var rows, want []string
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "| `") {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	for field := range reflect.TypeFor[settings]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
		value := field.Tag.Get("envDefault")
		if value != "" {
			value = " `" + value + "`"
		}
		want = append(want, fmt.Sprintf("| `%s` |%s | %s |", name, value, field.Tag.Get("allowed")))
	}
	require.Equal(t, want, rows)
}

// TestManualListsEveryMetric compares the manual with the metrics that the watcher exports.
func TestManualListsEveryMetric(t *testing.T) {
	m := newMetrics(watch.NewTracker(time.Minute, slog.New(slog.DiscardHandler)))
	m.lead(report.NewQueue(1))
	families, err := m.registry.Gather()
	require.NoError(t, err)
	var exported []string
	for _, family := range families {
		if strings.HasPrefix(family.GetName(), "kubeagents_watcher_") {
			exported = append(exported, family.GetName())
		}
	}
	require.Len(t, exported, 7)
	named := regexp.MustCompile(`kubeagents_watcher_\w+`).FindAllString(read(t, manual), -1)
	slices.Sort(named)
	require.Equal(t, exported, slices.Compact(named))
}

// TestTheChartGivesTheseRoles compares the rules with which the watcher is tested with those that the chart gives it.
func TestTheChartGivesTheseRoles(t *testing.T) {
	var tested struct{ Lease, Watch []rbacv1.PolicyRule }
	require.NoError(t, yaml.UnmarshalStrict([]byte(read(t, "testdata/roles.yaml")), &tested))
	var given [][]rbacv1.PolicyRule
	for _, block := range regexp.MustCompile(`(?m)^rules:\n((?:  .*\n)+)`).FindAllStringSubmatch(read(t, "../chart/templates/watcher.yaml"), -1) {
		var rules []rbacv1.PolicyRule
		require.NoError(t, yaml.UnmarshalStrict([]byte(block[1]), &rules))
		given = append(given, rules)
	}
	require.Equal(t, [][]rbacv1.PolicyRule{tested.Lease, tested.Watch}, given)
}
