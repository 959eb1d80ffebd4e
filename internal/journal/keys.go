package journal

import (
	"bytes"
	"encoding/binary"

	"github.com/kubeagents/kubeagents/store"
)

// The first byte of a key says what it is of.
const (
	kindMeta   = 0x00 // about the journal itself
	kindAgent  = 'a'  // the history of an agent: its records' topics, newest first
	kindID     = 'i'  // the report IDs of a session
	kindLog    = 'l'  // commits that are not filed yet, oldest first
	kindRecord = 's'  // what is known of agents and sessions, and sessions' records, newest first
)

// The third part of a key of kindRecord.
const (
	partState  = 0x00
	partRecord = 0x01
)

// Keys about the journal itself.
var (
	formatKey = []byte{kindMeta, 'f', 'o', 'r', 'm', 'a', 't'}
	filedKey  = []byte{kindMeta, 'f', 'i', 'l', 'e', 'd'}
	aliveKey  = []byte{kindMeta, 'a', 'l', 'i', 'v', 'e'}
)

// end returns the key that follows every key with this prefix, whose last byte is not 0xFF.
func end(prefix []byte) []byte {
	e := bytes.Clone(prefix)
	e[len(e)-1]++
	return e
}

// kindRange returns the bounds of the keys of a kind.
func kindRange(kind byte) (from, to []byte) { return []byte{kind}, []byte{kind + 1} }

// logKey returns the key of the commit at a position.
func logKey(position uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kindLog}, position)
}

// logPosition is the reverse of logKey.
func logPosition(key []byte) uint64 { return binary.BigEndian.Uint64(key[1:]) }

// prefixOf returns what the keys of a kind begin with that are of an agent: its ID ends with a zero byte, which none holds.
func prefixOf(kind byte, agentID string) []byte {
	return append(append([]byte{kind}, agentID...), 0)
}

// sessionPrefix returns what the keys of a kind begin with that are of a session.
func sessionPrefix(kind byte, key store.SessionKey) []byte {
	return append(append(prefixOf(kind, key.AgentID), key.Topic...), 0)
}

// agentStateKey returns the key of what is known of an agent. It comes before those of its sessions, because
// no topic is empty.
func agentStateKey(agentID string) []byte {
	return append(prefixOf(kindRecord, agentID), partState)
}

// sessionStateKey returns the key of what is known of a session. It comes before those of its records.
func sessionStateKey(key store.SessionKey) []byte {
	return append(sessionPrefix(kindRecord, key), partState)
}

// recordPrefix returns what the keys of a session's records begin with.
func recordPrefix(key store.SessionKey) []byte {
	return append(sessionPrefix(kindRecord, key), partRecord)
}

// agentPrefix returns what the keys of an agent's history begin with.
func agentPrefix(agentID string) []byte { return prefixOf(kindAgent, agentID) }

// idKey returns the key of a report ID.
func idKey(key store.SessionKey, reportID string) []byte {
	return append(sessionPrefix(kindID, key), reportID...)
}

// placeSize is the length of an encoded position.
const placeSize = 8 + 4 + 8

// appendPlace appends a position in a history such that a later one sorts first.
func appendPlace(b []byte, p store.StatusPosition) []byte {
	b = binary.BigEndian.AppendUint64(b, ^(uint64(p.Seconds) ^ 1<<63))
	b = binary.BigEndian.AppendUint32(b, ^uint32(p.Nanoseconds))
	return binary.BigEndian.AppendUint64(b, ^p.Sequence)
}

// placeAt is the reverse of appendPlace.
func placeAt(b []byte) store.StatusPosition {
	return store.StatusPosition{
		Seconds:     int64(^binary.BigEndian.Uint64(b) ^ 1<<63),
		Nanoseconds: int32(^binary.BigEndian.Uint32(b[8:])),
		Sequence:    ^binary.BigEndian.Uint64(b[12:]),
	}
}

// splitRecordKey takes a key of kindRecord apart. topic is empty for an agent's state; rest begins with the part.
func splitRecordKey(key []byte) (agentID, topic, rest []byte, ok bool) {
	agentID, rest, ok = bytes.Cut(key[1:], []byte{0})
	if !ok || len(rest) == 0 {
		return nil, nil, nil, false
	}
	if len(rest) == 1 && rest[0] == partState {
		return agentID, nil, rest, true
	}
	topic, rest, ok = bytes.Cut(rest, []byte{0})
	switch {
	case !ok || len(rest) == 0:
		return nil, nil, nil, false
	case rest[0] == partState:
		return agentID, topic, rest, len(rest) == 1
	}
	return agentID, topic, rest, rest[0] == partRecord && len(rest) == 1+placeSize
}
