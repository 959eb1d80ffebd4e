package main

import (
	"bytes"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
)

// TestTheManualNamesWhatThereIs holds that routes, metrics, settings and commands are in the manual, and that it names no others.
func TestTheManualNamesWhatThereIs(t *testing.T) {
	pages := map[string]string{}
	for _, path := range []string{"README.md", "docs/api.md", "docs/operate.md", "docs/settings.md"} {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		pages[path] = string(text)
	}
	s := newTestServer(t, nil)
	api := pages["docs/api.md"]
	require.NoError(t, chi.Walk(s.Handler.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		switch route {
		case "/assets/*", "/debug/pprof/*":
			route = strings.TrimSuffix(route, "*")
		}
		require.Contains(t, api, route, "docs/api.md lacks %s %s", method, route)
		return nil
	}))

	scraped := s.ask(http.MethodGet, "/metrics", "").Body.String()
	var metrics []string
	for _, found := range regexp.MustCompile(`(?m)^# TYPE (kubeagents_\w+) `).FindAllStringSubmatch(scraped, -1) {
		metrics = append(metrics, found[1])
		require.Contains(t, pages["docs/operate.md"], "`"+found[1], "docs/operate.md lacks a metric")
	}
	require.Greater(t, len(metrics), 15)

	settings := map[string]bool{}
	for field := range reflect.TypeFor[config.Config]().Fields() {
		settings[field.Tag.Get("env")] = true
	}
	_, table, _ := strings.Cut(pages["README.md"], "## Environment Variables")
	table, _, _ = strings.Cut(table, "\n## ")
	for _, found := range regexp.MustCompile("`([A-Z]+_[A-Z_]+|PORT|HOST)`").FindAllStringSubmatch(table, -1) {
		require.True(t, settings[found[1]], "the README has the setting %s, which does not exist", found[1])
	}

	var help bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"help"}, nil, &help, &help))
	for _, found := range regexp.MustCompile(`(?m)^  (\w+( [A-Z]+)?)  `).FindAllStringSubmatch(help.String(), -1) {
		require.Contains(t, pages["docs/settings.md"], "`kubeagents "+found[1]+"`", "docs/settings.md lacks a command")
	}
}
