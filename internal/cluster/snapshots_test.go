package cluster_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/datadir"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/natstest"
)

// snapshots returns the snapshots of a new object store, over a connection of their own.
func snapshots(t *testing.T, js jetstream.JetStream) (*cluster.Snapshots, jetstream.ObjectStore, jetstream.Stream) {
	t.Helper()
	objects, err := js.CreateOrUpdateObjectStore(t.Context(), jetstream.ObjectStoreConfig{Bucket: "TEST_SNAPSHOTS"})
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), "OBJ_TEST_SNAPSHOTS")
	require.NoError(t, err)
	return cluster.NewSnapshots(objects, stream, silent()), objects, stream
}

// content is a snapshot of n bytes, for tests that restore nothing.
func content(n int) func(io.Writer) error {
	return func(to io.Writer) error {
		_, err := io.CopyN(to, rand.Reader, int64(n))
		return err
	}
}

// position returns the position that a text stands for.
func position(t *testing.T, text string) cluster.Position {
	t.Helper()
	p, err := cluster.ParsePosition(text)
	require.NoError(t, err)
	return p
}

// newest returns the snapshot with the highest position.
func newest(t *testing.T, s *cluster.Snapshots) cluster.Snapshot {
	t.Helper()
	all, err := s.List(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, all)
	return all[0]
}

func positions(t *testing.T, s *cluster.Snapshots) (all []string) {
	t.Helper()
	listed, err := s.List(t.Context())
	require.NoError(t, err)
	for _, snapshot := range listed {
		all = append(all, snapshot.Position.String())
	}
	return all
}

// openJournal opens the journal in a directory for DATA_DIR, as a server does.
func openJournal(t *testing.T, dir string) *journal.Journal {
	t.Helper()
	home, err := datadir.Prepare(dir, journal.Lock)
	require.NoError(t, err)
	j, err := journal.Open(journal.Options{Dir: home, Logger: silent()})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, j.Close()) })
	return j
}

// state returns what a journal of the test holds.
func state(t *testing.T, dir string) string {
	t.Helper()
	j := openJournal(t, dir)
	defer func() { require.NoError(t, j.Close()) }()
	notes, err := j.Notes()
	require.NoError(t, err)
	require.Len(t, notes, 1)
	return string(notes[0].Value)
}

// dirWith returns a directory for DATA_DIR with a state.
func dirWith(t *testing.T, value string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	j := openJournal(t, dir)
	require.NoError(t, j.WriteNotes([]journal.Note{{Key: "state", Value: []byte(value)}}))
	require.NoError(t, j.Close())
	return dir
}

// TestSnapshots writes a journal as a snapshot, and restores it into a new directory and in the place of an older state.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	c := natstest.Start(t, 1)
	js := connect(t, c)
	s, objects, _ := snapshots(t, js)
	require.Empty(t, positions(t, s))
	j := openJournal(t, dirWith(t, "new"))
	written, err := s.Write(t.Context(), position(t, "81231-k3xq9wz2abcdefgh"), func(to io.Writer) error {
		return j.SendBackup(func() io.Writer { return to })
	})
	require.NoError(t, err)
	listed := newest(t, s)
	assert.Equal(t, written.Name, listed.Name)
	assert.Equal(t, "81231-k3xq9wz2abcdefgh", listed.Position.String())
	assert.Positive(t, listed.Size)

	missing := filepath.Join(t.TempDir(), "data")
	old := dirWith(t, "old")
	for _, dir := range []string{missing, old, old} {
		require.NoError(t, s.Restore(t.Context(), listed, dir))
		assert.Equal(t, "new", state(t, dir))
	}

	old = dirWith(t, "old")
	running := openJournal(t, old)
	require.Error(t, s.Restore(t.Context(), listed, old), "a server uses the directory")
	require.NoError(t, running.Close())

	alter(t, js, objects, listed.Name, func(o *jetstream.ObjectInfo) { o.Digest = "SHA-256=" + strings.Repeat("A", 43) + "=" })
	require.ErrorIs(t, s.Restore(t.Context(), newest(t, s), old), jetstream.ErrDigestMismatch)
	assert.Equal(t, "old", state(t, old))

	alter(t, js, objects, listed.Name, func(o *jetstream.ObjectInfo) { o.Metadata["format"] = "2" })
	require.ErrorContains(t, s.Restore(t.Context(), newest(t, s), old), "written by a newer version of kubeagents")

	other, err := s.Write(t.Context(), position(t, "81232-k3xq9wz2abcdefgh"), content(1000))
	require.NoError(t, err)
	require.ErrorContains(t, s.Restore(t.Context(), other, old), "no backup")
	assert.Equal(t, "old", state(t, old))
	require.NoError(t, s.Remove(t.Context(), other))
	assert.Equal(t, []string{"81231-k3xq9wz2abcdefgh"}, positions(t, s))
}

