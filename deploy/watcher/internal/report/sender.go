package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	maxBatch      = 1000
	maxBatchBytes = 4 << 20 // the server takes 8 MiB

	firstBackoff = time.Second
	maxBackoff   = time.Minute

	// forbiddenFor is how long a report waits whose agent the token does not cover. Somebody may change the token.
	forbiddenFor = time.Minute
)

// Counts counts what became of reports.
type Counts interface {
	CountReports(outcome string, n int) // accepted, rejected or delayed
	CountFailure()
	SetReached(time.Time) // when the server last took reports
}

// Sender sends the reports in a queue.
type Sender struct {
	Queue  *Queue
	Client *Client
	Counts Counts
	Logger *slog.Logger

	limit    int    // of the next batch
	failures int    // in a row
	said     string // the failure that was logged last
	skewed   bool   // it was logged that the clocks differ
	outdated bool   // it was logged that the server does not know renewals
}

// Run sends reports until ctx is done, or until stop is closed and the queue is empty. A report counts as sent when the
// server has answered; if ctx ends before that, nobody knows, and its report_id keeps it from counting twice.
func (s *Sender) Run(ctx context.Context, stop <-chan struct{}) {
	s.limit = maxBatch
	for ctx.Err() == nil {
		batch, next := s.Queue.take(s.limit, time.Now())
		if len(batch) > 0 {
			s.sleep(ctx, stop, s.send(ctx, batch))
			continue
		}
		if isClosed(stop) && next.IsZero() {
			return
		}
		s.wait(ctx, stop, next)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// wait waits for something to send, or for the time from which a report may be sent again.
func (s *Sender) wait(ctx context.Context, stop <-chan struct{}, next time.Time) {
	var due <-chan time.Time
	if !next.IsZero() {
		timer := time.NewTimer(time.Until(next))
		defer timer.Stop()
		due = timer.C
		if isClosed(stop) {
			stop = nil
		}
	}
	select {
	case <-ctx.Done():
	case <-stop:
	case <-due:
	case <-s.Queue.more:
	}
}

// sleep waits, but not beyond the moment at which stop is closed: that is the last chance to send.
func (s *Sender) sleep(ctx context.Context, stop <-chan struct{}, d time.Duration) {
	if d <= 0 {
		return
	}
	if isClosed(stop) {
		stop = nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-stop:
	case <-timer.C:
	}
}

// send sends a batch, settles its reports, and returns how long to wait before the next one.
func (s *Sender) send(ctx context.Context, batch []Report) time.Duration {
	verdicts, wait, outdated, err := s.Client.post(ctx, batch)
	if err != nil {
		for _, r := range batch {
			s.Queue.again(r, time.Time{})
		}
		if ctx.Err() != nil {
			return 0
		}
		return s.failed(err)
	}
	if outdated && !s.outdated {
		s.outdated = true
		s.Logger.Warn("the server does not know renewals: sessions get an entry in their history instead, or are lost; upgrade it")
	}
	taken := s.settle(batch, verdicts, wait)
	if taken == 0 && wait > 0 {
		return s.failed(&Failure{text: "the server has no room: " + firstMessage(verdicts), retryAfter: wait})
	}
	s.succeeded()
	return 0
}

func firstMessage(verdicts []verdict) string {
	for _, v := range verdicts {
		if v.message != "" {
			return v.message
		}
	}
	return ""
}

// settle settles each report by its verdict, and returns how many are not to be sent again.
func (s *Sender) settle(batch []Report, verdicts []verdict, wait time.Duration) (taken int) {
	accepted, rejected := 0, 0
	forbidden := map[string]string{}
	for i, r := range batch {
		switch v := verdicts[i]; v.code {
		case "":
			accepted++
			s.Queue.done(r)
		case codeUnavailable:
			s.Queue.again(r, time.Now().Add(max(wait, firstBackoff)))
		case codeUnknown:
			s.Queue.again(r, time.Time{})
		case codeForbidden:
			forbidden[r.AgentID] = v.message
			s.Queue.again(r, time.Now().Add(forbiddenFor))
		case codeBadRequest:
			if v.field == "timestamp" && !r.Timestamp.IsZero() {
				s.Queue.undated(r)
				if s.skewed {
					continue
				}
				s.skewed = true
				s.Logger.Warn("the clock of this node is ahead of the server's: a report gets the time at which the server receives it", "agent_id", r.AgentID, "error", v.message)
				continue
			}
			fallthrough
		default:
			rejected++
			s.Queue.done(r)
			s.Logger.Error("the server rejects a report", "agent_id", r.AgentID, "session", r.SessionTitle, "field", v.field, "error", v.message)
		}
	}
	for agent, message := range forbidden {
		s.Logger.Warn("the token may not report for an agent: its line in the tokens file needs agents=*/* or a pattern for this one, or no agents",
			"agent_id", agent, "error", message, "agents", len(forbidden))
		break
	}
	s.Counts.CountReports("accepted", accepted)
	s.Counts.CountReports("rejected", rejected)
	s.Counts.CountReports("delayed", len(batch)-accepted-rejected)
	if accepted > 0 {
		s.Counts.SetReached(time.Now())
	}
	return accepted + rejected + len(forbidden)
}

// failed notes a failure and returns how long to wait. It logs a failure once, until it changes or is over.
func (s *Sender) failed(err error) time.Duration {
	s.failures++
	s.Counts.CountFailure()
	backoff := min(maxBackoff, firstBackoff<<min(s.failures-1, 10))
	backoff = backoff/2 + rand.N(backoff/2+1)
	if f, ok := errors.AsType[*Failure](err); ok {
		if f.tooLarge && s.limit > 1 {
			s.limit = max(1, s.limit/2)
			return 0
		}
		if f.retryAfter > 0 {
			backoff = f.retryAfter + rand.N(f.retryAfter/10+1)
		}
	}
	if text := err.Error(); text != s.said {
		s.said = text
		s.Logger.Warn("reports wait: the server can't take them", "error", text, "waiting", s.Queue.Length())
	}
	return backoff
}

func (s *Sender) succeeded() {
	s.limit = min(maxBatch, s.limit*2)
	if s.failures > 0 && s.said != "" {
		s.Logger.Info("the server takes reports again", "waiting", s.Queue.Length(), "failures", fmt.Sprint(s.failures))
	}
	s.failures, s.said = 0, ""
}
