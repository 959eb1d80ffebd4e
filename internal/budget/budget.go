// Package budget limits the bytes of memory that answers take, over all requests together. Request bodies have a budget
// of the same kind.
//
// # Invariants
//
// All holdings together never exceed the bound, and the holdings of a team never exceed its share of the bound. A share
// is at least large enough for one answer of the largest size.
//
// Answers that are still being made never take more than half of the bound, or half of a share. A finished answer
// therefore gets room as soon as others have been sent, and no two answers wait for each other.
//
// Claims of the same kind are granted in the order in which they arrived.
package budget

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/kubeagents/kubeagents/store"
)

const (
	// MinBytes is the minimum bound of a budget, and the minimum share of a team, in bytes.
	MinBytes = 16 << 20
	// MaxWait is the longest time that a caller waits for room.
	MaxWait = 3 * time.Second
)

var (
	// ErrFull is returned if no room became free within [MaxWait].
	ErrFull = errors.New("the budget is used up")
	// ErrShare is returned if no room became free in the team's share within [MaxWait].
	ErrShare = errors.New("the team's share of the budget is used up")
)

// Budget is a limit on bytes of memory. Its methods are safe for concurrent use.
type Budget struct {
	bound int64

	mu      sync.Mutex
	all     usage
	teams   map[*store.Team]*usage // only teams that hold something; the key nil is everyone
	waiting []*claim               // in the order of arrival
}

// usage is the number of bytes held, and how many of them answers hold that are still being made.
type usage struct{ held, making int64 }

// Reservation is the part of a budget that one answer holds. It must not be used concurrently.
type Reservation struct {
	budget *Budget
	team   *store.Team
	share  store.Share
	usage
}

// claim is a request for more bytes.
type claim struct {
	holding *Reservation
	bytes   int64
	making  bool
	granted chan struct{} // closed when the claim is granted; nil for a claim that never had to wait
}

// New returns a budget of bound bytes, or of [MinBytes] if that is more.
func New(bound int64) *Budget {
	return &Budget{bound: max(bound, MinBytes), teams: map[*store.Team]*usage{}}
}

// Bound returns the most bytes that may be held at a time.
func (b *Budget) Bound() int64 { return b.bound }

// Held returns the number of bytes held now, by all holdings together.
func (b *Budget) Held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.held
}

// For returns an empty reservation for an answer to a team, which may use its share of the budget. A nil team is
// everyone.
func (b *Budget) For(team *store.Team, share store.Share) *Reservation {
	return &Reservation{budget: b, team: team, share: share}
}

// ReserveToBuild adds n bytes to h while its answer is being made. n is at most a quarter of [MinBytes]. If there is no
// room, it waits for at most [MaxWait]. The error is ErrFull, ErrShare, or the error of ctx.
func (h *Reservation) ReserveToBuild(ctx context.Context, n int64) error {
	return h.claim(ctx, n, true)
}

// Reserve adds n bytes to h for an answer that is ready to be sent. n is at most half of [MinBytes]. It waits and fails
// as [Reservation.ReserveToBuild] does.
func (h *Reservation) Reserve(ctx context.Context, n int64) error { return h.claim(ctx, n, false) }

// ShrinkTo says that the answer of h is made, and reduces h to n bytes. If h holds fewer, it keeps what it holds.
func (h *Reservation) ShrinkTo(n int64) { h.release(h.held-min(n, h.held), h.making) }

// Release gives back everything that h holds. It may be called more than once.
func (h *Reservation) Release() { h.ShrinkTo(0) }

// Held returns the number of bytes that h holds.
func (h *Reservation) Held() int64 { return h.held }

func (h *Reservation) claim(ctx context.Context, n int64, making bool) error {
	c := &claim{holding: h, bytes: n, making: making}
	if h.budget.grantOrQueue(c) {
		return nil
	}
	patience := time.NewTimer(MaxWait)
	defer patience.Stop()
	select {
	case <-c.granted:
		return nil
	case <-ctx.Done():
		return h.budget.giveUp(c, ctx.Err())
	case <-patience.C:
		return h.budget.giveUp(c, nil)
	}
}

