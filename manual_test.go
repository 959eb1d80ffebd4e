package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
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

// matches returns the first group of each match of a pattern.
func matches(pattern, text string) map[string]bool {
	all := map[string]bool{}
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		all[match[1]] = true
	}
	return all
}

// section returns the text of a page between a heading and the next heading of the same level.
func section(text, heading string) string {
	_, text, _ = strings.Cut("\n"+text, "\n"+heading+"\n")
	level, _, _ := strings.Cut(heading, " ")
	text, _, _ = strings.Cut(text, "\n"+level+" ")
	return text
}

func readPage(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// TestManualListsEveryRoute compares the routes in the router with the tables of routes in the manual.
func TestManualListsEveryRoute(t *testing.T) {
	routes := map[string]bool{}
	require.NoError(t, chi.Walk(newTestServer(t, nil).Handler.(chi.Routes), func(_, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routes[strings.TrimSuffix(route, "*")] = true
		return nil
	}))
	const route = "`(?:[A-Z]+ )?(/[a-z{][^`… ]*|/)…?`"
	var rows strings.Builder
	for line := range strings.Lines(readPage(t, "docs/api.md")) {
		if regexp.MustCompile("^\\| `[A-Z]+ /").MatchString(line) {
			rows.WriteString(line)
		}
	}
	require.Equal(t, routes, matches(route, rows.String()), "the table of docs/api.md")
	for named := range matches(route, section(readPage(t, "README.md"), "## Endpoints")) {
		require.True(t, routes[named], "the README names %s, which is not a route", named)
	}
}

// TestManualListsOnlySettings checks that every setting in the manual's tables exists. A test of the package config
// checks that docs/settings.md lists every setting, with its default and its allowed values.
func TestManualListsOnlySettings(t *testing.T) {
	settings := map[string]bool{}
	for field := range reflect.TypeFor[config.Config]().Fields() {
		settings[field.Tag.Get("env")] = true
	}
	table := section(readPage(t, "README.md"), "## Environment Variables") + section(readPage(t, "docs/settings.md"), "# Settings")
	for named := range matches("(?m)^\\| `([A-Z_]+)`", table) {
		require.True(t, settings[named], "%s is not a setting", named)
	}
}

// TestManualListsEveryCommand compares the program's commands and exit statuses with those in docs/settings.md.
func TestManualListsEveryCommand(t *testing.T) {
	var help bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"help"}, nil, &help, &help))
	page := section(readPage(t, "docs/settings.md"), "## Command line")
	commands := matches(`(?m)^  (\w+( [A-Z]+)?)  `, help.String())
	commands["help"], commands["help COMMAND"] = true, true // the help does not list itself
	require.Equal(t, commands, matches("`kubeagents (\\w+(?: [A-Z]+)?)`", page))

	file, err := parser.ParseFile(token.NewFileSet(), "internal/command/command.go", nil, 0)
	require.NoError(t, err)
	statuses := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Exit") {
			statuses[spec.Values[0].(*ast.BasicLit).Value] = true
		}
		return true
	})
	require.Equal(t, statuses, matches("(?m)^\\| `(\\d+)` \\|", page))
}
