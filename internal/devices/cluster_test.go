package devices_test

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/devices"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/internal/push"
	"github.com/kubeagents/kubeagents/store"
)

// shared is the box of a cluster, which all its servers have.
type shared struct {
	t         *testing.T
	entries   map[string][]byte
	hubs      []*replica
	meanwhile func() // comes before the next write
	reading   func() // comes while the box is read next
}

func (b *shared) WriteNotes(notes []journal.Note) error {
	if f := b.meanwhile; f != nil {
		b.meanwhile = nil
		f()
	}
	for _, n := range notes {
		if n.Value == nil {
			delete(b.entries, n.Key)
		} else {
			b.entries[n.Key] = n.Value
		}
	}
	for _, h := range b.hubs {
		h.n.Applied(notes)
		h.Applied(notes)
	}
	return nil
}

func (b *shared) Notes() (notes []journal.Note, err error) {
	for _, key := range slices.Sorted(maps.Keys(b.entries)) {
		notes = append(notes, journal.Note{Key: key, Value: b.entries[key]})
	}
	if f := b.reading; f != nil {
		b.reading = nil
		f()
	}
	return notes, nil
}

// replica is the registry of one server of a cluster, with a tokens file of its own.
type replica struct {
	*shared
	*devices.Registry
	n      *notify.Notifier
	tokens *access.Keyring
}

// openCluster opens servers of a cluster, each with these tokens.
func openCluster(t *testing.T, tokens ...string) *shared {
	b := &shared{t: t, entries: map[string][]byte{}}
	for _, text := range tokens {
		b.opens(text)
	}
	return b
}

// opens opens one more server.
func (b *shared) opens(tokens string) *replica {
	h := &replica{shared: b}
	st := store.New(store.Options{DefaultTTL: time.Hour, SessionRetention: 24 * time.Hour, HistoryLimit: 10, HistoryMaxBytes: 64 << 20, MaxSessions: 1000, EventWindow: 100})
	h.tokens = access.NewKeyring(st, access.Limits{TeamShare: 1})
	logger := slog.New(slog.DiscardHandler)
	h.n = notify.New(notify.Options{Store: st, Box: b, Metrics: metrics.New(st, "test"), Logger: logger, Now: b.now,
		Link: func(store.SessionKey) string { return "" }, Cluster: &notify.Cluster{Sender: func() string { return "" }}})
	h.Registry = devices.New(devices.Options{
		Notifier: h.n, Push: &screens{gone: map[string]bool{}}, Box: b, Logger: logger, Now: b.now, Replicated: true,
		Grant: func(token string) (*access.Grant, bool) {
			grant := h.tokens.Known(token)
			return grant, grant != nil
		},
	})
	b.hubs = append(b.hubs, h)
	h.has(tokens)
	h.tokens.AfterLoad(h.Refresh)
	require.NoError(b.t, h.Load())
	return h
}

func (b *shared) now() time.Time { return time.Now().Add(-7 * time.Minute) }

// has replaces the tokens file of a server.
func (h *replica) has(tokens string) {
	_, err := h.tokens.Load([]byte(tokens))
	require.NoError(h.t, err)
}

// acts makes the server act for a time.
func (h *replica) acts(d time.Duration) {
	ctx, cancel := context.WithCancel(h.t.Context())
	var running sync.WaitGroup
	running.Go(func() { h.n.Act(ctx, h.shared) })
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(time.Hour) // simulated
		h.Refresh()
	}
	synctest.Wait()
	cancel()
	running.Wait()
}

// notified returns the IDs of devices that the server would notify.
func (h *replica) notified() (ids []string) {
	for _, d := range h.n.Destinations() {
		ids = append(ids, d.DeviceID)
	}
	return ids
}

func (h *replica) adds(token, endpoint string) devices.Device {
	d, err := h.Add(devices.Device{Token: token, Subscription: push.Subscription{Endpoint: endpoint}, Changes: []notify.Change{notify.Waits}})
	require.NoError(h.t, err)
	return d
}

