package cluster

import (
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// comparison returns in words everything about a stream that is not as it must be. What does no harm may differ: more
// replicas than asked for, limits that refuse messages instead of dropping them, compression, placement.
type comparison func(have, want jetstream.StreamConfig) []string

// findings collects differences.
type findings []string

// add adds what a setting of the stream is and what it must be, unless it is so already.
func (f *findings) add(ok bool, setting string, have any, must string) {
	if !ok {
		*f = append(*f, fmt.Sprintf("%s is %v and must be %s", setting, have, must))
	}
}

// logDifferences compares the stream of the log.
func logDifferences(have, want jetstream.StreamConfig) []string {
	var f findings
	f.common(have, want)
	f.add(have.MaxMsgsPerSubject <= 0, "max_msgs_per_subject", have.MaxMsgsPerSubject, "-1, since it drops messages")
	f.add(have.MaxMsgSize <= 0 || have.MaxMsgSize >= want.MaxMsgSize, "max_msg_size", have.MaxMsgSize,
		fmt.Sprintf("%d or more", want.MaxMsgSize))
	f.add(have.Duplicates >= want.Duplicates, "duplicate_window", have.Duplicates,
		fmt.Sprintf("%v or more", want.Duplicates))
	f.add(have.DenyDelete, "deny_delete", have.DenyDelete, "true, so that nobody deletes single messages")
	f.add(!have.AllowRollup, "allow_rollup_hdrs", have.AllowRollup, "false, so that no message replaces others")
	f.add(!have.AllowMsgTTL, "allow_msg_ttl", have.AllowMsgTTL, "false, so that no message disappears")
	f.add(!have.AllowMsgCounter, "allow_msg_counter", have.AllowMsgCounter, "false")
	f.add(!have.AllowMsgSchedules, "allow_msg_schedules", have.AllowMsgSchedules, "false")
	return f
}

// bucketDifferences compares the stream of a bucket.
func bucketDifferences(have, want jetstream.StreamConfig) []string {
	var f findings
	f.common(have, want)
	if want.MaxMsgsPerSubject > 0 {
		f.add(have.MaxMsgsPerSubject > 0, "max_msgs_per_subject", have.MaxMsgsPerSubject, "1 or more")
	}
	f.add(have.AllowRollup, "allow_rollup_hdrs", have.AllowRollup, "true")
	return f
}

// common compares what is so for all streams.
func (f *findings) common(have, want jetstream.StreamConfig) {
	f.add(sameSet(have.Subjects, want.Subjects), "subjects", have.Subjects, fmt.Sprint(want.Subjects))
	f.add(have.Mirror == nil, "mirror", "set", "unset, since other streams' messages are none of this server's")
	f.add(len(have.Sources) == 0, "sources", "set", "unset, since other streams' messages are none of this server's")
	f.add(have.SubjectTransform == nil, "subject_transform", "set", "unset")
	f.add(have.Storage == want.Storage, "storage", have.Storage, want.Storage.String())
	f.add(have.PersistMode == want.PersistMode, "persist_mode", have.PersistMode,
		"default, so that what is acknowledged is on disk")
	f.add(have.Replicas >= want.Replicas, "num_replicas", have.Replicas,
		fmt.Sprintf("%d or more (NATS_REPLICAS)", want.Replicas))
	f.add(have.Retention == want.Retention, "retention", have.Retention, want.Retention.String())
	f.add(have.Discard == want.Discard, "discard", have.Discard, "New, so that a limit never drops messages")
	f.add(have.MaxAge == want.MaxAge, "max_age", have.MaxAge, fmt.Sprintf("%v", want.MaxAge))
	f.add(have.MaxConsumers <= 0, "max_consumers", have.MaxConsumers, "-1")
	f.add(!have.NoAck, "no_ack", have.NoAck, "false")
	f.add(!have.Sealed, "sealed", have.Sealed, "false")
	f.add(!have.DenyPurge, "deny_purge", have.DenyPurge, "false, so that what is in snapshots can go")
	f.add(have.AllowDirect, "allow_direct", have.AllowDirect, "true")
}

// sameSet reports whether two lists hold the same, in any order.
func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}
