// Package budget shares a number of bytes among the answers that are in memory.
//
// # Invariants
//
// All holdings together are never more than the bound, and those of a team never more than its share of it; but a share is room for
// one of the largest answers at least. What answers take while they are made is never more than half of either, so that an
// answer that was made finds room as soon as others have been sent: no two wait for each other.
//
// Whoever waits for room goes before those who came later and want the same.
package budget

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/kubeagents/kubeagents/store"
)

const (
	// Least is the smallest bound of a budget that is of use, and the least share of it.
	Least = 16 << 20
	// Patience is how long somebody waits for room at most.
	Patience = 3 * time.Second
)

var (
	// ErrFull is returned where there was no room for as long as somebody waits.
	ErrFull = errors.New("the budget is used up")
	// ErrShare is returned where there was none within the team's share.
	ErrShare = errors.New("the team's share of the budget is used up")
)

// Budget is a bound of bytes. Its methods are safe for concurrent use.
type Budget struct {
	bound int64

	mu      sync.Mutex
	all     use
	teams   map[*store.Team]*use // nil is everyone; those alone that hold something
	waiting []*claim             // in the order in which they came
}

// use is how much is held, and how much of that by answers that are being made.
type use struct{ held, making int64 }

// Holding is what one answer holds of a budget. It is for one goroutine.
type Holding struct {
	budget *Budget
	team   *store.Team
	use
}

// claim is what somebody waits for.
type claim struct {
	holding *Holding
	bytes   int64
	making  bool
	granted chan struct{} // closed once it is; nil for one that was granted at once
}

// New returns a budget of bound bytes, [Least] at least.
func New(bound int64) *Budget {
	return &Budget{bound: max(bound, Least), teams: map[*store.Team]*use{}}
}

// Bound returns how many bytes may be held.
func (b *Budget) Bound() int64 { return b.bound }

// Held returns how many bytes are held.
func (b *Budget) Held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.held
}

// For returns a holding of a team, nil for everyone, that holds nothing yet.
func (b *Budget) For(team *store.Team) *Holding { return &Holding{budget: b, team: team} }

// Make has h hold n bytes more, at most a quarter of [Least], while its answer is made. It waits for room, but not for long. The
// error is ErrFull, ErrShare, or that of ctx.
func (h *Holding) Make(ctx context.Context, n int64) error { return h.take(ctx, n, true) }

// Grow has h hold n bytes more for an answer that is to be sent, half of [Least] at most. It is otherwise as [Holding.Make].
func (h *Holding) Grow(ctx context.Context, n int64) error { return h.take(ctx, n, false) }

// Keep has h hold n bytes from now on, or as many as it does, if those are fewer: its answer is made.
func (h *Holding) Keep(n int64) { h.release(h.held-min(n, h.held), h.making) }

// End gives back all that h holds.
func (h *Holding) End() { h.Keep(0) }

// Held returns how many bytes h holds.
func (h *Holding) Held() int64 { return h.held }

func (h *Holding) take(ctx context.Context, n int64, making bool) error {
	c := &claim{holding: h, bytes: n, making: making}
	if h.budget.enter(c) {
		return nil
	}
	patience := time.NewTimer(Patience)
	defer patience.Stop()
	select {
	case <-c.granted:
		return nil
	case <-ctx.Done():
		return h.budget.leave(c, ctx.Err())
	case <-patience.C:
		return h.budget.leave(c, nil)
	}
}

// enter grants a claim at once, if that is possible, or has it wait.
func (b *Budget) enter(c *claim) (granted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 && b.refusal(c) == nil {
		b.grant(c)
		return true
	}
	c.granted = make(chan struct{})
	b.waiting = append(b.waiting, c)
	b.grantSome()
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

// leave takes back a claim that waits, unless it was granted just now. It returns why, which is the reason if that is given.
func (b *Budget) leave(c *claim, reason error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.isGranted() {
		return nil
	}
	why := b.refusal(c)
	b.waiting = without(b.waiting, c)
	b.grantSome() // those that it was before
	switch {
	case reason != nil:
		return reason
	case why != nil:
		return why
	}
	return ErrFull // others were before it
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

// refusal returns why there is no room for a claim, nil where there is. The caller holds b.mu.
func (b *Budget) refusal(c *claim) error {
	share, mine := b.bound, use{}
	if c.holding.team != nil {
		share = min(b.bound, max(Least, c.holding.team.Share().Of(b.bound)))
	}
	if u := b.teams[c.holding.team]; u != nil {
		mine = *u
	}
	switch {
	case c.holding.team != nil && !mine.hasRoom(c, share):
		return ErrShare
	case !b.all.hasRoom(c, b.bound):
		return ErrFull
	}
	return nil
}

// hasRoom reports whether a claim fits under a bound.
func (u use) hasRoom(c *claim, bound int64) bool {
	return u.held+c.bytes <= bound && (!c.making || u.making+c.bytes <= bound/2)
}

// grant has the holding of a claim hold what it claims. The caller holds b.mu.
func (b *Budget) grant(c *claim) {
	h := c.holding
	mine := b.teams[h.team]
	if mine == nil {
		mine = new(use)
		b.teams[h.team] = mine
	}
	for _, u := range []*use{&b.all, mine, &h.use} {
		u.held += c.bytes
		if c.making {
			u.making += c.bytes
		}
	}
	if c.granted != nil {
		close(c.granted)
	}
}

// release gives back bytes, and so many of those that answers take while they are made. Who waits may get them.
func (h *Holding) release(bytes, making int64) {
	b := h.budget
	if bytes == 0 && making == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	mine := b.teams[h.team]
	for _, u := range []*use{&b.all, mine, &h.use} {
		u.held -= bytes
		u.making -= making
	}
	if *mine == (use{}) {
		delete(b.teams, h.team)
	}
	b.grantSome()
}

// grantSome grants those claims for which there is room. A claim that finds none has later ones of its kind wait too, those of its
// team alone where it is the team's share that is used up. The caller holds b.mu.
func (b *Budget) grantSome() {
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
		switch b.refusal(c) { //nolint:errorlint // they come as they are
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

// kind is claims that wait for one another.
type kind struct {
	team      *store.Team
	everybody bool
	making    bool
}
