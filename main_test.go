package main

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/adapters"
	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/command"
	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/internal/datadir"
	"github.com/kubeagents/kubeagents/internal/devices"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/live"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/internal/servertest"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// wiring is what the tests of the whole server put together: see package servertest.
var wiring = servertest.Wiring{Router: router, OpenAccess: openAccess, NewServer: newServer, Replay: replay, Replicate: replicate}

// replicate puts together what is particular to a server of a cluster.
func replicate(member *cluster.Member, st *store.Store, m *metrics.Metrics, logger *slog.Logger) (servertest.Replica, error) {
	a := &app{logger: logger, store: st, metrics: m, journal: member.Journal, member: member, cfg: config.Config{HistoryRetention: 168 * time.Hour}}
	a.recorder = recorder.NewShared(st, a.journal, member.Log(st, m, a.applied))
	var err error
	a.notifier, _, err = a.openNotifier()
	return servertest.Replica{Recorder: a.recorder, Notifier: a.notifier, SetDevices: func(d *devices.Registry) { a.devices = d },
		CatchUp: a.catchUp, Lead: a.lead}, err
}

// TestServer runs the tests of package servertest with this program's wiring.
func TestServer(t *testing.T) { servertest.Run(t, wiring) }

// BenchmarkReads measures what reads cost in a large fleet and in a small one.
func BenchmarkReads(b *testing.B) { wiring.BenchmarkReads(b) }

// BenchmarkWaitingReads measures what reads of sessions that wait cost if many wait, and if few do.
func BenchmarkWaitingReads(b *testing.B) { wiring.BenchmarkWaitingReads(b) }

// BenchmarkTeamReads measures what reads with a limited token cost in a large fleet and in a small one.
func BenchmarkTeamReads(b *testing.B) { wiring.BenchmarkTeamReads(b) }

// TestRun checks the exit status for a command that succeeds, and for settings that are invalid or name something that
// can't be used. If a restart could help, it must be another one.
func TestRun(t *testing.T) {
	var out, errOut bytes.Buffer
	require.Equal(t, command.ExitOK, run(t.Context(), []string{"version"}, nil, nil, &out, &errOut))
	require.NotEmpty(t, out.String())

	dir := t.TempDir()
	file, shared, used := filepath.Join(dir, "file"), filepath.Join(dir, "shared"), filepath.Join(dir, "used")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.Mkdir(shared, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(shared, datadir.Folder), nil, 0o600))
	j, err := journal.Open(journal.Options{Dir: used, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer j.Close() //nolint:errcheck // the test is over
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close() //nolint:errcheck // the test is over
	_, port, err := net.SplitHostPort(taken.Addr().String())
	require.NoError(t, err)
	for _, test := range []struct {
		setting, value string
		status         int
		want           string
	}{
		{"PORT", "http", command.ExitUsage, "PORT is"},
		{"HOST", "203.0.113.1", command.ExitUsage, "203.0.113.1 is not an address of this machine"},
		{"PORT", port, command.ExitFailure, "is in use by another program"},
		{"TOKENS_FILE", filepath.Join(dir, "none"), command.ExitUsage, "TOKENS_FILE: open"},
		{"DATA_DIR", file, command.ExitUsage, "is a file or has one in its path"},
		{"DATA_DIR", filepath.Join(file, "data"), command.ExitUsage, "is a file or has one in its path"},
		{"DATA_DIR", shared, command.ExitUsage, "is not a directory: remove it, or set DATA_DIR"},
		{"DATA_DIR", used, command.ExitFailure, "lock DATA_DIR"},
	} {
		errOut.Reset()
		environment := map[string]string{"HOST": "127.0.0.1", "PORT": "0"}
		environment[test.setting] = test.value
		require.Equal(t, test.status, run(t.Context(), nil, environment, nil, &out, &errOut), "%s=%s: %s", test.setting, test.value, &errOut)
		require.Contains(t, errOut.String(), test.want)
	}
}

// whenWritten is a log that calls act as soon as something that is written to it contains text.
type whenWritten struct {
	text string
	act  func()
}

func (w whenWritten) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		w.act()
	}
	return len(p), nil
}

// TestStopWhileJoining tells the server to stop while it still tries to reach NATS: that is no failure.
func TestStopWhileJoining(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, free.Close()) // nobody listens there
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	log := whenWritten{"can't join its cluster yet", stop}
	environment := map[string]string{"HOST": "127.0.0.1", "PORT": "0", "DATA_DIR": t.TempDir(), "NATS_URL": "nats://" + free.Addr().String()}
	require.Equal(t, command.ExitOK, run(ctx, nil, environment, nil, log, log))
	require.Error(t, ctx.Err(), "the server ended before it was told to")
}

