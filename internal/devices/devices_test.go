package devices_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/devices"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/internal/push"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// screens shows what is pushed, by endpoint.
type screens struct {
	mu    sync.Mutex
	shown []string
	gone  map[string]bool // endpoints of subscriptions that have ended
	busy  map[string]int  // how often endpoints answered that they want no more messages for an hour
}

func (s *screens) PublicKey() string             { return "key" }
func (s *screens) Check(push.Subscription) error { return nil }
func (s *screens) Sender(subscription push.Subscription) notify.Sender {
	return screen{s, subscription.Endpoint}
}

// end ends the subscription with an endpoint.
func (s *screens) end(endpoint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[endpoint] = true
}

// got returns what was shown since the last call.
func (s *screens) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	shown := s.shown
	s.shown = nil
	slices.Sort(shown)
	return shown
}

type screen struct {
	*screens
	endpoint string
}

func (s screen) Send(_ context.Context, m *notify.Message) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone[s.endpoint] {
		return "", fmt.Errorf("push.example.com: %w", notify.ErrGone)
	}
	if count, ok := s.busy[s.endpoint]; ok {
		s.busy[s.endpoint] = count + 1
		return "", &notify.RetryError{Err: errors.New("too many"), After: time.Hour}
	}
	s.shown = append(s.shown, fmt.Sprint(s.endpoint, ": ", m.Session.AgentID, " ", m.Change))
	return "", nil
}

func (screen) Withdraw(context.Context, *notify.Message) error { return nil }

// hub is a store with a notifier and devices, in a bubble of synctest.
type hub struct {
	t *testing.T
	screens
	*devices.Registry
	fs     vfs.FS
	box    *flakyBox // nil to keep nothing
	store  *store.Store
	tokens *access.Keyring // nil without tokens
	stop   func()
}

// flakyBox is a journal whose disk may fail.
type flakyBox struct {
	*journal.Journal
	fails bool
}

func (b *flakyBox) WriteNotes(notes []journal.Note) error {
	if b.fails {
		return errors.New("disk full")
	}
	return b.Journal.WriteNotes(notes)
}

func open(t *testing.T, tokens string) *hub {
	h := &hub{t: t, fs: vfs.NewMem(), screens: screens{gone: map[string]bool{}}}
	h.store = store.New(store.Options{DefaultTTL: time.Hour, SessionRetention: 24 * time.Hour, HistoryLimit: 10, HistoryMaxBytes: 64 << 20, MaxSessions: 1000, EventWindow: 100})
	if tokens != "" {
		h.tokens = access.NewKeyring(h.store, access.Limits{TeamShare: 1})
		h.load(tokens)
	}
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

// load replaces the tokens.
func (h *hub) load(tokens string) {
	_, err := h.tokens.Load([]byte(tokens))
	require.NoError(h.t, err)
	synctest.Wait()
}

func (h *hub) start() {
	logger := slog.New(slog.DiscardHandler)
	j, err := journal.Open(journal.Options{Dir: "data", FS: h.fs, Logger: logger})
	require.NoError(h.t, err)
	h.box = &flakyBox{Journal: j}
	n := notify.New(notify.Options{Store: h.store, Box: h.box, Metrics: metrics.New(h.store, "test"), Logger: logger, Link: func(store.SessionKey) string { return "" }})
	n.SetConfig(&notify.Config{Rules: []notify.Rule{{Name: "finished", Changes: []notify.Change{notify.Finished}, Steps: []notify.Step{{}}}}})
	h.Registry, err = devices.Open(devices.Options{
		Notifier: n, Push: &h.screens, Box: h.box, Logger: logger, Grant: func(token string) (*access.Grant, bool) {
			if h.tokens == nil {
				return nil, token == ""
			}
			grant := h.tokens.Known(token)
			return grant, grant != nil
		},
	})
	require.NoError(h.t, err)
	if h.tokens != nil {
		h.tokens.AfterLoad(h.Refresh)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { n.Run(ctx) })
	h.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		require.NoError(h.t, j.Close())
	})
	synctest.Wait()
}

func (h *hub) restart() {
	h.stop()
	h.start()
}

