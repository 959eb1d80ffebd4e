package servertest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/natstest"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// seedVariable is the environment variable with the seed by which requests are spread.
const seedVariable = "KUBEAGENTS_SPREAD_SEED"

// onThree returns a wiring that starts three servers of a cluster where it would start one server without a journal. Tests
// are then the same but for what docs/scale.md says is particular to each server. They must run in a bubble of synctest,
// and not in parallel.
func (wiring Wiring) onThree() Wiring {
	wiring.three = true
	return wiring
}

// inBubble runs a test in a bubble of synctest if its servers need one.
func (wiring Wiring) inBubble(t *testing.T, test func(t *testing.T)) {
	if wiring.three {
		synctest.Test(t, test)
		return
	}
	test(t)
}

// trio is three servers of a cluster, on a real NATS server, in a bubble of synctest.
type trio struct {
	*server // whose handler spreads the requests
	bubble  *natstest.Bubble
	hubs    []*hub
	reader  func() []string // the header of a client that may read everything; nil without tokens

	configure func(*hub) // called before a server that starts again runs; nil for nothing

	mu     sync.Mutex // guards what follows
	random *rand.Rand
	after  string // the last position that a response had
	only   *hub   // gets all requests; nil to spread them
}

// hub is one server of a trio.
type hub struct {
	*server // nil while it does not run
	trio    *trio
	name    string
	opts    store.Options
	cfg     config.Config
	change  func(*handlers.Options)

	line *natstest.Line
	fs   *vfs.MemFS
	life *life
	end  func() // of its life
}

// life lasts until a server is stopped or killed.
type life struct{ over atomic.Bool }

func (wiring Wiring) newTrio(t testing.TB, opts store.Options, cfg config.Config, change func(*handlers.Options)) *trio {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("%s=%d repeats which server got which request", seedVariable, seed)
	tr := &trio{bubble: natstest.StartInBubble(t), random: rand.New(rand.NewPCG(seed, 0))}
	opts.Journaled, opts.Replicated = true, true
	for i := range 3 {
		h := &hub{trio: tr, name: fmt.Sprint("hub-", i), opts: opts, cfg: cfg, change: change, fs: vfs.NewCrashableMem(), end: func() {}}
		tr.hubs = append(tr.hubs, h)
		t.Cleanup(func() { h.end() })
		h.start(t, wiring)
	}
	tr.server = &server{handlers: tr.hubs[0].handlers, trio: tr, Handler: tr}
	tr.awaitHolder(t)
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // simulated
	t.Cleanup(func() {
		if !t.Failed() {
			tr.requireSame(t)
		}
	})
	return tr
}

// start starts a server with what its file system has.
func (h *hub) start(t testing.TB, wiring Wiring) {
	t.Helper()
	h.line, h.life = h.trio.bubble.Line(), &life{}
	logger := slog.New(slog.DiscardHandler)
	member, err := cluster.Join(t.Context(), cluster.MemberOptions{
		Settings: cluster.Settings{URLs: []string{natstest.BubbleURL}, Stream: "KUBEAGENTS", Replicas: 1, Dial: h.line.Dial},
		Server:   h.name, Version: "test", Encoding: journal.MessageVersion, DataDir: t.TempDir(), Stale: 15 * time.Second, Logger: logger,
		Open: func() (*journal.Journal, error) {
			return journal.Open(journal.Options{Dir: "data", FS: h.fs, Logger: logger})
		},
	})
	require.NoError(t, err)
	p := wiring.newParts(t, h.opts, h.cfg, member.StreamID())
	replica, err := wiring.Replicate(member, p.Store, p.Metrics, p.Logger)
	require.NoError(t, err)
	p.Journal, p.Cluster, p.Recorder, p.Notifier = member.Journal, member, replica.Recorder, replica.Notifier
	if p.Access.Tokens != nil {
		p.Access.SignIns = access.NewSharedSignIns(p.Access.Tokens, member.SignIns())
	}
	p.Devices = newDevices(t, &p, nil, browsers{&phone{}})
	h.change(&p)
	replica.SetDevices(p.Devices)
	h.server = wiring.assemble(p, h.cfg)
	require.NoError(t, member.Journal.Replay(t.Context(), p.Store, h.opts.HistoryLimit, time.Now(), func(journal.Progress) {}))
	h.handlers.SetReady()

	if h.trio.configure != nil {
		h.trio.configure(h)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	ended := make(chan error, 1)
	running.Go(func() { ended <- member.Run(ctx, p.Access.SignIns, replica.Lead) })
	running.Go(func() { replica.CatchUp(ctx) })
	h.end = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		h.life.over.Store(true)
		h.server = nil
		require.NoError(t, <-ended)
		require.NoError(t, member.Journal.Close())
	})
	for tries := 0; !h.handlers.IsReady(); tries++ {
		require.Less(t, tries, 600, "%s is not ready: %s", h.name, member.State().Cause)
		time.Sleep(100 * time.Millisecond) // simulated
	}
	synctest.Wait()
}

// kill ends a server as kill -9 does: nobody gets a word from it any more, and what it had not synced is lost.
func (h *hub) kill() {
	h.life.over.Store(true)
	h.line.Cut()
	crashed := h.fs.CrashClone(vfs.CrashCloneCfg{})
	h.end()
	h.fs = crashed
}

