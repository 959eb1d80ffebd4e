//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
)

// chartVariable is the environment variable that turns on the tests of the chart that need Helm. If it is "write", they
// also write the files that are held equal to what the chart renders, and the copies in it: make manifests.
const chartVariable = "KUBEAGENTS_CHART"

const chartDir = root + "/deploy/chart"

// TestChartCopies compares the files in the chart with those that they are copies of. A chart can't contain files of
// other folders.
func TestChartCopies(t *testing.T) {
	for path, original := range map[string]string{
		"kubeagents.rules.yaml": "prometheus/kubeagents.rules.yaml",
		"kubeagents.json":       "grafana/kubeagents.json",
	} {
		requireFile(t, filepath.Join(chartDir, "files", path), readFile(t, filepath.Join(root, "deploy", original)))
	}
}

// TestChartKnowsEverySetting compares the settings that the chart accepts with those of the server.
func TestChartKnowsEverySetting(t *testing.T) {
	var schema struct {
		Properties struct {
			Settings struct {
				AdditionalProperties *bool
				Properties           map[string]struct{ Description string }
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(readFile(t, chartDir+"/values.schema.json")), &schema))
	got, want := map[string]string{}, map[string]string{}
	for name, property := range schema.Properties.Settings.Properties {
		got[name] = property.Description
	}
	for field := range reflect.TypeFor[config.Config]().Fields() {
		want[field.Tag.Get("env")] = field.Tag.Get("allowed")
	}
	require.Equal(t, want, got, "settings in values.schema.json")
	require.NotNil(t, schema.Properties.Settings.AdditionalProperties)
	require.False(t, *schema.Properties.Settings.AdditionalProperties)
}

// TestChartKnowsTheWatcher compares the settings of the watcher that the chart accepts or sets with those that the watcher
// knows, and the Lease that its role is about with the one that it uses. The watcher is a module of its own.
func TestChartKnowsTheWatcher(t *testing.T) {
	var schema map[string]any
	require.NoError(t, json.Unmarshal([]byte(readFile(t, chartDir+"/values.schema.json")), &schema))
	template := readFile(t, chartDir+"/templates/watcher.yaml")
	known := map[string]bool{}
	for _, match := range regexp.MustCompile(`env:"(\w+)`).FindAllStringSubmatch(readFile(t, root+"/deploy/watcher/settings.go"), -1) {
		known[match[1]] = true
	}
	require.Contains(t, known, "KUBEAGENTS_SERVER")
	for name := range at[map[string]any](schema, "properties", "watcher", "properties", "settings", "properties") {
		require.Contains(t, known, name, "values.schema.json")
	}
	set := regexp.MustCompile(`(?:- name: |dict |\$settings |\) )"?([A-Z]+(?:_[A-Z]+)*)"? ?`).FindAllStringSubmatch(template, -1)
	require.NotEmpty(t, set)
	for _, match := range set {
		if match[1] != "SSL_CERT_DIR" { // of Go itself
			require.Contains(t, known, match[1], "templates/watcher.yaml")
		}
	}
	lease := regexp.MustCompile(`leaseName += "(.+)"`).FindStringSubmatch(readFile(t, root+"/deploy/watcher/main.go"))
	require.NotNil(t, lease)
	require.Contains(t, template, "resourceNames: ["+lease[1]+"]")
}

// TestChartValuesAreDocumented checks that each value has a comment in values.yaml, a place in the schema, and a row in the
// README's table.
func TestChartValuesAreDocumented(t *testing.T) {
	values := chartValues(t)
	var table strings.Builder
	table.WriteString("| value | default | what it sets |\n| --- | --- | --- |\n")
	for _, value := range values {
		text := "–"
		if inner, ok := value.value.(map[string]any); value.value != nil && value.value != "" && (!ok || len(inner) > 0) {
			encoded, err := json.Marshal(value.value)
			require.NoError(t, err)
			text = "`" + strings.Trim(string(encoded), `"`) + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", value.path, text, strings.ReplaceAll(value.comment, "|", `\|`))
	}
	readme := readFile(t, chartDir+"/README.md")
	begin, end := strings.Index(readme, "| value |"), strings.LastIndex(readme, "|\n")+2
	require.Positive(t, begin)
	requireFile(t, chartDir+"/README.md", readme[:begin]+table.String()+readme[end:])
}

// TestChartSchemaKnowsEveryValue compares the names of values in values.yaml with those in the schema, in both directions.
func TestChartSchemaKnowsEveryValue(t *testing.T) {
	var schema map[string]any
	require.NoError(t, json.Unmarshal([]byte(readFile(t, chartDir+"/values.schema.json")), &schema))
	inSchema := slices.DeleteFunc(leaves(schema, ""), func(path string) bool {
		return path == "global" || path == "enabled" // only for a chart that has this one as a dependency
	})
	var inValues []string
	for _, value := range chartValues(t) {
		inValues = append(inValues, value.path)
	}
	for _, path := range inSchema {
		assert.True(t, slices.ContainsFunc(inValues, func(value string) bool {
			return path == value || strings.HasPrefix(path, value+".") || value == path+"."
		}), "%s is in values.schema.json, but not in values.yaml", path)
	}
	for _, path := range inValues {
		assert.True(t, slices.ContainsFunc(inSchema, func(leaf string) bool {
			return leaf == path || strings.HasPrefix(leaf, path+".") || strings.HasPrefix(path, leaf+".")
		}),
			"%s is in values.yaml, but not in values.schema.json", path)
	}
}

// leaves returns the paths of the properties in a schema that have no properties of their own.
func leaves(schema map[string]any, path string) (paths []string) {
	properties, _ := schema["properties"].(map[string]any)
	if len(properties) == 0 || path == "settings" || path == "watcher.settings" {
		return []string{path}
	}
	for name, property := range properties {
		paths = append(paths, leaves(property.(map[string]any), strings.TrimPrefix(path+"."+name, "."))...)
	}
	return paths
}

// chartValue is a value of values.yaml that has a comment.
type chartValue struct {
	path, comment string
	value         any
}

// chartValues returns the values in values.yaml that have a comment, in their order. Every value must have one, or be in
// one that has one.
func chartValues(t *testing.T) (values []chartValue) {
	t.Helper()
	text := readFile(t, chartDir+"/values.yaml")
	var tree map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(text), &tree))
	var path []string
	var comment, covered string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "# -- "):
			comment = trimmed[len("# -- "):]
			continue
		case strings.HasPrefix(trimmed, "# "):
			if comment != "" {
				comment += " " + trimmed[len("# "):]
			}
			continue
		case trimmed == "":
			comment = ""
			continue
		}
		key, rest, isKey := strings.Cut(trimmed, ":")
		depth := (len(line) - len(trimmed)) / 2
		require.True(t, isKey, line)
		path = append(path[:depth], key)
		name := strings.Join(path, ".")
		if comment != "" {
			values = append(values, chartValue{name, comment, lookUp(tree, path)})
			comment, covered = "", name
			continue
		}
		if strings.TrimSpace(rest) != "" {
			require.True(t, strings.HasPrefix(name, covered+"."), "%s has no comment that begins with --", name)
		}
	}
	return values
}

func lookUp(tree any, path []string) any {
	for _, name := range path {
		tree = tree.(map[string]any)[name]
	}
	return tree
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// requireFile requires that a file has a text, after it has been written, if that is wanted.
func requireFile(t testing.TB, path, want string) {
	t.Helper()
	if os.Getenv(chartVariable) == "write" {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
	}
	require.Equal(t, want, readFile(t, path), "%s: make manifests writes it", path)
}