// is reports the status of an agent's session, and lets time pass until everybody is notified of it.
func (h *hub) is(agent string, status models.Status) {
	h.store.Accept(nil, []models.StatusReport{{AgentID: agent, SessionTopic: "t", Status: models.Running}}, time.Now(), nil)
	h.store.Accept(nil, []models.StatusReport{{AgentID: agent, SessionTopic: "t", Status: status}}, time.Now(), nil)
	time.Sleep(time.Minute) // simulated
	synctest.Wait()
}

// adds adds a device of a token with an endpoint.
func (h *hub) adds(token, endpoint string, change func(*devices.Device)) devices.Device {
	h.t.Helper()
	d := devices.Device{Token: token, Subscription: push.Subscription{Endpoint: endpoint}, Changes: []notify.Change{notify.Waits}}
	if change != nil {
		change(&d)
	}
	d, err := h.Add(d)
	require.NoError(h.t, err)
	synctest.Wait()
	return d
}

// line returns the line of a token in a tokens file, and what identifies it.
func line(name string, agents ...string) (text, token string) {
	_, e := access.NewToken(name)
	e.Scopes, e.Agents = []string{"read"}, agents
	return e.String() + "\n", e.SHA256[:16]
}

// TestADeviceIsNotified through restarts, of what it asked for.
func TestADeviceIsNotified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, "")
		phone := h.adds("", "phone", nil)
		h.adds("", "tablet", func(d *devices.Device) { d.AgentIDs = []string{"a*", `b\`} })
		h.adds("", "watch", func(d *devices.Device) { d.Rules, d.Changes = []string{"finished"}, nil })
		for range 2 {
			h.is("a", models.Pending)
			h.is("a*", models.Pending)
			require.Equal(t, []string{"phone: a waits", "phone: a* waits", "tablet: a* waits"}, h.got())
			h.is(`b\`, models.Pending)
			require.Equal(t, []string{`phone: b\ waits`, `tablet: b\ waits`}, h.got())
			h.is("a", models.Success)
			require.Equal(t, []string{"watch: a finished"}, h.got())
			h.restart()
		}
		ok, err := h.Remove("", phone.ID)
		require.NoError(t, err)
		require.True(t, ok)
		h.restart()
		h.is("a", models.Pending)
		require.Empty(t, h.got())
		require.Len(t, h.Of(""), 2)
		ok, err = h.Remove("", phone.ID)
		require.NoError(t, err)
		require.False(t, ok)
	})
}

// TestADeviceBelongsToItsToken which covers some agents, may be changed, and ends.
func TestADeviceBelongsToItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		team, anna := line("anna", "a")
		all, ops := line("ops")
		h := open(t, team+all)
		phone := h.adds(anna, "phone", nil)
		h.adds(ops, "laptop", nil)
		h.is("a", models.Pending)
		h.is("b", models.Pending)
		require.Equal(t, []string{"laptop: a waits", "laptop: b waits", "phone: a waits"}, h.got())
		require.Equal(t, []devices.Device{phone}, h.Of(anna))
		ok, err := h.Remove(ops, phone.ID)
		require.NoError(t, err)
		require.False(t, ok, "somebody else's")
		old := h.adds(anna, "old phone", nil)
		ok, err = h.Remove(anna, old.ID)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, []string{old.ID}, h.Removed(anna))
		require.Empty(t, h.Removed(ops))
		_, ok, err = h.Renew(ops, "phone", push.Subscription{Endpoint: "x"})
		require.NoError(t, err)
		require.False(t, ok)

		h.load(with(team, `["a"]`, `["b"]`) + all)
		h.is("a", models.Pending)
		h.is("b", models.Pending)
		require.Equal(t, []string{"laptop: a waits", "laptop: b waits", "phone: b waits"}, h.got(), "its token covers other agents")
		h.load(with(team, `["read"]`, `["report"]`) + all)
		h.is("b", models.Pending)
		require.Equal(t, []string{"laptop: b waits"}, h.got(), "it may not read")
		h.load(all)
		require.Empty(t, h.Of(anna))
		h.load(team + all)
		h.restart()
		require.Empty(t, h.Of(anna), "it has ended with its token")
		require.Len(t, h.Of(ops), 1)
		h.tokens = nil
		h.restart()
		h.is("a", models.Pending)
		require.Empty(t, h.got(), "a server without tokens has no use for those of tokens")
	})
}

// with returns text with one part replaced.
func with(text, part, by string) string {
	i := slices.Index([]rune(text), []rune(part)[0])
	for ; text[i:i+len(part)] != part; i++ {
	}
	return text[:i] + by + text[i+len(part):]
}

// TestASubscriptionBelongsToOneDevice whoever uses the browser.
func TestASubscriptionBelongsToOneDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, anna := line("anna")
		second, bob := line("bob")
		h := open(t, first+second)
		before := h.adds(anna, "phone", nil)
		after := h.adds(anna, "phone", func(d *devices.Device) { d.Changes = []notify.Change{notify.Failed} })
		require.Equal(t, before.ID, after.ID)
		require.Len(t, h.Of(anna), 1)
		h.is("a", models.Failed)
		require.Equal(t, []string{"phone: a failed"}, h.got())
		renewed, ok, err := h.Renew(anna, "phone", push.Subscription{Endpoint: "phone 2"})
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, after.ID, renewed.ID)
		h.restart()
		h.is("a", models.Failed)
		require.Equal(t, []string{"phone 2: a failed"}, h.got())
		h.adds(bob, "phone 2", func(d *devices.Device) { d.Subscription.Auth = "made up" })
		require.Len(t, h.Of(anna), 1, "it is not enough to know the endpoint")
		h.adds(bob, "phone 2", nil)
		require.Empty(t, h.Of(anna))
		h.restart()
		require.Empty(t, h.Of(anna))
		h.is("a", models.Pending)
		require.Equal(t, []string{"phone 2: a waits"}, h.got())
	})
}

// TestASubscriptionThatHasEnded is forgotten.
func TestASubscriptionThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, "")
		h.adds("", "phone", nil)
		h.adds("", "tablet", nil)
		h.end("phone")
		h.is("a", models.Pending)
		require.Equal(t, []string{"tablet: a waits"}, h.got())
		require.Len(t, h.Of(""), 1)
		h.restart()
		require.Len(t, h.Of(""), 1)
	})
}

// TestAPushServiceThatIsBusy is left alone for as long as it says, even if the tokens change meanwhile.
func TestAPushServiceThatIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, anna := line("anna")
		other, _ := line("bob")
		h := open(t, tokens)
		h.adds(anna, "phone", nil)
		h.busy = map[string]int{"phone": 0}
		h.is("a", models.Pending)
		for _, text := range []string{tokens + other, tokens} {
			h.load(text)
			time.Sleep(time.Second) // simulated
			synctest.Wait()
		}
		require.Equal(t, map[string]int{"phone": 1}, h.busy)
	})
}

// TestTooManyDevices has bounds for a token and for the server.
func TestTooManyDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, names := "", []string{}
		for i := range 51 {
			text, token := line(fmt.Sprint(i))
			tokens, names = tokens+text, append(names, token)
		}
		h := open(t, tokens)
		for i := range 1000 {
			h.adds(names[i/20], fmt.Sprint(i), nil)
		}
		_, err := h.Add(devices.Device{Token: names[0], Subscription: push.Subscription{Endpoint: "x"}})
		require.ErrorIs(t, err, devices.ErrTooMany)
		_, err = h.Add(devices.Device{Token: names[50], Subscription: push.Subscription{Endpoint: "x"}})
		require.ErrorIs(t, err, devices.ErrFull)
		h.adds(names[50], "0", nil)
		h.adds(names[1], "20", nil)
		h.restart()
		require.Len(t, h.Of(names[0]), 19)
		require.Len(t, h.Of(names[50]), 1)
	})
}

// TestADiskThatFails changes nothing.
func TestADiskThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, "")
		phone := h.adds("", "phone", nil)
		h.box.fails = true
		_, err := h.Add(devices.Device{Subscription: push.Subscription{Endpoint: "x"}})
		require.EqualError(t, err, "disk full")
		_, err = h.Remove("", phone.ID)
		require.EqualError(t, err, "disk full")
		require.Equal(t, []devices.Device{phone}, h.Of(""))
		h.is("a", models.Pending)
		require.Equal(t, []string{"phone: a waits"}, h.got())
		h.end("phone")
		h.is("a", models.Pending)
		require.Empty(t, h.Of(""), "it has ended, whatever the disk says")
		h.box.fails = false
	})
}