// grantOrQueue grants a claim if that is possible now, and queues it otherwise.
func (b *Budget) grantOrQueue(c *claim) (granted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 && b.shortage(c) == nil {
		b.grant(c)
		return true
	}
	c.granted = make(chan struct{})
	b.waiting = append(b.waiting, c)
	b.grantWaiting()
	return c.isGranted()
}

func (c *claim) isGranted() bool {
	select {
	case <-c.granted:
		return true
	default:
		return false
	}
}

// giveUp removes a claim from the queue and returns the error for its caller: the reason, or if that is nil, what was
// used up. It returns nil if the claim has just been granted.
func (b *Budget) giveUp(c *claim, reason error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.isGranted() {
		return nil
	}
	shortage := b.shortage(c)
	b.waiting = without(b.waiting, c)
	b.grantWaiting() // claims that were queued behind this one
	switch {
	case reason != nil:
		return reason
	case shortage != nil:
		return shortage
	}
	return ErrFull // there is room, but older claims are waiting for it
}

func without(claims []*claim, c *claim) []*claim {
	left := claims[:0]
	for _, other := range claims {
		if other != c {
			left = append(left, other)
		}
	}
	clear(claims[len(left):])
	return left
}

// shortage returns ErrFull or ErrShare if there is no room for a claim, and nil if there is. The caller holds b.mu.
func (b *Budget) shortage(c *claim) error {
	share, ofTeam := b.bound, usage{}
	if c.holding.share.IsLimited() {
		share = min(b.bound, max(MinBytes, c.holding.share.Of(b.bound)))
	}
	if u := b.teams[c.holding.team]; u != nil {
		ofTeam = *u
	}
	switch {
	case c.holding.share.IsLimited() && !ofTeam.hasRoom(c, share):
		return ErrShare
	case !b.all.hasRoom(c, b.bound):
		return ErrFull
	}
	return nil
}

// hasRoom reports whether a claim fits within a bound in addition to u.
func (u usage) hasRoom(c *claim, bound int64) bool {
	return u.held+c.bytes <= bound && (!c.making || u.making+c.bytes <= bound/2)
}

// grant adds the bytes of a claim to its holding and wakes its caller. The caller of grant holds b.mu.
func (b *Budget) grant(c *claim) {
	h := c.holding
	ofTeam := b.teams[h.team]
	if ofTeam == nil {
		ofTeam = new(usage)
		b.teams[h.team] = ofTeam
	}
	for _, u := range []*usage{&b.all, ofTeam, &h.usage} {
		u.held += c.bytes
		if c.making {
			u.making += c.bytes
		}
	}
	if c.granted != nil {
		close(c.granted)
	}
}

// release gives back a number of bytes, and grants waiting claims. making is how much less the holding now takes for an
// answer that is being made.
func (h *Reservation) release(bytes, making int64) {
	b := h.budget
	if bytes == 0 && making == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	ofTeam := b.teams[h.team]
	for _, u := range []*usage{&b.all, ofTeam, &h.usage} {
		u.held -= bytes
		u.making -= making
	}
	if *ofTeam == (usage{}) {
		delete(b.teams, h.team)
	}
	b.grantWaiting()
}

// grantWaiting grants the waiting claims that fit, oldest first. A claim that doesn't fit holds up later claims of its
// kind: those of its team if the team's share is used up, else those of every team. The caller holds b.mu.
func (b *Budget) grantWaiting() {
	if len(b.waiting) == 0 {
		return
	}
	blocked := map[kind]bool{}
	left := b.waiting[:0]
	for _, c := range b.waiting {
		everybody, team := kind{nil, true, c.making}, kind{c.holding.team, false, c.making}
		if blocked[everybody] || blocked[team] {
			left = append(left, c)
			continue
		}
		switch b.shortage(c) { //nolint:errorlint // never wrapped
		case nil:
			b.grant(c)
			continue
		case ErrShare:
			blocked[team] = true
		default:
			blocked[everybody] = true
		}
		left = append(left, c)
	}
	clear(b.waiting[len(left):])
	b.waiting = left
}

// kind identifies claims that wait for one another: of everybody or of one team, and for making answers or for sending
// them.
type kind struct {
	team      *store.Team
	everybody bool
	making    bool
}