// alter changes an object's description.
func alter(t *testing.T, js jetstream.JetStream, objects jetstream.ObjectStore, name string, change func(*jetstream.ObjectInfo)) {
	t.Helper()
	info, err := objects.GetInfo(t.Context(), name)
	require.NoError(t, err)
	change(info)
	text, err := json.Marshal(info)
	require.NoError(t, err)
	message := nats.NewMsg("$O.TEST_SNAPSHOTS.M." + base64.URLEncoding.EncodeToString([]byte(name)))
	message.Data = text
	message.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	_, err = js.PublishMsg(t.Context(), message)
	require.NoError(t, err)
}

// TestSnapshotsAreKept checks which snapshots are kept, and that nothing of the others is left.
func TestSnapshotsAreKept(t *testing.T) {
	t.Parallel()
	c := natstest.Start(t, 1)
	s, _, stream := snapshots(t, connect(t, c))
	other, _, _ := snapshots(t, connect(t, c))
	for _, text := range []string{"9-a", "10-b", "11-c", "100-d", "12-e"} {
		_, err := s.Write(t.Context(), position(t, text), content(300_000))
		require.NoError(t, err)
	}
	assert.Equal(t, []string{"100-d", "12-e", "11-c"}, positions(t, s), "the newest, the highest position first")
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	require.NoError(t, err)
	assert.Len(t, info.State.Subjects, 6, "chunks and a description of each")

	var writing sync.WaitGroup
	for i, writer := range []*cluster.Snapshots{s, other} {
		writing.Go(func() {
			_, err := writer.Write(t.Context(), cluster.Position{Sequence: uint64(200 + i), ID: "x"}, content(3_000_000))
			assert.NoError(t, err)
		})
	}
	writing.Wait()
	assert.Equal(t, []string{"201-x", "200-x"}, positions(t, s)[:2], "two writers at once do no harm")

	_, err = s.Write(t.Context(), cluster.Position{Sequence: 1}, content(1))
	require.Error(t, err)
}

// TestHalfWrittenSnapshot checks that a snapshot whose writer fails, is stopped, or loses its connection, does not
// count, and that the others stay.
func TestHalfWrittenSnapshot(t *testing.T) {
	natstest.Long(t)
	t.Parallel()
	c := natstest.Start(t, 1)
	s, _, stream := snapshots(t, connect(t, c))
	for _, text := range []string{"1-a", "2-b", "3-c"} {
		_, err := s.Write(t.Context(), position(t, text), content(1000))
		require.NoError(t, err)
	}
	half := func(then func() error) func(io.Writer) error {
		return func(to io.Writer) error { return errors.Join(content(2_000_000)(to), then()) }
	}
	failed := errors.New("the disk failed")
	_, err := s.Write(t.Context(), position(t, "4-d"), half(func() error { return failed }))
	require.ErrorIs(t, err, failed)
	ctx, cancel := context.WithCancel(t.Context())
	_, err = s.Write(ctx, position(t, "5-e"), half(func() error {
		cancel()
		return ctx.Err()
	}))
	require.ErrorIs(t, err, context.Canceled)

	var line line
	cut, _, _ := snapshots(t, connect(t, c, nats.SetCustomDialer(&line)))
	_, err = cut.Write(t.Context(), position(t, "6-f"), func(to io.Writer) error {
		err := content(2_000_000)(to)
		eventually(t, "some of it is stored", func() bool {
			info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter("$O.TEST_SNAPSHOTS.C.*"))
			return err == nil && len(info.State.Subjects) > 3
		})
		line.cut()
		return err
	})
	require.Error(t, err)
	assert.Equal(t, []string{"3-c", "2-b", "1-a"}, positions(t, s))
	_, err = s.Write(t.Context(), position(t, "7-g"), content(1000))
	require.NoError(t, err)
	assert.Equal(t, []string{"7-g", "3-c", "2-b"}, positions(t, s))
}
