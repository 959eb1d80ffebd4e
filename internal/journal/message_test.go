package journal

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// message draws random messages.
type message struct{ *rapid.T }

func (t message) text(label string) string {
	return rapid.OneOf(rapid.StringOf(rapid.Rune()), rapid.SampledFrom([]string{"", "one"})).Draw(t.T, label)
}

func (t message) is(label string) bool { return rapid.Bool().Draw(t.T, label) }

func (t message) byte(label string) byte { return rapid.Byte().Draw(t.T, label) }

func (t message) time(label string) time.Time {
	if t.is(label + " is zero") {
		return time.Time{}
	}
	return time.Unix(rapid.Int64Range(-62167219200, 253402300799).Draw(t.T, label), rapid.Int64Range(1, 999999999).Draw(t.T, label)).UTC()
}

// list draws none or a few items.
func list[T any](t message, label string, one func() T) (all []T) {
	for range rapid.IntRange(0, 3).Draw(t.T, label) {
		all = append(all, one())
	}
	return all
}

func (t message) key() store.SessionKey {
	return store.SessionKey{AgentID: "a" + t.text("agent"), Topic: "t" + t.text("topic")}
}

func (t message) report() models.StatusReport {
	r := models.StatusReport{
		AgentID: t.text("agent"), AgentName: t.text("name"), AgentSource: t.text("source"), AgentHost: t.text("host"),
		SessionTopic: t.text("topic"), SessionTitle: t.text("title"), Status: models.Status(t.byte("status")), Timestamp: t.time("timestamp"),
		Message: t.text("message"), Content: t.text("content"), TTLMinutes: rapid.IntRange(0, 1440).Draw(t.T, "TTL"), ReportID: t.text("ID"), Renew: t.is("renews"),
	}
	if t.is("event") {
		r.Event = t.event()
	}
	return r
}

func (t message) event() *models.Event {
	e := &models.Event{
		Name: t.text("name"), FindByToolID: t.is("finds"), FallBackToRunning: t.is("falls back"), FirstName: t.is("first name"),
		AppliesIn: models.States(t.byte("states")), IgnoreOtherwise: t.is("ignores"), InterruptMessage: t.text("interrupts"), FirstTitle: t.is("first title"),
		Subagent: t.text("subagent"), CallIDHash: rapid.Uint64().Draw(t.T, "call"), InputHash: rapid.Uint64().Draw(t.T, "input"),
		ResultHash: rapid.Uint64().Draw(t.T, "result"), Stage: models.CallStage(t.byte("stage")), HintOnly: t.is("hint"), AboutLastCall: t.is("last call"),
		Closes: models.Closes(t.byte("closes")), Outcome: models.QuestionOutcome(t.byte("outcome")), Answer: t.text("answer"),
		RunningSubagents: list(t, "subagents", func() string { return t.text("subagent") }),
	}
	if t.is("asks") {
		e.Question = &models.Question{Kind: models.QuestionKind(t.byte("kind")), Text: t.text("question"), Content: t.text("content"), ContentCut: t.is("cut"),
			Choices: list(t, "choices", func() string { return t.text("choice") }), AskedBy: t.text("asker"), RequestedAs: t.text("requested as")}
	}
	if t.is("acknowledges") {
		e.AsOf = t.time("as of")
		e.Acknowledge = &models.Acknowledgement{By: t.text("by"), At: epoch, Need: models.Need(t.byte("need")), Sequence: rapid.Uint64().Draw(t.T, "sequence")}
		if t.is("snoozes") {
			e.Acknowledge.Until = epoch.Add(time.Hour)
		}
	}
	return e
}

func (t message) request() Request {
	r := Request{Reports: list(t, "reports", t.report)}
	if t.is("team") {
		r.Agents = append([]string{}, list(t, "patterns", func() string { return t.text("pattern") })...)
	}
	return r
}

func (t message) note() Note {
	n := Note{Key: t.text("key")}
	if t.is("stored") {
		n.Value = []byte(t.text("value"))
	}
	return n
}

func (t message) position() Position {
	return Position{Sequence: rapid.Uint64().Draw(t.T, "sequence"), ID: "i" + t.text("ID"), Time: time.Unix(0, rapid.Int64().Draw(t.T, "time")).UTC(),
		Parts: rapid.IntRange(0, 10).Draw(t.T, "parts"), Records: rapid.IntRange(0, 10).Draw(t.T, "records")}
}

func (t message) commit() Commit {
	p := t.position()
	c := Commit{
		Position: &p, Evicted: list(t, "evicted", t.key), Notes: list(t, "notes", t.note),
		Forgotten: list(t, "forgotten", func() store.Forgotten { return store.Forgotten{SessionKey: t.key(), LastOfAgent: t.is("last")} }),
		Records:   list(t, "records", func() models.Record { return drawRecord(t.T, "a", "t") }),
	}
	if t.is("again") {
		origin := t.position()
		c.Origin = &origin
	}
	return c
}

func (t message) message() *Message {
	m := &Message{
		Server: t.text("server"), Lease: rapid.Uint64().Draw(t.T, "lease"), Requests: list(t, "requests", t.request),
		Removed: list(t, "removed", func() Removal { return Removal{t.text("agent"), t.text("topic")} }), Evicted: list(t, "evicted", t.key),
		Over:  list(t, "over", func() store.Forgotten { return store.Forgotten{SessionKey: t.key(), LastOfAgent: t.is("last")} }),
		Notes: list(t, "notes", t.note),
		Again: list(t, "again", func() Applied {
			c := t.commit()
			return Applied{*c.Position, c.Origin, c.encode(nil)}
		}),
	}
	if t.is("settles") {
		m.Settings = &Settings{[]byte(t.text("from")), []byte(t.text("to"))}
	}
	if t.is("trims") {
		text := func() string { return t.text("agent") }
		m.Trim = &Trim{Before: t.time("before"), Sessions: list(t, "sessions", t.key), Histories: list(t, "histories", text), Agents: list(t, "agents", text)}
	}
	return m
}

func TestMessagesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := message{t}.message()
		back, err := DecodeMessage(string(m.Encode(MessageVersion)), MessageVersion)
		require.NoError(t, err)
		require.Equal(t, m, back)
	})
}

func TestReportsAreNoLargerThanEstimated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := message{t}.report()
		size := len(appendReport(nil, &r))
		require.LessOrEqual(t, size, ReportSize(&r))
		require.LessOrEqual(t, ReportSize(&r), size+400)
	})
}

func TestCommitsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := message{t}.commit()
		back, err := DecodeCommit(c.encode(nil))
		require.NoError(t, err)
		require.Equal(t, c, back)
	})
}

func TestMessagesOfLaterVersionsAreRefused(t *testing.T) {
	text := (&Message{Server: "a"}).Encode(MessageVersion)
	text[0] = MessageVersion + 1
	_, err := DecodeMessage(string(text), MessageVersion)
	var version *VersionError
	require.ErrorAs(t, err, &version)
	require.EqualError(t, err, "it has version 2, but this program reads versions up to 1: run the version of the program that another server runs")

	unknown := appendOp((&Message{Server: "a"}).Encode(MessageVersion), 99, func(b []byte) []byte { return b })
	_, err = DecodeMessage(string(unknown), MessageVersion)
	require.ErrorIs(t, err, errMalformed)
}
