package cluster

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	presenceRenewal = 5 * time.Second
	presenceTTL     = 15 * time.Second // a server whose entry was not renewed for so long does not count as live

	// PresenceKept is how long the bucket keeps an entry that is not renewed. Until then, a server that stopped without
	// notice still counts for [Presence.LowestEncoding]: it may be back soon.
	PresenceKept = 10 * time.Minute
)

// Server is what the servers of a cluster know about each other.
type Server struct {
	Name     string    `json:"name"`
	Version  string    `json:"version"`  // of the program
	Encoding int       `json:"encoding"` // the highest version of a message's encoding that the server reads
	Address  string    `json:"address"`  // where it listens
	Started  time.Time `json:"started"`  // by the server's own clock
	Position string    `json:"position"` // of the last message that it has applied
}

// Presence is the list of a cluster's servers. Its methods are safe for concurrent use.
type Presence struct {
	bucket jetstream.KeyValue
	key    string // of this server's entry
	self   func() Server
	logger *slog.Logger
	again  chan struct{} // see follow

	mu      sync.Mutex               // guards what follows
	others  map[string]presenceEntry // by their keys
	begun   bool                     // whether others is complete
	renewed uint64                   // the latest revision of this server's own entry that it has written
	doubled bool                     // whether another server with the same name was logged
}

// presenceEntry is the entry of another server.
type presenceEntry struct {
	Server
	written time.Time // by this server's clock, which may be late: it is when the entry arrived, less its age
}

// NewPresence returns the list in a bucket. Self describes this server as it is now; it must return at once. Its name
// and the time at which it started must not change.
func NewPresence(bucket jetstream.KeyValue, self func() Server, logger *slog.Logger) *Presence {
	key := hex.EncodeToString([]byte(self().Name)) // names may have characters that keys must not have
	return &Presence{bucket: bucket, key: key, self: self, logger: logger, again: make(chan struct{}, 1),
		others: map[string]presenceEntry{}}
}

// Servers returns the servers that are live, as far as this server knows, ordered by name. This one is always among
// them.
func (p *Presence) Servers() []Server {
	live := []Server{p.self()}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, other := range p.others {
		if time.Since(other.written) < presenceTTL {
			live = append(live, other.Server)
		}
	}
	slices.SortFunc(live, func(a, b Server) int { return cmp.Compare(a.Name, b.Name) })
	return live
}

// LowestEncoding returns the highest version of a message's encoding that every server reads, and false as long as this
// server does not know the others. A server that stopped without notice counts for [PresenceKept].
func (p *Presence) LowestEncoding() (version int, known bool) {
	version = p.self().Encoding
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, other := range p.others {
		if time.Since(other.written) < PresenceKept {
			version = min(version, other.Encoding)
		}
	}
	return version, p.begun
}

// Run keeps this server in the list, and the list up to date, until ctx is done. Then it removes this server.
func (p *Presence) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { follow(ctx, p.bucket, p, p.again) })
	for ctx.Err() == nil {
		sleep(ctx, presenceRenewal)
		if ctx.Err() == nil {
			p.renew(ctx)
		}
	}
	running.Wait()
	p.remove(context.WithoutCancel(ctx))
}

// Reconnected makes the list go on at once when the connection to NATS is back, which it notices by itself after up to
// half a minute.
func (p *Presence) Reconnected() { signal(p.again) }

func (p *Presence) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, presenceRenewal)
	defer cancel()
	if err := p.touch(ctx); err != nil && ctx.Err() == nil {
		p.logger.Debug("this server's entry in the list of servers was not renewed", slog.String("error", err.Error()))
	}
}

func (p *Presence) remove(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, watchRequest)
	defer cancel()
	p.bucket.Delete(ctx, p.key) //nolint:errcheck // if it fails, the entry ends by itself
}

// touch implements follower: it writes this server's entry.
func (p *Presence) touch(ctx context.Context) error {
	value, err := json.Marshal(p.self())
	if err != nil {
		return err
	}
	revision, err := p.bucket.Put(ctx, p.key, value)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.renewed = max(p.renewed, revision)
	return nil
}

// begin implements follower.
func (p *Presence) begin(entries []aged) {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.others)
	for _, entry := range entries {
		p.note(entry)
	}
	p.begun = true
}

// change implements follower.
func (p *Presence) change(entry aged) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note(entry)
	maps.DeleteFunc(p.others, func(_ string, other presenceEntry) bool { return time.Since(other.written) >= PresenceKept })
}

// note takes over an entry. The caller holds p.mu.
func (p *Presence) note(entry aged) {
	var server Server
	isPut := entry.Operation() == jetstream.KeyValuePut && json.Unmarshal(entry.Value(), &server) == nil
	switch {
	case isPut && entry.Key() == p.key:
		p.compare(server, entry.Revision())
	case isPut:
		p.others[entry.Key()] = presenceEntry{server, time.Now().Add(-entry.age)}
	default:
		delete(p.others, entry.Key())
	}
}

// compare logs an error if an entry with this server's name was written by another one. The caller holds p.mu.
func (p *Presence) compare(server Server, revision uint64) {
	if self := p.self(); revision > p.renewed && !server.Started.Equal(self.Started) && !p.doubled {
		p.doubled = true
		p.logger.Error("another server has the same name as this one: give each server its own",
			slog.String("name", self.Name), slog.String("address", server.Address))
	}
}
