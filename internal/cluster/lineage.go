package cluster

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kubeagents/kubeagents/internal/journal"
)

// A lineage says which streams have made a state, or came before a stream: the newest first, and up to which position of
// each. A stream that begins with the state of a server has that server's lineage in its metadata, so the other servers can
// tell what of their own state the stream does not have.
type lineage []stretch

// stretch is a part of a stream.
type stretch struct {
	stream string   // see streamID
	end    Position // the last one of the part; endless for a stream that goes on
}

// endless is the end of a part of a stream that goes on.
var endless = Position{Sequence: math.MaxUint64, ID: "endless"}

// unknownStream is the stream of a state that does not say of which it is.
const unknownStream = "unknown"

// maxLineage is how many streams a lineage has at most.
const maxLineage = 20

// continuesKey is the key in the metadata of a stream of the lineage with which it begins.
const continuesKey = "continues"

// streamID identifies a stream among all that ever had its name.
func streamID(created time.Time) string { return strconv.FormatInt(created.UnixMilli(), 36) }

// lineageOf returns the lineage of a stream.
func lineageOf(info *jetstream.StreamInfo) (lineage, error) {
	before, err := parseLineage(info.Config.Metadata[continuesKey])
	if err != nil {
		return nil, fmt.Errorf("the metadata of the NATS stream %s: %w", info.Config.Name, err)
	}
	return append(lineage{{streamID(info.Created), endless}}, before...), nil
}

// lineageIn returns the lineage of the state in a journal.
func lineageIn(j *journal.Journal) (lineage, error) {
	value, err := j.Note(journal.LineageKey)
	if err != nil {
		return nil, err
	}
	if value == nil {
		return lineage{{unknownStream, endless}}, nil
	}
	return parseLineage(string(value))
}

// note returns the note that keeps a lineage in a journal.
func (l lineage) note() journal.Note {
	return journal.Note{Key: journal.LineageKey, Value: []byte(l.String())}
}

// newest returns the newest stream of a lineage.
func (l lineage) newest() string {
	if len(l) == 0 {
		return unknownStream
	}
	return l[0].stream
}

// endingAt returns the lineage of a stream that begins with a state of this lineage that a position belongs to. Of a
// message that was applied in part, the state may lack something, so it ends before that.
func (l lineage) endingAt(at journal.Position) lineage {
	end := Position{at.Sequence, at.ID}
	if at.Partial() {
		if end.Sequence--; end.Sequence == 0 {
			end = Position{}
		}
	}
	ended := append(lineage{{l[0].stream, end}}, l[1:]...)
	return ended[:min(len(ended), maxLineage)]
}

// continues reports whether l is the lineage of a stream that begins with exactly the state that a position of the lineage
// before belongs to.
func (l lineage) continues(before lineage, at journal.Position) bool {
	return len(l) > 1 && l[1] == before.endingAt(at)[0]
}

// common returns the sequence up to which states of two lineages have the same messages, in the newest stream that both
// have had. In a stream that goes on in both, that is unknown: it is endless.
func (l lineage) common(other lineage) (common stretch, found bool) {
	for _, a := range l {
		for _, b := range other {
			if a.stream != b.stream {
				continue
			}
			if b.end.Sequence < a.end.Sequence {
				a = b
			}
			return a, true
		}
	}
	return stretch{}, false
}

// String returns the lineage as text: "mb3k2x1 m9zzz01/500-k3xq9wz2abcdefgh".
func (l lineage) String() string {
	var all []string
	for _, s := range l {
		text := s.stream
		if s.end != endless {
			text += "/" + s.end.String()
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

// parseLineage is the inverse of [lineage.String].
func parseLineage(text string) (l lineage, err error) {
	for field := range strings.FieldsSeq(text) {
		stream, position, ended := strings.Cut(field, "/")
		s := stretch{stream, endless}
		if ended {
			if s.end, err = ParsePosition(position); err != nil {
				return nil, fmt.Errorf("the lineage %q: %w", text, err)
			}
		}
		l = append(l, s)
	}
	return l, nil
}

// sequenceGap is how far the first message of a stream that begins with the state of a server is beyond the last one that
// the server has applied. So its messages have greater sequences than any that another server has applied of the former
// stream.
const sequenceGap = 1 << 20

// firstAfter returns the sequence of the first message of a stream that begins with the state in a journal at a position.
func firstAfter(j *journal.Journal, at journal.Position) uint64 {
	return max(journal.FirstMessageAfter(j.LastSequence()), at.Sequence+2) + sequenceGap
}

// goOnIn makes the state of the journal, which is exactly what the stream begins with, the state of the stream's beginning.
func (m *Member) goOnIn(stream lineage, first uint64, at journal.Position) error {
	at = journal.Position{Sequence: first - 1, ID: stream[0].stream, Time: at.Time}
	m.Logger.Warn("NATS has a new stream, which begins with the state of this server", "stream", m.Settings.Stream, "first_message", first)
	return m.beginAt(at, stream)
}

// beginAt records that the state of the journal is that of a position, of a stream with a lineage.
func (m *Member) beginAt(at journal.Position, stream lineage) error {
	c := journal.Commit{Position: &at, Notes: []journal.Note{stream.note()}}
	if err := m.Journal.Append(c, func() {}); err != nil {
		return err
	}
	return m.Journal.Sync()
}

// adopt records the lineage of the stream in the journal, if that has another one.
func (m *Member) adopt(ctx context.Context) error {
	info, err := m.requester().info(ctx)
	if err != nil {
		return err
	}
	stream, err := lineageOf(info)
	if err != nil {
		return err
	}
	own, err := lineageIn(m.Journal)
	if err != nil || own.String() == stream.String() {
		return err
	}
	return m.Journal.WriteNotes([]journal.Note{stream.note()})
}
