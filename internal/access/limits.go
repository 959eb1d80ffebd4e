package access

import (
	"math"
	"net/netip"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// Rate is how much may be done in a second, over time; 0 stands for any amount. Who did nothing for a while may do ten
// seconds' worth at once.
type Rate int

const burstSeconds = 10

// limiter returns a limiter that has its whole burst, nil where there is no limit.
func (r Rate) limiter() *rate.Limiter {
	if r == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(r), r.burst())
}

func (r Rate) burst() int { return int(r) * burstSeconds }

// Limits are those of one token, or of one address where there are no tokens.
type Limits struct {
	Reports   Rate
	Reads     Rate
	TeamShare float64 // of each bound, of the agents of tokens that are for some alone and name no other; 0 for all of it
}

// Excess says that somebody does too much.
type Excess struct {
	Rate  Rate          // that is allowed
	After time.Duration // until as much is allowed as was asked for
}

// take takes n from l. A batch beyond the burst is let through when nothing is owed but the one that its request was counted
// for, and paid off afterwards.
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

// maxAddresses is how many addresses are remembered; those that were seen longest ago are forgotten, and begin anew.
const maxAddresses = 10_000

// Addresses holds clients without tokens to limits, by their address. Its methods are safe for concurrent use.
type Addresses struct {
	limits Limits
	known  *lru.Cache[netip.Prefix, *address]
}

type address struct{ reports, reads *rate.Limiter }

// NewAddresses returns limits for each address.
func NewAddresses(limits Limits) *Addresses {
	known, err := lru.New[netip.Prefix, *address](maxAddresses)
	if err != nil {
		panic(err) // the size is allowed
	}
	return &Addresses{limits, known}
}

// SiteOf returns as what an address counts: one of IPv6 as the network that is assigned to a site, of 64 bits.
func SiteOf(client netip.Addr) netip.Prefix {
	bits := client.BitLen()
	if client.Is6() {
		bits = 64
	}
	site, _ := client.Prefix(bits) // an invalid address is one as well
	return site
}

// of returns what is known of an address.
func (a *Addresses) of(client netip.Addr) *address {
	site := SiteOf(client)
	known, ok := a.known.Get(site)
	if !ok {
		known = &address{a.limits.Reports.limiter(), a.limits.Reads.limiter()}
		if before, found, _ := a.known.PeekOrAdd(site, known); found {
			known = before
		}
	}
	return known
}

// Reports counts n status reports of a grant, or of a client's address for a nil grant.
func (a *Addresses) Reports(g *Grant, client netip.Addr, n int, now time.Time) *Excess {
	switch {
	case a.limits.Reports == 0:
		return nil
	case g != nil:
		return take(g.reports, n, now)
	}
	return take(a.of(client).reports, n, now)
}

// Reads counts a request that reads, in the same way; and one that was refused, for which the grant is nil.
func (a *Addresses) Reads(g *Grant, client netip.Addr, now time.Time) *Excess {
	switch {
	case a.limits.Reads == 0:
		return nil
	case g != nil:
		return take(g.reads, 1, now)
	}
	return take(a.of(client).reads, 1, now)
}

// Known returns how many addresses are remembered.
func (a *Addresses) Known() int { return a.known.Len() }