// holder returns the server that holds the lease, nil if none does.
func (tr *trio) holder() *hub {
	for _, h := range tr.hubs {
		if h.server != nil && h.handlers.Cluster.State().LeaseHolder == h.name && !h.handlers.Notifier.View(0, nil).Standby {
			return h
		}
	}
	return nil
}

// awaitHolder waits until a server acts for the cluster.
func (tr *trio) awaitHolder(t testing.TB) *hub {
	t.Helper()
	for range 600 {
		if h := tr.holder(); h != nil {
			return h
		}
		time.Sleep(100 * time.Millisecond) // simulated
		synctest.Wait()
	}
	require.Fail(t, "no server acts")
	return nil
}

// running returns the servers that run.
func (tr *trio) running() (running []*hub) {
	for _, h := range tr.hubs {
		if h.server != nil {
			running = append(running, h)
		}
	}
	return running
}

// ServeHTTP sends a request to a server at random. A read waits for the position of the last response. What is pending is
// known only to the server that sends notifications, so that one is asked.
func (tr *trio) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	running := tr.running()
	tr.mu.Lock()
	to, after := running[tr.random.IntN(len(running))], tr.after
	tr.mu.Unlock()
	if tr.only != nil {
		to = tr.only
	} else if holder := tr.holder(); r.URL.Path == "/api/notifications" && holder != nil {
		to = holder
	}
	query := r.URL.Query()
	if reads := r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/api/"); reads && after != "" && !query.Has("after") {
		r.URL.RawQuery = strings.TrimPrefix(r.URL.RawQuery+"&after="+after, "&")
	}
	to.ServeHTTP(w, r)
	if position := w.Header().Get("X-Position"); position != "" {
		tr.mu.Lock()
		tr.after = position
		tr.mu.Unlock()
	}
}

// unspread has one server get all requests of a test about what is particular to each server.
func (s *server) unspread() {
	if s.trio != nil {
		s.trio.only = s.trio.holder()
	}
}

// requireSame requires that all servers that run answer all reads alike.
func (tr *trio) requireSame(t testing.TB) {
	t.Helper()
	synctest.Wait()
	var first map[string]string
	for _, h := range tr.running() {
		answers := h.answers(t)
		if first == nil {
			first = answers
		}
		require.Equal(t, slices.Sorted(maps.Keys(first)), slices.Sorted(maps.Keys(answers)), h.name)
		for target, answer := range answers {
			require.Equal(t, first[target], answer, "%s of %s", target, h.name)
		}
	}
}

// answers returns the bodies of all reads, by their targets.
func (h *hub) answers(t testing.TB) map[string]string {
	t.Helper()
	var header []string
	if h.trio.reader != nil {
		header = h.trio.reader()
	}
	answers := map[string]string{}
	read := func(target string, into any) {
		for target != "" {
			w := h.do(http.MethodGet, target, "", header...)
			require.Equal(t, http.StatusOK, w.Code, "%s: %s", target, w.Body)
			answers[target] = w.Body.String()
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), into))
			target = nextOf(w.Header())
		}
	}
	var agents struct{ Agents []models.Agent }
	var sessions struct{ Sessions []models.Session }
	read("/api/agents?limit=1000", &agents)
	for _, a := range agents.Agents {
		path := "/api/agents/" + url.PathEscape(a.ID)
		read(path, &struct{}{})
		read(path+"/status?limit=1000", &struct{}{})
		read(path+"/sessions?limit=1000", &sessions)
		for _, se := range sessions.Sessions {
			read(path+"/sessions/"+url.PathEscape(se.Topic)+"?limit=1000", &struct{}{})
		}
	}
	for _, target := range []string{"/api/sessions?limit=1000", "/api/sessions?needs=waiting", "/api/sessions?needs=lost", "/api/sessions?needs=failed",
		"/api/summary", "/api/notifications/mutes", "/api/notifications/devices"} {
		read(target, &struct{}{})
	}
	answers["/api/notifications"] = h.notifications(t, header)
	answers["X-Event-Id"] = h.do(http.MethodGet, "/api/summary", "", header...).Header().Get("X-Event-Id")
	return answers
}

// notifications returns what all servers know of notifications: not what is pending and how the last attempts went, which
// only the one that sends knows.
func (h *hub) notifications(t testing.TB, header []string) string {
	t.Helper()
	var all map[string]any
	w := h.do(http.MethodGet, "/api/notifications", "", header...)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &all))
	for _, name := range []string{"standby", "sender", "pending", "planned", "to_send", "oldest"} {
		delete(all, name)
	}
	for _, d := range all["destinations"].([]any) {
		for _, name := range []string{"to_send", "failing", "last_delivered", "last_error", "last_failed", "paused_until"} {
			delete(d.(map[string]any), name)
		}
	}
	text, err := json.Marshal(all)
	require.NoError(t, err)
	return string(text)
}

// on sends a request to one server, after it has applied all that has happened.
func (h *hub) on(t testing.TB, method, target, body string) *httptest.ResponseRecorder {
	t.Helper()
	synctest.Wait()
	w := h.do(method, target, body)
	require.Less(t, w.Code, 300, "%s %s: %s", method, target, w.Body)
	return w
}
