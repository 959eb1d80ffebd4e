package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The subjects of an object's chunks and of its description are those of NATS's architecture decision ADR-20.

func (s *Snapshots) chunksSubject(nuid string) string {
	return "$O." + s.bucket + ".C." + nuid
}

func (s *Snapshots) descriptionSubject(name string) string {
	return "$O." + s.bucket + ".M." + base64.URLEncoding.EncodeToString([]byte(name))
}

// content reads an object's chunks. Unlike the reader of the client library, it stops waiting when nothing comes, and
// when its context is done.
type content struct {
	ctx    context.Context
	object *jetstream.ObjectInfo
	chunks jetstream.MessagesContext
	digest hash.Hash
	left   uint32 // chunks that have not been read
	size   uint64 // of what has been read
	rest   []byte // of the current chunk
}

// open returns the content of an object. Its reader returns io.EOF only after the digest was compared.
func (s *Snapshots) open(ctx context.Context, object *jetstream.ObjectInfo) (*content, error) {
	consumer, err := s.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: []string{s.chunksSubject(object.NUID)}})
	if err != nil {
		return nil, err
	}
	chunks, err := consumer.Messages(jetstream.PullMaxMessages(32))
	if err != nil {
		return nil, err
	}
	return &content{ctx: ctx, object: object, chunks: chunks, digest: sha256.New(), left: object.Chunks}, nil
}

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.left == 0 {
			return 0, c.compare()
		}
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// next reads the next chunk.
func (c *content) next() error {
	ctx, cancel := context.WithTimeout(c.ctx, snapshotRequest)
	defer cancel()
	chunk, err := c.chunks.Next(jetstream.NextContext(ctx))
	if err != nil {
		if c.ctx.Err() == nil && ctx.Err() != nil {
			err = fmt.Errorf("%d of %d chunks are missing, or did not come in time", c.left, c.object.Chunks)
		}
		return err
	}
	c.rest = chunk.Data()
	c.left--
	c.size += uint64(len(c.rest))
	c.digest.Write(c.rest) //nolint:errcheck // it never fails
	return nil
}

// compare returns io.EOF if everything that was read is what was written.
func (c *content) compare() error {
	if c.size != c.object.Size || jetstream.GetObjectDigestValue(c.digest) != c.object.Digest {
		return jetstream.ErrDigestMismatch
	}
	return io.EOF
}

// Close stops reading.
func (c *content) Close() error {
	c.chunks.Stop()
	return nil
}

// orphanAge is how long chunks without a description must not have become more until they are removed: a writer that
// still works on them would have written some.
const orphanAge = 10 * time.Minute

// orphans are chunks without a description. They are still being written, or their writer did not finish.
type orphans struct {
	mu   sync.Mutex
	seen map[string]orphanSight // by their subjects
}

// orphanSight is how many chunks there were, and since when.
type orphanSight struct {
	chunks uint64
	since  time.Time
}

// abandoned returns the subjects of chunks that have not become more for long.
func (o *orphans) abandoned(found map[string]uint64, now time.Time) (subjects []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	seen := map[string]orphanSight{}
	for subject, chunks := range found {
		sight := o.seen[subject]
		if sight.chunks != chunks {
			sight = orphanSight{chunks, now}
		}
		seen[subject] = sight
		if now.Sub(sight.since) >= orphanAge {
			subjects = append(subjects, subject)
		}
	}
	o.seen = seen
	return subjects
}

// removeOrphans removes what writers have left that did not finish. It does so only in a later call than the one in
// which it first saw it.
func (s *Snapshots) removeOrphans(ctx context.Context) error {
	found, err := s.undescribed(ctx)
	if err != nil {
		return fmt.Errorf("look for unfinished snapshots: %w", err)
	}
	for _, subject := range s.orphan.abandoned(found, time.Now()) {
		if purgeErr := s.stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); purgeErr != nil {
			err = errors.Join(err, purgeErr)
			continue
		}
		s.logger.Info("an unfinished snapshot was removed", slog.Uint64("chunks", found[subject]))
	}
	return err
}

// undescribed returns the subjects of chunks that belong to no object, with how many there are.
func (s *Snapshots) undescribed(ctx context.Context) (map[string]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotRequest)
	defer cancel()
	info, err := s.stream.Info(ctx, jetstream.WithSubjectFilter(s.chunksSubject("*")))
	if err != nil {
		return nil, err
	}
	objects, err := s.store.List(ctx) // after the chunks, so that none is missing whose description has come meanwhile
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil, err
	}
	found := map[string]uint64{}
	for subject, chunks := range info.State.Subjects {
		found[strings.Clone(subject)] = chunks
	}
	for _, object := range objects {
		delete(found, s.chunksSubject(object.NUID))
	}
	return found, nil
}
