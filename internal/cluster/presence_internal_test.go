package cluster

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestServerThatDied checks how long a server that is not heard of counts, by the time since it wrote its entry, and
// that clocks that differ change nothing.
func TestServerThatDied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPresence(nil, func() Server { return Server{Name: "a", Encoding: 3} }, silent())
		ahead := time.Now().Add(7 * time.Minute) // the clock of the bucket's server
		p.begin(agedBy([]jetstream.KeyValueEntry{
			presenceOf(t, Server{Name: "long dead", Encoding: 1}, 1, ahead.Add(-PresenceKept)),
			presenceOf(t, Server{Name: "dead", Encoding: 1}, 2, ahead.Add(-PresenceKept+time.Minute)),
			presenceOf(t, Server{Name: "live", Encoding: 2}, 3, ahead.Add(-presenceTTL+5*time.Second)),
			presenceOf(t, Server{Name: "a", Encoding: 3}, 4, ahead),
		}))
		check := func(after time.Duration, encoding int, names ...string) {
			t.Helper()
			time.Sleep(after)
			var listed []string
			for _, server := range p.Servers() {
				listed = append(listed, server.Name)
			}
			assert.Equal(t, names, listed)
			lowest, known := p.LowestEncoding()
			assert.True(t, known)
			assert.Equal(t, encoding, lowest)
		}
		check(0, 1, "a", "live")
		check(4*time.Second, 1, "a", "live")
		check(time.Second, 1, "a")
		check(time.Minute, 2, "a")
		p.change(aged{presenceOf(t, Server{Name: "live", Encoding: 2}, 5, ahead.Add(-time.Hour)), 0})
		check(presenceTTL-1, 2, "a", "live")
		check(1, 2, "a")
		check(PresenceKept, 3, "a")
	})
}

// TestServersWithOneName checks that a server logs once that another one has its name, and is not misled by an entry
// that it left itself before it crashed.
func TestServersWithOneName(t *testing.T) {
	var log bytes.Buffer
	self := Server{Name: "a", Started: time.Unix(1000, 5)}
	p := NewPresence(nil, func() Server { return self }, slog.New(slog.NewTextHandler(&log, nil)))
	p.renewed = 10
	p.change(aged{presenceOf(t, Server{Name: "a", Started: time.Unix(1, 0)}, 9, time.Now()), 0})
	p.change(aged{presenceOf(t, self, 11, time.Now()), 0})
	assert.Empty(t, log.String())
	for revision := range uint64(2) {
		p.change(aged{presenceOf(t, Server{Name: "a", Started: time.Unix(2000, 0), Address: "10.0.0.2"}, 12+revision, time.Now()), 0})
	}
	assert.Contains(t, log.String(), "another server has the same name")
	assert.Contains(t, log.String(), "10.0.0.2")
	assert.Equal(t, 1, bytes.Count(log.Bytes(), []byte("\n")))
}

func presenceOf(t *testing.T, server Server, revision uint64, created time.Time) jetstream.KeyValueEntry {
	value, err := json.Marshal(server)
	require.NoError(t, err)
	key := NewPresence(nil, func() Server { return server }, nil).key
	return entry{key: key, value: value, revision: revision, created: created}
}