// TestBudgetsHaveTheirSettings checks which setting limits the memory of responses and which that of request bodies, and
// that each gauge measures the right one.
func TestBudgetsHaveTheirSettings(t *testing.T) {
	cfg, err := config.Load(map[string]string{"ANSWERS_MAX_BYTES": "17MiB", "BODIES_MAX_BYTES": "18MiB"})
	require.NoError(t, err)
	logger := slog.New(slog.DiscardHandler)
	a, err := assemble(t.Context(), cfg, logger, logger)
	require.NoError(t, err)
	require.EqualValues(t, 17<<20, a.handler.Responses.Bound())
	require.EqualValues(t, 18<<20, a.handler.Bodies.Bound())

	everyone := store.Share{Fraction: 1}
	answer, body := a.handler.Responses.For(nil, everyone), a.handler.Bodies.For(nil, everyone)
	require.NoError(t, answer.Reserve(t.Context(), 1000))
	require.NoError(t, body.Reserve(t.Context(), 2000))
	w := httptest.NewRecorder()
	a.metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, map[string]bool{"answers_bytes 1000": true, "bodies_bytes 2000": true}, matches(`(?m)^kubeagents_((?:answers|bodies)_bytes .*)$`, w.Body.String()))
}

// TestGaugesOfTheServer checks that the metrics show the settings' limits, and whether the server is ready.
func TestGaugesOfTheServer(t *testing.T) {
	settings := map[string]string{"DATA_DIR": t.TempDir(), "DATA_MAX_BYTES": "300MiB", "HISTORY_MAX_BYTES": "3MiB", "MAX_SESSIONS": "7",
		"MAX_SUBSCRIBERS": "8", "MAX_IN_FLIGHT": "0", "ANSWERS_MAX_BYTES": "17MiB", "BODIES_MAX_BYTES": "18MiB"}
	cfg, err := config.Load(settings)
	require.NoError(t, err)
	logger := slog.New(slog.DiscardHandler)
	a, err := assemble(t.Context(), cfg, logger, logger)
	require.NoError(t, err)
	gauges := func() map[string]bool {
		w := httptest.NewRecorder()
		a.metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return matches(`(?m)^kubeagents_((?:ready|limit).*)$`, w.Body.String())
	}
	limits := []string{`{setting="DATA_MAX_BYTES"} 3.145728e+08`, `{setting="HISTORY_MAX_BYTES"} 3.145728e+06`, `{setting="MAX_SESSIONS"} 7`,
		`{setting="MAX_SUBSCRIBERS"} 8`, `{setting="ANSWERS_MAX_BYTES"} 1.7825792e+07`, `{setting="BODIES_MAX_BYTES"} 1.8874368e+07`}
	want := map[string]bool{"ready 0": true}
	for _, limit := range limits {
		want["limit"+limit] = true
	}
	require.Equal(t, want, gauges(), "the journal has not been read")
	a.handler.SetReady()
	require.True(t, gauges()["ready 1"])
	a.handler.Drain()
	require.True(t, gauges()["ready 0"])
	require.NoError(t, a.journal.Close())
}

