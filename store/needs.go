package store

import (
	"cmp"
	"context"
	"iter"
	"math"
	"time"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

// attention is why a session needs attention, and its place among the others with the same reason: by order, then by
// the sequence of a record of the session, both ascending. It is immutable.
type attention struct {
	reason   models.Need
	order    int64
	sequence uint64
}

func neededEarlier(a, b *session) bool {
	return cmp.Or(cmp.Compare(a.attention.order, b.attention.order), cmp.Compare(a.attention.sequence, b.attention.sequence)) < 0
}

// newNeeds returns an empty list for each reason.
func newNeeds() (lists [len(models.NeedNames)]ordered.Set[session]) {
	for i := range lists {
		lists[i] = ordered.NewSet(neededEarlier)
	}
	return lists
}

// needing returns the sessions of the roster that need attention for a reason, in order: those that wait, the longest
// waiting first; others, the latest first.
func (r *roster) needing(reason models.Need) ordered.Set[session] { return r.needs[reason-1] }

// attentionOf returns why se needs attention; the reason is 0 if it does not. The caller holds s.mu.
func (s *Store) attentionOf(se *session) attention {
	if s.acknowledged(se) != nil {
		return attention{}
	}
	tie := se.runStart().sequence
	if s.opts.Replicated {
		tie = se.current().sequence // memory always has that one
	}
	switch reason := se.class.need(); reason {
	case models.NeedWaiting:
		return attention{reason, s.waitsSince(se), tie}
	case models.NeedLost:
		return attention{reason, -se.expiry(), se.updatedSeq}
	case models.NeedFailed:
		return attention{reason, -nanosOf(s.since(se).time()), tie}
	}
	return attention{}
}

// acknowledged returns the acknowledgement due to which se does not need attention, nil if there is none. The caller
// holds s.mu.
func (s *Store) acknowledged(se *session) *models.Acknowledgement {
	if se.turn == nil || se.turn.acknowledged == nil {
		return nil
	}
	ack := se.turn.acknowledged
	until := se.turn.snoozedUntil
	if ack.Need != se.class.need() || until != 0 && until <= s.now {
		return nil
	}
	if until != 0 && !s.wallTime(until).Equal(ack.Until) { // the clock was set back
		moved := *ack
		moved.Until = s.wallTime(until)
		return &moved
	}
	return ack
}

// Acknowledgements counts acknowledgements, by the reason why the session needed attention.
type Acknowledgements struct {
	Acknowledged, Snoozed models.NeedCounts // without and with an end
}

// count counts an acknowledgement.
func (c *Acknowledgements) count(ack *models.Acknowledgement) {
	counts := &c.Acknowledged
	if !ack.Until.IsZero() {
		counts = &c.Snoozed
	}
	switch ack.Need {
	case models.NeedWaiting:
		counts.Waiting++
	case models.NeedLost:
		counts.Lost++
	case models.NeedFailed:
		counts.Failed++
	}
}

// waitsSince returns when a pending session began to wait, in Unix nanoseconds: for the answer to its oldest question,
// if it has one. The caller holds s.mu.
func (s *Store) waitsSince(se *session) int64 {
	if q := se.turn.oldest(); q != nil {
		return nanosOf(q.AskedAt)
	}
	return nanosOf(s.since(se).time())
}

// newsOf returns when something new happened to se last: when it was lost, entered a status, or asked a question. The
// caller holds s.mu.
func (s *Store) newsOf(se *session) time.Time {
	if se.class.lost() {
		return s.wallTime(se.expiry())
	}
	news := at(se.current().received)
	if se.turn.hasOpen() {
		if asked := se.turn.open[len(se.turn.open)-1].view().full.AskedAt; asked.After(news) {
			return asked
		}
	}
	return news
}

// nanosOf returns t in Unix nanoseconds, or the nearest number of them: RFC 3339 covers years that they can't.
func nanosOf(t time.Time) int64 {
	switch seconds := t.Unix(); {
	case seconds <= math.MinInt64/int64(time.Second):
		return math.MinInt64
	case seconds >= math.MaxInt64/int64(time.Second):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// updateAttention moves se, which is listed, to the list of the reason why it needs attention. The caller holds s.mu.
func (s *Store) updateAttention(se *session) {
	var before attention
	if se.attention != nil {
		before = *se.attention
	}
	now := s.attentionOf(se)
	if now == before {
		return
	}
	for r := range s.rostersOf(se) {
		r.removeNeed(se)
	}
	if se.attention = nil; now.reason != 0 {
		se.attention = &now
	}
	for r := range s.rostersOf(se) {
		r.addNeed(se)
	}
}

// rostersOf yields the rosters that se is listed in. The caller holds s.mu.
func (s *Store) rostersOf(se *session) iter.Seq[*roster] {
	return func(yield func(*roster) bool) {
		if !yield(&s.fleet) || !yield(&se.source.roster) {
			return
		}
		for _, t := range se.teams.all() {
			if !yield(&t.roster) {
				return
			}
		}
	}
}

func (r *roster) addNeed(se *session) {
	if se.attention != nil {
		r.needing(se.attention.reason).Insert(se)
	}
}

func (r *roster) removeNeed(se *session) {
	if se.attention != nil {
		r.needing(se.attention.reason).Remove(se)
	}
}

// lostBefore returns how many of the sessions that need attention because they are lost were lost before an instant on
// the expiry clock.
func (r *roster) lostBefore(instant int64) int {
	lost := r.needing(models.NeedLost)
	return lost.Len() - lost.Before(&session{attention: &attention{order: -instant + 1}})
}

// Waits returns the age of the longest wait among the sessions that need attention because they wait, and how many of
// these have waited for longer than each of some durations. In a replicated store, the time is that of the store.
func (s *Store) Waits(now time.Time, longerThan ...time.Duration) (longest time.Duration, counts []int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.opts.Replicated {
		now = s.wallTime(s.now)
	}
	waiting := s.fleet.needing(models.NeedWaiting)
	if first := waiting.First(); first != nil {
		longest = max(0, now.Sub(time.Unix(0, first.attention.order)))
	}
	for _, d := range longerThan {
		counts = append(counts, waiting.Before(&session{attention: &attention{order: nanosOf(now.Add(-d))}}))
	}
	return longest, counts
}

// needPosition returns the position of se, which needs attention, among those with the same reason.
func (se *session) needPosition() SessionPosition {
	return SessionPosition{Updated: se.attention.order, Sequence: se.attention.sequence}
}

// needingFrom walks the sessions of r that need attention for a reason, after a position. The caller holds the store's
// lock.
func (r *roster) needingFrom(reason models.Need, after *SessionPosition) ordered.Walk[session] {
	first := attention{order: math.MinInt64}
	if after != nil {
		first = attention{order: after.Updated, sequence: after.Sequence + 1}
	}
	return r.needing(reason).From(&session{attention: &first})
}

// Needs returns the sessions of a team that need attention, at most limit for each reason. A nil team is the whole
// fleet. The error is that of ctx.
func (s *Store) Needs(ctx context.Context, team *Team, limit int) (n models.Needs, err error) {
	for reason, list := range map[models.Need]*[]models.FleetSession{
		models.NeedWaiting: &n.Pending, models.NeedLost: &n.Lost, models.NeedFailed: &n.Failed,
	} {
		page, err := s.Sessions(ctx, SessionQuery{Team: team, Need: reason}, nil, limit)
		if err != nil {
			return n, err
		}
		*list, n.More = page.Items, n.More || page.Next != nil
	}
	return n, nil
}