// kept returns the IDs of devices in the box.
func (b *shared) kept() (ids []string) {
	for _, key := range slices.Sorted(maps.Keys(b.entries)) {
		if id, ok := strings.CutPrefix(key, "device\x00"); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestDevicesOfACluster are added, renewed and removed at any server, and known at all of them.
func TestDevicesOfACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text, anna := line("anna")
		b := openCluster(t, text, text)
		first, second := b.hubs[0], b.hubs[1]
		phone := first.adds(anna, "phone")
		require.Equal(t, b.now().UTC().Round(0), phone.Added)
		require.Equal(t, []devices.Device{phone}, second.Of(anna))
		require.Equal(t, []string{phone.ID}, second.notified())
		renewed, ok, err := second.Renew(anna, "phone", push.Subscription{Endpoint: "phone 2"})
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, []devices.Device{renewed}, first.Of(anna))
		third := b.opens(text)
		require.Equal(t, []devices.Device{renewed}, third.Of(anna))
		ok, err = third.Remove(anna, phone.ID)
		require.NoError(t, err)
		require.True(t, ok)
		for _, h := range b.hubs {
			require.Empty(t, h.Of(anna))
			require.Empty(t, h.notified())
			require.Equal(t, []string{phone.ID}, h.Removed(anna), "its browser must not add it again")
		}
		require.Empty(t, b.kept())
	})
}

// TestABrowserThatIsAddedTwiceAtOnce at two servers is one device, the same one everywhere, and can be removed.
func TestABrowserThatIsAddedTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text, anna := line("anna")
		b := openCluster(t, text, text)
		var other devices.Device
		b.meanwhile = func() {
			time.Sleep(time.Millisecond) // simulated
			other = b.hubs[1].adds(anna, "phone")
		}
		b.hubs[0].adds(anna, "phone")
		require.Len(t, b.kept(), 2)
		b.opens(text)
		for _, h := range b.hubs {
			require.Equal(t, []devices.Device{other}, h.Of(anna), "the one that was added later")
			require.Equal(t, []string{other.ID}, h.notified())
		}
		again := b.hubs[0].adds(anna, "phone")
		require.Equal(t, other.ID, again.ID)
		require.Equal(t, []string{other.ID}, b.kept())

		time.Sleep(time.Second) // simulated
		b.meanwhile = func() { b.hubs[1].adds(anna, "tablet") }
		b.hubs[0].adds(anna, "tablet")
		require.Len(t, b.kept(), 3)
		tablet := b.hubs[1].Of(anna)[1]
		_, err := b.hubs[0].Remove(anna, tablet.ID)
		require.NoError(t, err)
		require.Equal(t, []string{other.ID}, b.kept(), "both are gone")
	})
}

// TestTokensFilesThatDiffer while they are changed on one server after the other.
func TestTokensFilesThatDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text, anna := line("anna")
		old, ops := line("ops")
		b := openCluster(t, text+old, old)
		newer, older := b.hubs[0], b.hubs[1]
		phone, laptop := newer.adds(anna, "phone"), newer.adds(ops, "laptop")
		require.Equal(t, []string{laptop.ID}, older.notified(), "it can't know what the other token covers")
		older.acts(20 * time.Hour)
		require.Len(t, b.kept(), 2, "it does not remove what another server knows")
		older.has(text + old)
		require.ElementsMatch(t, []string{phone.ID, laptop.ID}, older.notified())

		older.has(text)
		newer.has(text)
		require.Equal(t, []string{phone.ID}, older.notified())
		newer.Refresh()
		time.Sleep(25 * time.Hour) // simulated
		newer.Refresh()
		require.Len(t, b.kept(), 2, "a server that stands by removes nothing")
		older.acts(2 * time.Hour)
		require.Equal(t, []string{phone.ID}, b.kept(), "the token has ended")
	})
}

// TestDevicesThatChangeWhileTheyAreRead are as they were applied.
func TestDevicesThatChangeWhileTheyAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text, anna := line("anna")
		b := openCluster(t, text)
		first := b.hubs[0]
		phone := first.adds(anna, "phone")
		var tablet devices.Device
		b.reading = func() {
			_, err := first.Remove(anna, phone.ID)
			require.NoError(t, err)
			tablet = first.adds(anna, "tablet")
		}
		second := b.opens(text)
		require.Equal(t, []devices.Device{tablet}, second.Of(anna))
		require.Equal(t, []string{tablet.ID}, second.notified())
		require.Equal(t, []string{phone.ID}, second.Removed(anna))
	})
}
