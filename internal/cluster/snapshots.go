package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/kubeagents/kubeagents/internal/backups"
)

// snapshotFormat is the version of the format of snapshots: a tar archive as [journal.Journal.SendBackup] writes it,
// compressed with zstd. The journal in it has a version of its own.
const snapshotFormat = 1

const (
	snapshotsKept   = 3
	snapshotRate    = 32 << 20 // bytes per second, so that a snapshot does not hold up the log
	snapshotChunk   = 128 << 10
	snapshotRequest = 10 * time.Second // how long one request may take, and one chunk be on its way
)

// The names of an object's metadata.
const (
	metaFormat   = "format"
	metaPosition = "position"
)

// Snapshots keeps copies of the state in an object store, for servers that are too far behind the log, or new. Its
// methods are safe for concurrent use, also by several servers.
//
// # Invariants
//
// A snapshot is listed only once it is complete. The three newest ones are kept: older ones are removed after a new one
// has been read back and its digest compared. Each snapshot has a name of its own, so that two servers that write at
// the same time do not meet.
type Snapshots struct {
	store  jetstream.ObjectStore
	stream jetstream.Stream
	bucket string
	logger *slog.Logger
	orphan orphans
}

// Snapshot is a copy of the state.
type Snapshot struct {
	Name     string
	Position Position  // the state holds everything up to this position
	Size     uint64    // in bytes, compressed
	Written  time.Time // by the clock of the object store
	Format   int

	object *jetstream.ObjectInfo
}

// NewSnapshots returns the snapshots in an object store. Stream is the stream that it consists of, which is named OBJ_
// and the name of the object store.
func NewSnapshots(store jetstream.ObjectStore, stream jetstream.Stream, logger *slog.Logger) *Snapshots {
	bucket := strings.TrimPrefix(stream.CachedInfo().Config.Name, "OBJ_")
	return &Snapshots{store: store, stream: stream, bucket: bucket, logger: logger, orphan: orphans{seen: map[string]orphanSight{}}}
}

// List returns the snapshots, the one with the highest position first. Whether the stream goes on from there is for the
// caller to see: after the stream was lost and begun again, there may be snapshots of the former one.
func (s *Snapshots) List(ctx context.Context) ([]Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotRequest)
	defer cancel()
	objects, err := s.store.List(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil, fmt.Errorf("list the snapshots: %w", err)
	}
	var all []Snapshot
	for _, object := range objects {
		if snapshot, ok := snapshotOf(object); ok {
			all = append(all, snapshot)
		}
	}
	slices.SortFunc(all, func(a, b Snapshot) int {
		return cmp.Or(-cmp.Compare(a.Position.Sequence, b.Position.Sequence), b.Written.Compare(a.Written))
	})
	return all, nil
}

// snapshotOf returns the snapshot that an object is.
func snapshotOf(object *jetstream.ObjectInfo) (Snapshot, bool) {
	position, err := ParsePosition(object.Metadata[metaPosition])
	if err != nil {
		return Snapshot{}, false
	}
	format, err := strconv.Atoi(object.Metadata[metaFormat])
	return Snapshot{
		Name: object.Name, Position: position, Size: object.Size, Written: object.ModTime, Format: format, object: object,
	}, err == nil
}

// Write stores what write writes, which is an archive as [journal.Journal.SendBackup] makes it, as a snapshot that holds
// the state at a position, or a later one. Then it removes what is too old. If Write returns an error, there is no new
// snapshot, unless the error is only about what is too old.
func (s *Snapshots) Write(ctx context.Context, position Position, write func(io.Writer) error) (Snapshot, error) {
	if !validID(position) {
		return Snapshot{}, fmt.Errorf("%q is not a position", position)
	}
	meta := jetstream.ObjectMeta{
		Name:     position.String() + "." + rand.Text()[:8],
		Metadata: map[string]string{metaFormat: strconv.Itoa(snapshotFormat), metaPosition: position.String()},
		Opts:     &jetstream.ObjectMetaOptions{ChunkSize: snapshotChunk},
	}
	if err := s.put(ctx, meta, write); err != nil {
		return Snapshot{}, fmt.Errorf("write a snapshot: %w", err)
	}
	snapshot, err := s.verified(ctx, meta.Name)
	if err != nil {
		return Snapshot{}, fmt.Errorf("read the new snapshot %s back: %w", meta.Name, errors.Join(err, s.removeNamed(ctx, meta.Name)))
	}
	return snapshot, s.removeOld(ctx, snapshot)
}

