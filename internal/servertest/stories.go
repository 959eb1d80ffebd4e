package servertest

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/natstest"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// story is what tools post, step by step, and what the server should show after the steps.
type story struct {
	Story string
	Steps []struct {
		Post    string
		Headers map[string]string
		Body    json.RawMessage
		Raw     string
		Expect  *expectation
	}
}

// expectation is what the server should show about the sessions with a topic.
type expectation struct {
	Topic      string
	Sessions   int
	Status     string
	StatusNot  []string `json:"status_not"`
	Message    string
	MessageNot string `json:"message_not"`
	TitleNot   string `json:"title_not"`
	AgentNot   string `json:"agent_not"`
	History    int
}

//go:embed testdata/stories
var stories embed.FS

// TestStories replays each story on its own, with every event sent twice, together with a second session of the same
// story, and with a restart after each step.
func (wiring Wiring) TestStories(t *testing.T) {
	for name, st := range readStories(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("alone", func(t *testing.T) { st.replay(t, wiring.newTestServer(t, nil), replayOptions{}) })
			t.Run("every event twice", func(t *testing.T) { st.replay(t, wiring.newTestServer(t, nil), replayOptions{times: 2}) })
			t.Run("with another session", func(t *testing.T) { st.replay(t, wiring.newTestServer(t, nil), replayOptions{others: 1}) })
			for i := range st.Steps {
				t.Run(fmt.Sprint("restarted after step ", i+1), func(t *testing.T) {
					fs := vfs.NewMem()
					s := wiring.startOn(t, fs)
					st.replay(t, s.server, replayOptions{restartAfter: i + 1, restart: func() *server {
						require.NoError(t, s.journal.Close())
						s = wiring.startOn(t, fs)
						return s.server
					}})
					require.NoError(t, s.journal.Close())
				})
			}
		})
	}
}

// TestStoriesOnThree is TestStories for three servers. The stories follow one another on the same servers, and the restart
// is that of one server, which is killed.
func (wiring Wiring) TestStoriesOnThree(t *testing.T) {
	wiring = wiring.onThree()
	all := readStories(t)
	replay := func(t *testing.T, options func(t *testing.T, st *story, tr *trio) []replayOptions) {
		synctest.Test(t, func(t *testing.T) {
			s := wiring.newTestServer(t, nil)
			first := 0 // session that no story has had
			for _, name := range slices.Sorted(maps.Keys(all)) {
				st := all[name]
				t.Log(name)
				for _, opts := range options(t, st, s.trio) {
					opts.first = first
					st.replay(t, s, opts)
					first += 1 + opts.others
				}
			}
		})
	}
	t.Run("alone", func(t *testing.T) {
		replay(t, func(*testing.T, *story, *trio) []replayOptions { return []replayOptions{{}} })
	})
	t.Run("every event twice", func(t *testing.T) {
		replay(t, func(*testing.T, *story, *trio) []replayOptions { return []replayOptions{{times: 2}} })
	})
	t.Run("with another session", func(t *testing.T) {
		replay(t, func(*testing.T, *story, *trio) []replayOptions { return []replayOptions{{others: 1}} })
	})
	t.Run("with a server that is killed", func(t *testing.T) {
		natstest.Long(t)
		replay(t, func(t *testing.T, st *story, tr *trio) (each []replayOptions) {
			for i := range st.Steps {
				each = append(each, replayOptions{restartAfter: i + 1, restart: func() *server {
					h := tr.hubs[i%3]
					h.kill()
					h.start(t, wiring)
					return tr.server
				}})
			}
			return each
		})
	})
}

