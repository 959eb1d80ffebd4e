package access

import (
	"math"
	"net/netip"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// Rate is a limit per second; 0 means no limit. A client that was idle for a while may use up to ten seconds' worth at
// once.
type Rate int

const burstSeconds = 10

// limiter returns a limiter with its full burst available, nil if there is no limit.
func (r Rate) limiter() *rate.Limiter {
	if r == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(r), r.burst())
}

func (r Rate) burst() int { return int(r) * burstSeconds }

// Limits are the limits of each token, or of each address if there are no tokens.
type Limits struct {
	Reports   Rate
	Reads     Rate
	TeamShare float64 // default share of each limit for a team that covers only some agents; 0 for all of it
}

// Excess describes a request that exceeds a rate limit.
type Excess struct {
	Rate  Rate          // the limit
	After time.Duration // how long to wait before the same request is allowed
}

// take takes n from l. A batch larger than the burst is let through when the limiter is full, except for the one
// already counted for its request, and is paid off afterwards.
func take(l *rate.Limiter, n int, now time.Time) *Excess {
	if l == nil || n == 0 {
		return nil
	}
	first := min(n, l.Burst()-1)
	if !l.AllowN(now, first) {
		missing := float64(first) - l.TokensAt(now)
		seconds := max(missing/float64(l.Limit()), 0)
		return &Excess{Rate(math.Round(float64(l.Limit()))), time.Duration(seconds * float64(time.Second))}
	}
	for rest := n - first; rest > 0; rest -= l.Burst() {
		l.ReserveN(now, min(rest, l.Burst()))
	}
	return nil
}

// maxAddresses is how many addresses are remembered. The least recently seen are forgotten, and start over with a full
// burst.
const maxAddresses = 10_000

// RateLimiter applies rate limits: to each token, and to each address for clients without tokens. Its methods are safe
// for concurrent use.
type RateLimiter struct {
	limits Limits
	known  *lru.Cache[netip.Prefix, *address]
}

type address struct{ reports, reads *rate.Limiter }

// NewRateLimiter returns a limiter that applies limits to each token and each address.
func NewRateLimiter(limits Limits) *RateLimiter {
	known, err := lru.New[netip.Prefix, *address](maxAddresses)
	if err != nil {
		panic(err) // can't happen: the size is positive
	}
	return &RateLimiter{limits, known}
}

// NetworkOf returns the network that a client's address counts as: the /64 assigned to a site for IPv6, the address
// itself for IPv4.
func NetworkOf(client netip.Addr) netip.Prefix {
	bits := client.BitLen()
	if client.Is6() {
		bits = 64
	}
	network, _ := client.Prefix(bits) // invalid addresses count as one network
	return network
}

// of returns the limiters of an address.
func (a *RateLimiter) of(client netip.Addr) *address {
	network := NetworkOf(client)
	known, ok := a.known.Get(network)
	if !ok {
		known = &address{a.limits.Reports.limiter(), a.limits.Reads.limiter()}
		if before, found, _ := a.known.PeekOrAdd(network, known); found {
			known = before
		}
	}
	return known
}

// Reports counts n status reports against a grant, or against the client's address for a nil grant. It returns nil if
// they are allowed.
func (a *RateLimiter) Reports(g *Grant, client netip.Addr, n int, now time.Time) *Excess {
	switch {
	case a.limits.Reports == 0:
		return nil
	case g != nil:
		return take(g.reports, n, now)
	}
	return take(a.of(client).reports, n, now)
}

// Reads counts a read request in the same way. Refused requests count as reads, with a nil grant.
func (a *RateLimiter) Reads(g *Grant, client netip.Addr, now time.Time) *Excess {
	switch {
	case a.limits.Reads == 0:
		return nil
	case g != nil:
		return take(g.reads, 1, now)
	}
	return take(a.of(client).reads, 1, now)
}

// Known returns how many addresses are remembered.
func (a *RateLimiter) Known() int { return a.known.Len() }
