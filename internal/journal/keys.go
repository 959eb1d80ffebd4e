package journal

import (
	"bytes"
	"encoding/binary"

	"github.com/kubeagents/kubeagents/store"
)

// The kinds of keys: the first byte.
const (
	kindMeta   = 0x00 // metadata of the journal
	kindAgent  = 'a'  // histories of agents: the topics of their records, newest first
	kindID     = 'i'  // report IDs of sessions
	kindLog    = 'l'  // commits that are not filed yet, oldest first
	kindNote   = 'n'  // notes: see [Note]
	kindRecord = 's'  // states of agents and sessions, and the records of sessions, newest first
)

// The parts of an agent or a session under kindRecord: the byte after the agent ID, or after the agent ID and the
// topic.
const (
	partState  = 0x00
	partRecord = 0x01
)

// The keys of kindMeta.
var (
	formatKey = []byte{kindMeta, 'f', 'o', 'r', 'm', 'a', 't'}
	filedKey  = []byte{kindMeta, 'f', 'i', 'l', 'e', 'd'}
	aliveKey  = []byte{kindMeta, 'a', 'l', 'i', 'v', 'e'}

	positionKey = []byte{kindMeta, 'p', 'o', 's', 'i', 't', 'i', 'o', 'n'}
	cutoffKey   = []byte{kindMeta, 'c', 'u', 't', 'o', 'f', 'f'}
	pausesKey   = []byte{kindMeta, 'p', 'a', 'u', 's', 'e', 's'}
)

// end returns the first key after all keys with this prefix. The last byte of the prefix must not be 0xFF.
func end(prefix []byte) []byte {
	e := bytes.Clone(prefix)
	e[len(e)-1]++
	return e
}

// kindRange returns the range of the keys of a kind: from is inclusive, to is exclusive.
func kindRange(kind byte) (from, to []byte) { return []byte{kind}, []byte{kind + 1} }

// logKey returns the key of the commit at a position.
func logKey(position uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kindLog}, position)
}

// logPosition is the inverse of logKey.
func logPosition(key []byte) uint64 { return binary.BigEndian.Uint64(key[1:]) }

// prefixOf returns the prefix of the keys of a kind that belong to an agent. It ends with a zero byte, which no agent
// ID contains.
func prefixOf(kind byte, agentID string) []byte {
	return append(append([]byte{kind}, agentID...), 0)
}

// sessionPrefix returns the prefix of the keys of a kind that belong to a session.
func sessionPrefix(kind byte, key store.SessionKey) []byte {
	return append(append(prefixOf(kind, key.AgentID), key.Topic...), 0)
}

// agentStateKey returns the key of the state of an agent. It sorts before the keys of the agent's sessions, because no
// topic is empty.
func agentStateKey(agentID string) []byte {
	return append(prefixOf(kindRecord, agentID), partState)
}

// sessionStateKey returns the key of the state of a session. It sorts before the keys of the session's records.
func sessionStateKey(key store.SessionKey) []byte {
	return append(sessionPrefix(kindRecord, key), partState)
}

// recordPrefix returns the prefix of the keys of a session's records.
func recordPrefix(key store.SessionKey) []byte {
	return append(sessionPrefix(kindRecord, key), partRecord)
}

// agentPrefix returns the prefix of the keys of an agent's history.
func agentPrefix(agentID string) []byte { return prefixOf(kindAgent, agentID) }

// idKey returns the key of a report ID.
func idKey(key store.SessionKey, reportID string) []byte {
	return append(sessionPrefix(kindID, key), reportID...)
}

// placeSize is the length of a place, which is an encoded position, in bytes.
const placeSize = 8 + 4 + 8

// appendPlace appends the place for a position in a history. The places of later positions sort first.
func appendPlace(b []byte, p store.StatusPosition) []byte {
	b = binary.BigEndian.AppendUint64(b, ^(uint64(p.Seconds) ^ 1<<63))
	b = binary.BigEndian.AppendUint32(b, ^uint32(p.Nanoseconds))
	return binary.BigEndian.AppendUint64(b, ^p.Sequence)
}

// placeAt is the inverse of appendPlace.
func placeAt(b []byte) store.StatusPosition {
	return store.StatusPosition{
		Seconds:     int64(^binary.BigEndian.Uint64(b) ^ 1<<63),
		Nanoseconds: int32(^binary.BigEndian.Uint32(b[8:])),
		Sequence:    ^binary.BigEndian.Uint64(b[12:]),
	}
}

// splitRecordKey splits a key of kindRecord. topic is nil for the state of an agent. rest starts with the part. ok is
// false if the key is malformed.
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