// readStories returns the stories by their names.
func readStories(t *testing.T) map[string]*story {
	t.Helper()
	files, err := fs.Glob(stories, "testdata/stories/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	all := map[string]*story{}
	for _, file := range files {
		text, err := stories.ReadFile(file)
		require.NoError(t, err)
		st := &story{}
		require.NoError(t, json.Unmarshal(text, st))
		require.NotEmpty(t, st.Steps)
		all[strings.TrimSuffix(filepath.Base(file), ".json")] = st
	}
	return all
}

// replayOptions configure how a story is replayed.
type replayOptions struct {
	times        int // how often each event is sent; 0 for once
	first        int // number of the session
	others       int // number of other sessions with the same story at the same time
	restartAfter int // number of steps after which restart is called; 0 for never
	restart      func() *server
}

func (st *story) replay(t *testing.T, s *server, opts replayOptions) {
	for i, step := range st.Steps {
		for n := range 1 + opts.others {
			session := sessionText(opts.first + n)
			if step.Expect != nil {
				step.Expect.check(t, s, session)
				continue
			}
			body := session(string(step.Body) + step.Raw)
			times := max(1, opts.times)
			if strings.HasPrefix(step.Post, "/webhook/status") { // a report, not an event
				times = 1
			}
			var headers []string
			for name, value := range step.Headers {
				headers = append(headers, name+": "+value)
			}
			for range times {
				w := s.do("POST", step.Post, body, headers...)
				require.Equal(t, 200, w.Code, "%s: %s", body, w.Body)
			}
		}
		if opts.restartAfter == i+1 {
			s = opts.restart()
		}
	}
}

// sessionText returns a function that adapts texts of a story to its n-th session: it inserts the session's ID and the
// current time.
func sessionText(n int) func(text string) string {
	id := fmt.Sprintf("%08d-5c1e-4a5e-9d2b-3f1c5b7a9e00", n)
	return func(text string) string {
		text = regexp.MustCompile(`"S(-[a-z0-9]+)?"`).ReplaceAllString(text, `"`+id+`$1"`)
		text = strings.ReplaceAll(text, "{{now}}", time.Now().UTC().Format(time.RFC3339Nano))
		return strings.ReplaceAll(text, "{{now+4m}}", time.Now().Add(4*time.Minute).UTC().Format(time.RFC3339Nano))
	}
}

// check fails the test unless the server shows what e expects.
func (e *expectation) check(t *testing.T, s *server, session func(string) string) {
	t.Helper()
	topic := strings.Trim(session(`"`+e.Topic+`"`), `"`)
	var shown []models.FleetSession
	for _, se := range s.sessions(t, "limit=1000") {
		if se.Topic == topic {
			shown = append(shown, se)
		}
	}
	require.Len(t, shown, max(1, e.Sessions))
	se := shown[0]
	if e.Status != "" {
		require.Equal(t, e.Status, se.CurrentStatus.String(), "%+v", se)
	}
	require.NotContains(t, e.StatusNot, se.CurrentStatus.String(), "%+v", se)
	require.Contains(t, se.CurrentMessage, e.Message)
	for _, part := range []struct{ text, not string }{{se.CurrentMessage, e.MessageNot}, {se.Title, e.TitleNot}, {se.AgentID, e.AgentNot}} {
		if part.not != "" {
			require.NotContains(t, part.text, part.not)
		}
	}
	if e.History > 0 {
		require.Len(t, historyOf(t, s, se.Session).History, e.History)
	}
}

// journaledServer is a server with a journal.
type journaledServer struct {
	*server
	journal *journal.Journal
}

// startOn starts a server with a journal on fs.
func (wiring Wiring) startOn(t *testing.T, fs vfs.FS) journaledServer {
	t.Helper()
	j, err := journal.Open(journal.Options{Dir: "data", FS: fs})
	require.NoError(t, err)
	s := wiring.newGuardedServer(t, func(o *store.Options) { o.Journaled = true }, config.Config{}, func(p *handlers.Options) {
		p.Journal, p.Recorder = j, recorder.New(p.Store, j, p.Metrics)
	})
	require.NoError(t, j.Replay(t.Context(), s.store, 100, time.Now(), func(journal.Progress) {}))
	s.handlers.SetReady()
	return journaledServer{s, j}
}
