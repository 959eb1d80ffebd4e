package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kubeagents/kubeagents/internal/access"
)

const (
	// MaxMessageBytes bounds a message with its headers. It is what NATS allows unless max_payload says otherwise.
	MaxMessageBytes = 1 << 20
	// DuplicateWindow is how long the stream recognises a message that is published again, by its Nats-Msg-Id.
	DuplicateWindow = 2 * time.Minute
)

// program is the mark on whatever this program makes in NATS.
var program = map[string]string{"created-by": "kubeagents"}

// Beginning is how a stream begins that a server makes.
type Beginning struct {
	First uint64 // the sequence of the first message
	State string // says of which state that is the continuation; "" if the stream begins with nothing
}

// Ensure returns the stream of the log. It makes the stream, and the buckets beside it, if they do not exist. It changes
// nothing that exists: if that is not as it must be, the error says everything that differs. Several servers may do this
// at once.
func (c *Conn) Ensure(ctx context.Context, b Beginning) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	if most := c.nats.MaxPayload(); most < MaxMessageBytes {
		return nil, fmt.Errorf("NATS node %s takes messages of %d bytes at most: set max_payload to %d or more",
			c.Node(), most, MaxMessageBytes)
	}
	stream, err := c.ensure(ctx, logConfig(c.settings, b), logDifferences)
	if err != nil {
		return nil, err
	}
	if _, err := c.EnsureBuckets(ctx); err != nil {
		return nil, err
	}
	return stream, nil
}

// EnsureBuckets makes the buckets that do not exist. It returns what identifies those that there are then.
func (c *Conn) EnsureBuckets(ctx context.Context) (ids string, err error) {
	for _, config := range bucketConfigs(c.settings) {
		stream, err := c.ensure(ctx, config, bucketDifferences)
		if err != nil {
			return "", err
		}
		ids += streamID(stream.CachedInfo().Created) + " "
	}
	return ids, nil
}

// errBeingMade is the error of a stream that another server is making. For a moment, NATS both refuses to make it again
// and does not find it.
var errBeingMade = errors.New("another server is making it")

// ensure makes one stream, or compares the one that there is.
func (c *Conn) ensure(ctx context.Context, want jetstream.StreamConfig, compare comparison) (jetstream.Stream, error) {
	var stream jetstream.Stream
	err := c.ask(ctx, func(ctx context.Context) (err error) {
		stream, err = c.js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stream, err = c.js.CreateStream(ctx, want)
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				err = errBeingMade
			}
		}
		return err
	})
	if err != nil {
		return nil, explainCreate(want, err)
	}
	if differences := compare(stream.CachedInfo().Config, want); len(differences) > 0 {
		return nil, fmt.Errorf("the NATS stream %s exists, but is not what this server needs: %s. "+
			"Change it with the program nats, or set NATS_STREAM to a new name", want.Name, strings.Join(differences, "; "))
	}
	return stream, nil
}

// explainCreate says in words why a stream could not be made.
func explainCreate(want jetstream.StreamConfig, err error) error {
	if failed, ok := errors.AsType[*jetstream.APIError](err); ok {
		if failed.ErrorCode == codeClusterNoPeers || failed.ErrorCode == codeReplicasNotSupported {
			return fmt.Errorf("make the NATS stream %s: NATS_REPLICAS is %d, and NATS has too few nodes for that: %w",
				want.Name, want.Replicas, err)
		}
	}
	return fmt.Errorf("make the NATS stream %s: %w", want.Name, err)
}

// logConfig is how the stream of the log is made: nothing is ever dropped or changed, except by purging what is before
// a sequence.
func logConfig(s Settings, b Beginning) jetstream.StreamConfig {
	metadata := maps.Clone(program)
	if b.State != "" {
		metadata[continuesKey] = b.State
	}
	return jetstream.StreamConfig{
		Name:              s.Stream,
		Description:       "The log of KubeAgents",
		Subjects:          []string{s.Subject()},
		Storage:           jetstream.FileStorage,
		Replicas:          s.Replicas,
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardNew,
		MaxConsumers:      -1,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgsPerSubject: -1,
		MaxMsgSize:        MaxMessageBytes,
		Duplicates:        DuplicateWindow,
		DenyDelete:        true,
		AllowDirect:       true,
		FirstSeq:          b.First,
		Metadata:          metadata,
	}
}

// bucketConfigs are the streams of the buckets, as the client library makes them.
func bucketConfigs(s Settings) []jetstream.StreamConfig {
	keyValue := func(bucket, description string, ttl time.Duration) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name:              "KV_" + bucket,
			Description:       description,
			Subjects:          []string{"$KV." + bucket + ".>"},
			Storage:           jetstream.FileStorage,
			Replicas:          s.Replicas,
			Discard:           jetstream.DiscardNew,
			MaxConsumers:      -1,
			MaxMsgs:           -1,
			MaxBytes:          -1,
			MaxMsgsPerSubject: 1,
			MaxMsgSize:        -1,
			MaxAge:            ttl,
			Duplicates:        DuplicateWindow,
			AllowRollup:       true,
			DenyDelete:        true,
			AllowDirect:       true,
			Metadata:          program,
		}
	}
	snapshots := s.SnapshotsBucket()
	return []jetstream.StreamConfig{
		keyValue(s.LeasesBucket(), "Which server of KubeAgents does what only one may do", 0),
		keyValue(s.ServersBucket(), "The servers of KubeAgents that run", PresenceKept),
		keyValue(s.SignInsBucket(), "People's sign-ins to KubeAgents", access.SignedInFor),
		{
			Name:         "OBJ_" + snapshots,
			Description:  "Snapshots of the state of KubeAgents",
			Subjects:     []string{"$O." + snapshots + ".C.>", "$O." + snapshots + ".M.>"},
			Storage:      jetstream.FileStorage,
			Replicas:     s.Replicas,
			Discard:      jetstream.DiscardNew,
			MaxConsumers: -1,
			MaxMsgs:      -1,
			MaxBytes:     -1,
			AllowRollup:  true,
			AllowDirect:  true,
			Metadata:     program,
		},
	}
}