// TestJobs runs the server's background jobs on a journal for ten minutes, and then lets it crash. The use of the disk
// must be measured. A session that was lost while the server was running must still be lost after the restart, although
// no expiry run has seen it.
func TestJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, logger := vfs.NewCrashableMem(), slog.New(slog.DiscardHandler)
		opts := store.Options{DefaultTTL: 5 * time.Minute, SessionRetention: time.Hour, HistoryLimit: 100, HistoryMaxBytes: 64 << 20,
			MaxSessions: 10, EventWindow: 100, DataMaxBytes: 256 << 20, Journaled: true}
		open := func(fs vfs.FS) (*journal.Journal, *store.Store) {
			st := store.New(opts)
			j, err := journal.Open(journal.Options{Dir: "data", FS: fs, Logger: logger})
			require.NoError(t, err)
			require.NoError(t, replay(t.Context(), j, st, config.Config{HistoryLimit: opts.HistoryLimit}, logger))
			return j, st
		}
		j, st := open(fs)
		m := metrics.New(st, "test")
		a := &app{logger: logger, store: st, metrics: m, journal: j, recorder: recorder.New(st, j, m),
			hub: live.New(st, m, live.Options{MaxSubscribers: 1, QueueSize: 10}),
			cfg: config.Config{ExpiryInterval: time.Hour, HistoryRetention: time.Hour, DataDir: filepath.Join(t.TempDir(), "none")}} // without a control socket, which would stop the clock
		var err error
		a.notifier, _, err = a.openNotifier()
		require.NoError(t, err)
		report := func() store.Outcome {
			outcomes, err := a.recorder.Accept(nil, []models.StatusReport{{AgentID: "a", SessionTopic: "t", Status: models.Running}}, time.Now(), nil)
			require.NoError(t, err)
			return outcomes[0]
		}
		st.SetDiskUse(store.DiskUse{Total: opts.DataMaxBytes})
		require.Equal(t, store.OutOfDisk, report())

		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for _, job := range a.jobs() {
			running.Go(func() { job(ctx) })
		}
		synctest.Wait()
		require.Equal(t, store.Stored, report(), "the use of the disk is measured at once")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		crashed := fs.CrashClone(vfs.CrashCloneCfg{})
		stop()
		running.Wait()
		require.NoError(t, j.Close())

		time.Sleep(time.Minute)
		j, st = open(crashed)
		require.Equal(t, 1, st.Summary().Sessions.Lost, "its TTL ran out while the server was running")
		require.NoError(t, j.Close())
	})
}

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
	st := store.New(store.Options{})
	m := metrics.New(st, "test")
	routes := map[string]bool{}
	require.NoError(t, chi.Walk(router(handlers.New(handlers.Options{Store: st, Metrics: m}), m, config.Config{}).(chi.Routes), func(_, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
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

// TestManualListsEveryClient compares the tools that the server supports with those in openapi.yaml and in the manual.
func TestManualListsEveryClient(t *testing.T) {
	contract, err := openapi3.NewLoader().LoadFromData(handlers.OpenAPISpec)
	require.NoError(t, err)
	for path, names := range map[string][]string{"/webhook/{client}": adapters.Names(), "/connect/{client}": connect.Names()} {
		for method, operation := range contract.Paths.Value(path).Operations() {
			var listed []string
			for _, name := range operation.Parameters.GetByInAndName("path", "client").Schema.Value.Enum {
				listed = append(listed, name.(string))
			}
			require.Equal(t, names, listed, "handlers/openapi.yaml, the parameter client of %s %s", method, path)
		}
	}

	api := readPage(t, "docs/api.md")
	row := regexp.MustCompile("(?m)^\\| `POST /webhook/\\{client\\}` \\|[^:]*: (.*) \\|$").FindStringSubmatch(api)
	require.Len(t, row, 2, "docs/api.md has no row for POST /webhook/{client}")
	require.ElementsMatch(t, adapters.Names(), strings.Split(strings.NewReplacer("`", "", " or ", ", ").Replace(row[1]), ", "), "docs/api.md, POST /webhook/{client}")
	for _, c := range connect.Clients {
		if c.Since == "" {
			continue
		}
		for _, path := range []string{"README.md", "docs/connect.md"} {
			require.Contains(t, readPage(t, path), "| "+c.Title+" | "+c.Since+" ", "%s lacks this tool and its minimum version", path)
		}
	}
}

// TestManualListsEveryCommand compares the program's commands and exit statuses with those in docs/settings.md.
func TestManualListsEveryCommand(t *testing.T) {
	var help bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"help"}, nil, nil, &help, &help))
	page := section(readPage(t, "docs/settings.md"), "## Command line")
	commands := matches(`(?m)^  (\w+( [A-Z]+| \[[A-Z]+\.\.\.\])?)  `, help.String())
	commands["help"], commands["help COMMAND"] = true, true // the help does not list itself
	require.Equal(t, commands, matches("`kubeagents (\\w+(?: [A-Z]+| \\[[A-Z]+\\.\\.\\.\\])?)`", page))

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

// TestSharedSettingsAreSettings holds the settings that servers of a cluster must share to the configuration and to the
// page that lists them.
func TestSharedSettingsAreSettings(t *testing.T) {
	cfg, err := config.Load(map[string]string{"DEFAULT_TTL_MINUTES": "7", "SESSION_RETENTION": "90m"})
	require.NoError(t, err)
	shared := sharedSettings(cfg)
	names := map[string]bool{}
	for field := range reflect.TypeFor[config.Config]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
		names[name] = true
	}
	page, err := os.ReadFile("docs/scale.md")
	require.NoError(t, err)
	_, section, _ := strings.Cut(string(page), "## Change settings")
	section, _, _ = strings.Cut(section, "## ")
	for name := range shared {
		require.True(t, names[name], name)
		require.Contains(t, section, "`"+name+"`")
	}
	lifetimes, ok := shared.Lifetimes()
	require.True(t, ok)
	require.Equal(t, store.Lifetimes{DefaultTTL: 7 * time.Minute, SessionRetention: 90 * time.Minute}, lifetimes)
}