// put writes an object. It holds no more of it in memory than a few chunks.
func (s *Snapshots) put(ctx context.Context, meta jetstream.ObjectMeta, write func(io.Writer) error) error {
	from, to := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		to.CloseWithError(compressed(to, write)) //nolint:errcheck // it never fails
	}()
	_, err := s.store.Put(ctx, meta, &paced{ctx, from, rate.NewLimiter(snapshotRate, snapshotChunk)})
	from.CloseWithError(errors.Join(err, io.ErrClosedPipe)) //nolint:errcheck // it never fails
	<-written
	return err
}

// compressed writes what write writes, compressed.
func compressed(to io.Writer, write func(io.Writer) error) error {
	encoder, err := zstd.NewWriter(to, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	if err := write(encoder); err != nil {
		return err // without closing the encoder, which would complete the archive
	}
	return encoder.Close()
}

// uploadPause is how long an upload waits before its end. With its first chunk, the client library starts a goroutine, which
// never ends if the upload ends before it has begun to run.
const uploadPause = time.Millisecond

// paced reads whole chunks, and not too many per second.
type paced struct {
	ctx  context.Context
	from io.Reader
	rate *rate.Limiter
}

// Read implements io.Reader.
func (p *paced) Read(b []byte) (int, error) {
	n, err := io.ReadFull(p.from, b)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = nil // the next call returns io.EOF
	case errors.Is(err, io.EOF):
		sleep(p.ctx, uploadPause)
	}
	if wait := p.rate.WaitN(p.ctx, n); wait != nil && err == nil {
		err = wait
	}
	return n, err
}

// verified returns a snapshot after reading all of it.
func (s *Snapshots) verified(ctx context.Context, name string) (Snapshot, error) {
	object, err := s.store.GetInfo(ctx, name)
	if err != nil {
		return Snapshot{}, err
	}
	content, err := s.open(ctx, object)
	if err != nil {
		return Snapshot{}, err
	}
	defer content.Close() //nolint:errcheck // only read
	_, err = io.Copy(io.Discard, content)
	snapshot, _ := snapshotOf(object)
	return snapshot, err
}

// Restore puts a snapshot into a directory for DATA_DIR, in the place of the state that may be there. The archive and
// the journal in it are checked first. A crash at any moment leaves the old state or the new one, see
// [datadir.Replace]. No server may use the directory. [datadir.Prepare] must be called afterwards.
//
// The snapshot is extracted as it arrives: it is neither held in memory, nor on the disk twice.
func (s *Snapshots) Restore(ctx context.Context, snapshot Snapshot, dir string) error {
	if snapshot.Format > snapshotFormat {
		return fmt.Errorf("the snapshot %s was written by a newer version of kubeagents (its format is %d, this version reads up to %d): upgrade this server",
			snapshot.Name, snapshot.Format, snapshotFormat)
	}
	content, err := s.open(ctx, snapshot.object)
	if err != nil {
		return fmt.Errorf("read the snapshot %s: %w", snapshot.Name, err)
	}
	defer content.Close() //nolint:errcheck // only read
	archive, err := zstd.NewReader(content, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	defer archive.Close()
	if err := backups.Replace(ctx, archive, dir); err != nil {
		return fmt.Errorf("restore the snapshot %s: %w", snapshot.Name, err)
	}
	s.logger.Info("a snapshot was restored", slog.String("position", snapshot.Position.String()), slog.Time("written", snapshot.Written))
	return nil
}

// Remove removes a snapshot, for example one of a log that was lost.
func (s *Snapshots) Remove(ctx context.Context, snapshot Snapshot) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotRequest)
	defer cancel()
	// The description first: from then on the snapshot is not listed.
	err := s.stream.Purge(ctx, jetstream.WithPurgeSubject(s.descriptionSubject(snapshot.Name)))
	if err == nil {
		err = s.stream.Purge(ctx, jetstream.WithPurgeSubject(s.chunksSubject(snapshot.object.NUID)))
	}
	if err != nil {
		return fmt.Errorf("remove the snapshot %s: %w", snapshot.Name, err)
	}
	return nil
}

func (s *Snapshots) removeNamed(ctx context.Context, name string) error {
	object, err := s.store.GetInfo(ctx, name)
	if err != nil {
		return err
	}
	return s.Remove(ctx, Snapshot{Name: name, object: object})
}

// removeOld removes all but the newest snapshots, and what writers have left that did not finish.
func (s *Snapshots) removeOld(ctx context.Context, latest Snapshot) error {
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b Snapshot) int { return b.Written.Compare(a.Written) })
	all = slices.DeleteFunc(all, func(other Snapshot) bool { return other.Name == latest.Name })
	for _, old := range all[min(len(all), snapshotsKept-1):] {
		err = errors.Join(err, s.Remove(ctx, old))
	}
	return errors.Join(err, s.removeOrphans(ctx))
}
