package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

var (
	epoch = time.Date(2026, 11, 20, 7, 0, 0, 0, time.UTC)
	opts  = store.Options{DefaultTTL: time.Hour, SessionRetention: time.Hour, HistoryLimit: 10, HistoryMaxBytes: 1 << 30, MaxSessions: 1 << 20, Journaled: true}
)

// openAndReplay opens the journal in dir and loads it into a new store, at epoch.
func openAndReplay(t testing.TB, fs vfs.FS, dir string) (*Journal, *store.Store, error) {
	t.Helper()
	return openAndReplayAt(t, fs, dir, epoch)
}

// openAndReplayAt opens the journal in dir and loads it into a new store, at the time now.
func openAndReplayAt(t testing.TB, fs vfs.FS, dir string, now time.Time) (*Journal, *store.Store, error) {
	t.Helper()
	j, err := Open(Options{Dir: dir, FS: fs, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, err
	}
	st := store.New(opts)
	if err := j.Replay(t.Context(), st, opts.HistoryLimit, now, func(Progress) {}); err != nil {
		j.Close() //nolint:errcheck // the test checks err
		return nil, nil, err
	}
	return j, st, nil
}

// record appends records, applies them, and returns them.
func record(t testing.TB, j *Journal, st *store.Store, records ...models.Record) []models.Record {
	t.Helper()
	require.NoError(t, j.Append(Commit{Records: records}, func() { st.Apply(records...) }))
	return records
}

// recordOf returns the n-th record of a session, with all fields of a status report set.
func recordOf(agentID, topic string, n int) models.Record {
	at := epoch.Add(time.Duration(n) * time.Second)
	return models.Record{Received: at, StatusReport: models.StatusReport{
		AgentID: agentID, SessionTopic: topic, Status: models.Statuses[n%len(models.Statuses)], Timestamp: at.Add(-time.Minute),
		AgentName: "Näme", AgentSource: "codex", SessionTitle: fmt.Sprint("title ", n), TTLMinutes: 1 + n%60,
		Message: fmt.Sprint("message ", n), Content: "line\nline", ReportID: fmt.Sprint("id-", n),
	}}
}

// dumpState returns everything that reads show, as JSON.
func dumpState(t testing.TB, j *Journal, st *store.Store) string {
	t.Helper()
	text, err := tryDumpState(t, j, st)
	require.NoError(t, err)
	return text
}

func tryDumpState(t testing.TB, j *Journal, st *store.Store) (string, error) {
	t.Helper()
	var b bytes.Buffer
	dump := func(v any) {
		require.NoError(t, json.NewEncoder(&b).Encode(v))
	}
	agents, err := st.Agents(t.Context(), store.AgentQuery{}, nil, 1000)
	require.NoError(t, err)
	dump(agents.Items)
	sessions, err := st.Sessions(t.Context(), store.SessionQuery{}, nil, 1000)
	require.NoError(t, err)
	for _, se := range sessions.Items {
		dump(se)
		_, questions, page, _ := st.SessionInFull(se.AgentID, se.Topic, nil, 1000)
		if len(questions) > 0 {
			dump(questions)
		}
		if err := j.CompleteSession(store.SessionKey{AgentID: se.AgentID, Topic: se.Topic}, &page, nil, 1000); err != nil {
			return "", err
		}
		dump(page.Items)
	}
	return b.String(), nil
}

// drawRecord draws a random record of a session.
func drawRecord(t *rapid.T, agentID, topic string) models.Record {
	text := rapid.OneOf(rapid.StringOf(rapid.Rune()), rapid.SampledFrom([]string{"", "one", "other"}))
	r := models.Record{
		Sequence: rapid.Uint64Min(1).Draw(t, "sequence"),
		Received: time.Unix(0, rapid.Int64().Draw(t, "received")).UTC(),
		StatusReport: models.StatusReport{
			AgentID: agentID, SessionTopic: topic, ReportID: text.Draw(t, "ID"),
			AgentName: text.Draw(t, "name"), AgentSource: text.Draw(t, "source"), SessionTitle: text.Draw(t, "title"),
			Message: text.Draw(t, "message"), Content: text.Draw(t, "content"),
			Status: rapid.SampledFrom(models.Statuses[:]).Draw(t, "status"), TTLMinutes: rapid.IntRange(0, 1440).Draw(t, "TTL"),
		},
	}
	if rapid.Bool().Draw(t, "has a timestamp") {
		r.Timestamp = time.Unix(rapid.Int64Range(-62167219200, 253402300799).Draw(t, "seconds"), rapid.Int64Range(1, 999999999).Draw(t, "nanoseconds")).UTC()
	}
	return r
}

func TestRecordsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.Rune())
		r := drawRecord(t, "a"+text.Draw(t, "agent"), "t"+text.Draw(t, "topic"))
		back, err := decodeRecord(string(appendRecord(nil, &r)))
		require.NoError(t, err)
		require.Equal(t, r, back)
	})
}

// TestChunksRoundTrip encodes and decodes chunks of sessions and agents, in the current format and in that of version
// 2.
func TestChunksRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		topic := rapid.SampledFrom([]string{"t", "t2", "t 3"})
		var records []models.Record
		var ofSession, ofAgent []entry
		for range rapid.IntRange(1, 80).Draw(t, "entries") {
			r := drawRecord(t, "a", topic.Draw(t, "topic"))
			records = append(records, r)
			ofSession = append(ofSession, entry{placeOf(&r), string(appendRecord(nil, &r))})
			ofAgent = append(ofAgent, entry{placeOf(&r), r.SessionTopic})
		}
		for prefix, entries := range map[string][]entry{
			string(recordPrefix(store.SessionKey{AgentID: "a", Topic: "t"})): ofSession,
			string(agentPrefix("a")): ofAgent,
		} {
			chunk, err := appendChunk(nil, []byte(prefix), entries)
			require.NoError(t, err)
			before := binary.AppendUvarint(nil, uint64(len(entries)))
			for _, e := range entries {
				before = appendString(appendPlace(before, e.at), e.text)
			}
			for _, chunk := range []string{string(chunk), string(before)} {
				var back []entry
				require.NoError(t, eachEntry([]byte(prefix), chunk, func(e entry) error {
					back = append(back, e)
					return nil
				}))
				require.Equal(t, entries, back)
			}
			if prefix[0] == kindRecord {
				var back []models.Record
				require.NoError(t, eachRecord(string(chunk), func(r *models.Record) error {
					back = append(back, *r)
					return nil
				}))
				require.Equal(t, records, back)
			}
		}
	})
}

// FuzzDecode checks that no decoder panics, whatever its input.
func FuzzDecode(f *testing.F) {
	r := recordOf("a", "t", 1)
	value := appendRecord(nil, &r)
	f.Add(string(value))
	f.Add(string(appendOp(nil, opRecord, func(b []byte) []byte { return append(b, value...) })))
	f.Add(string(appendSessionState(nil, store.SessionState{Title: "t", Created: -1})))
	f.Add(string(appendAgentState(nil, store.AgentState{Name: "n"})))
	f.Add(string((&Message{Server: "a", Requests: []Request{{[]string{"a*"}, []models.StatusReport{r.StatusReport, {Event: &models.Event{Question: &models.Question{}}}}}}, Trim: &Trim{}}).Encode(MessageVersion)))
	f.Add(string((&Commit{Position: &Position{}, Records: []models.Record{r}, Notes: []Note{{"k", []byte("v")}}}).encode(nil)))
	for _, prefix := range [][]byte{agentPrefix("a"), recordPrefix(store.SessionKey{AgentID: "a", Topic: "t"})} {
		chunk, err := appendChunk(nil, prefix, []entry{{placeOf(&r), string(value)}})
		require.NoError(f, err)
		f.Add(string(chunk))
	}
	f.Add("\x01\xff\xff\xff\xff")
	f.Fuzz(func(_ *testing.T, value string) {
		decodeRecord(value)                                                       //nolint:errcheck // any result is fine
		decodeForgotten(value)                                                    //nolint:errcheck // see above
		decodeAgentState(value)                                                   //nolint:errcheck // see above
		decodeSessionState(value)                                                 //nolint:errcheck // see above
		decodeFiled(value)                                                        //nolint:errcheck // see above
		DecodeMessage(value, MessageVersion)                                      //nolint:errcheck // see above
		DecodeCommit([]byte(value))                                               //nolint:errcheck // see above
		eachText(value, func(string, string) error { return nil })                //nolint:errcheck // see above
		eachTopic(value, func(store.StatusPosition, string) error { return nil }) //nolint:errcheck // see above
		eachRecord(value, func(*models.Record) error { return nil })              //nolint:errcheck // see above
		eachOp(value, func(byte, string) error { return nil })                    //nolint:errcheck // see above
		splitRecordKey(append([]byte{kindRecord}, value...))
	})
}

func TestPlacesSortNewestFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) store.StatusPosition {
			return store.StatusPosition{Seconds: rapid.Int64().Draw(t, name), Nanoseconds: rapid.Int32Range(0, 999999999).Draw(t, name), Sequence: rapid.Uint64Min(1).Draw(t, name)}
		}
		a, b := draw("a"), draw("b")
		require.Equal(t, a, placeAt(appendPlace(nil, a)))
		require.Equal(t, a.Newer(b), bytes.Compare(appendPlace(nil, a), appendPlace(nil, b)) < 0)
		require.Equal(t, bytes.Compare(appendPlace(nil, a), appendPlace(nil, b)), comparePositions(a, b))
	})
}

// maxTornCommits is the maximum number of TestDamage's commits in the last block (32 KiB) of the engine's log. The
// engine treats a log that is damaged there as one that a crash cut off.
const maxTornCommits = 190

// TestDamage flips a bit in each part of each file in turn. Either the data is read as it was written, except for the
// last commits before a crash, or the journal is refused with an error that names the directory and the file.
func TestDamage(t *testing.T) {
	fs := vfs.NewCrashableMem()
	j, st, err := openAndReplay(t, fs, "data")
	require.NoError(t, err)
	for n := range 300 {
		record(t, j, st, recordOf("a", fmt.Sprint(n%3), n))
	}
	require.NoError(t, j.fileUpTo(200))
	require.NoError(t, j.engine.db.Flush())
	all := map[string]bool{} // true for the acceptable states: a crash may have cut off the end of the log
	for n := range 300 {
		record(t, j, st, recordOf("b", "t", n))
		all[dumpState(t, j, st)] = n >= 299-maxTornCommits
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))})
	require.NoError(t, j.Close())

	names, err := crashed.List("data")
	require.NoError(t, err)
	refused, recovered := 0, 0
	for _, name := range names {
		file := readAll(t, crashed, "data/"+name)
		for part := range 40 {
			at := len(file) * part / 40
			if at >= len(file) || name == "LOCK" {
				continue
			}
			damaged := crashed.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))})
			changed := bytes.Clone(file)
			changed[at] ^= 0x10
			writeAll(t, damaged, "data/"+name, changed)
			j, st, err := openAndReplay(t, damaged, "data")
			if err != nil {
				refused++
				require.ErrorContains(t, err, "DATA_DIR data", "%s at %d", name, at)
				if !strings.HasPrefix(name, "OPTIONS") {
					number := strings.TrimSuffix(name, filepath.Ext(name))
					require.ErrorContains(t, err, number, "the file is named")
				}
				continue
			}
			recovered++
			got, err := tryDumpState(t, j, st)
			if err != nil { // damage in a part that is not read at the start
				require.True(t, pebble.IsCorruptionError(err), err)
				continue
			}
			require.True(t, all[got], "%s at %d: neither refused nor read as it was written", name, at)
			require.NoError(t, j.Close())
		}
	}
	require.NotZero(t, refused)
	require.NotZero(t, recovered)
}

func readAll(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	require.NoError(t, err)
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(f)
	require.NoError(t, err)
	return b
}

func writeAll(t *testing.T, fs vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.Write(b)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
}

func TestAnUnknownFormatIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	j, _, err := openAndReplay(t, fs, "data")
	require.NoError(t, err)
	require.NoError(t, j.engine.db.Set(formatKey, []byte{sharedVersion + 1}, pebble.Sync))
	require.NoError(t, j.Close())
	_, _, err = openAndReplay(t, fs, "data")
	require.ErrorContains(t, err, "its format is version 8, but this program reads versions 1 to 7")

	fs = vfs.NewMem()
	db, err := pebble.Open("data", &pebble.Options{FS: fs, Logger: engineLogger{&engine{logger: slog.New(slog.DiscardHandler)}}})
	require.NoError(t, err)
	require.NoError(t, db.Set([]byte("k"), nil, pebble.Sync))
	require.NoError(t, db.Close())
	_, _, err = openAndReplay(t, fs, "data")
	require.ErrorContains(t, err, "it contains something other than a journal")
}

// TestForgottenSessionsFreeTheirSpace fills tables with sessions, forgets these, and checks that their space is freed.
func TestForgottenSessionsFreeTheirSpace(t *testing.T) {
	j, st, err := openAndReplay(t, nil, filepath.Join(t.TempDir(), "data"))
	require.NoError(t, err)
	random := rand.New(rand.NewPCG(1, 2))
	content := func() string { // barely compressible
		b := make([]byte, 4000)
		for i := range b {
			b[i] = byte(32 + random.IntN(90))
		}
		return string(b)
	}
	for session := range 100 {
		var records []models.Record
		for n := range 100 {
			r := recordOf(fmt.Sprint("agent ", session%7), fmt.Sprint(session), n)
			r.Content = content()
			records = append(records, r)
		}
		record(t, j, st, records...)
	}
	require.NoError(t, j.fileUpTo(10_000))
	require.NoError(t, j.engine.db.Flush())
	tables := func() int64 { m := j.engine.db.Metrics().Total(); return m.TablesSize }
	require.Greater(t, tables(), int64(30<<20))
	require.Greater(t, j.Stats().DiskBytes, tables())

	st.Expire(epoch.Add(48 * time.Hour))
	require.Zero(t, st.Summary().Sessions.Total)
	require.NoError(t, j.Append(Commit{Forgotten: st.TakeForgotten()}, func() {}))
	require.NoError(t, j.Reclaim())
	require.Less(t, tables(), int64(1<<20))
	require.NoError(t, j.Close())
}

func TestTrim(t *testing.T) {
	j, st, err := openAndReplay(t, vfs.NewMem(), "data")
	require.NoError(t, err)
	for n := range 400 {
		record(t, j, st, recordOf("a", "t", n))
		record(t, j, st, recordOf("a", "other", n))
		if n%90 == 0 {
			require.NoError(t, j.fileUpTo(uint64(2*n+1)))
		}
	}
	require.NoError(t, j.fileUpTo(800))
	key := store.SessionKey{AgentID: "a", Topic: "t"}
	require.Len(t, messages(t, j, "a", "t"), 400)
	held, err := j.HasReport(key, "id-149", 1)
	require.NoError(t, err)
	require.True(t, held)

	cut := epoch.Add(-time.Minute + 150*time.Second)
	deleted, err := j.TrimSession(key, cut)
	require.NoError(t, err)
	require.Equal(t, 150, deleted)
	require.Len(t, messages(t, j, "a", "t"), 250)
	require.Equal(t, "message 150", messages(t, j, "a", "t")[249])
	held, err = j.HasReport(key, "id-149", 1)
	require.NoError(t, err)
	require.False(t, held)
	held, err = j.HasReport(key, "id-150", 1)
	require.NoError(t, err)
	require.True(t, held)
	require.Len(t, messages(t, j, "a", ""), 650)
	require.NoError(t, j.TrimAgent("a", cut))
	require.Len(t, messages(t, j, "a", ""), 500)

	deleted, err = j.TrimSession(key, epoch.Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, 249, deleted)
	require.Equal(t, []string{"message 399"}, messages(t, j, "a", "t"), "the newest one stays")
	deleted, err = j.TrimSession(key, epoch.Add(time.Hour))
	require.NoError(t, err)
	require.Zero(t, deleted)
	require.NoError(t, j.Close())
}

// messages reads the messages that the journal has of a session, or of an agent if topic is empty, newest first.
func messages(t testing.TB, j *Journal, agentID, topic string) (messages []string) {
	t.Helper()
	for after, more := (*store.StatusPosition)(nil), true; more; {
		page := store.HistoryPage{Journaled: 1}
		if topic == "" {
			require.NoError(t, j.CompleteAgent(agentID, &page, after, 1000))
		} else {
			require.NoError(t, j.CompleteSession(store.SessionKey{AgentID: agentID, Topic: topic}, &page, after, 1000))
		}
		for _, st := range page.Items {
			messages = append(messages, st.Message)
		}
		after, more = page.Next, page.Next != nil
	}
	return messages
}

// TestLateRecordsAreFiledInOrder files records that arrive in random order, in many rounds.
func TestLateRecordsAreFiledInOrder(t *testing.T) {
	j, st, err := openAndReplay(t, vfs.NewMem(), "data")
	require.NoError(t, err)
	order := rand.New(rand.NewPCG(3, 4)).Perm(1000)
	for i, n := range order {
		record(t, j, st, recordOf("a", fmt.Sprint(n%2), n))
		if i%77 == 0 {
			require.NoError(t, j.fileUpTo(uint64(i+1)))
		}
	}
	_, page, _ := st.AgentStatus("a", nil, 1000)
	require.NoError(t, j.CompleteAgent("a", &page, nil, 1000))
	require.Len(t, page.Items, 1000)
	for i, item := range page.Items {
		require.Equal(t, fmt.Sprint("message ", 999-i), item.Message)
	}
	require.Nil(t, page.Next)
	require.NoError(t, j.Close())
}

// TestRecordsAreRefusedWhileTheLogCantBeFiled damages the log while more of it is unfiled than is allowed.
func TestRecordsAreRefusedWhileTheLogCantBeFiled(t *testing.T) {
	j, err := Open(Options{Dir: "data", FS: vfs.NewMem(), Logger: slog.New(slog.DiscardHandler), maxUnfiled: 1})
	require.NoError(t, err)
	st := store.New(opts)
	require.NoError(t, j.Replay(t.Context(), st, opts.HistoryLimit, epoch, func(Progress) {}))
	j.filing.Lock() // keeps the log from being filed before it is damaged
	record(t, j, st, recordOf("a", "t", 1))
	whole, err := j.engine.get(logKey(1))
	require.NoError(t, err)
	damage := j.engine.db.NewBatch()
	require.NoError(t, damage.Set(logKey(1), []byte{0xFF}, nil))
	require.NoError(t, j.engine.commit(damage, pebble.Sync))
	j.filing.Unlock()

	var failure *Failure
	require.ErrorAs(t, j.Append(Commit{Records: []models.Record{recordOf("a", "t", 2)}}, func() { t.Error("applied") }), &failure)
	require.Contains(t, failure.Cause, "can't be filed")
	require.Equal(t, failure, j.Failure(), "the failure is known without an attempt to append")
	require.Contains(t, dumpState(t, j, st), "message 1", "reads still work")

	repair := j.engine.db.NewBatch()
	require.NoError(t, repair.Set(logKey(1), []byte(whole), nil))
	require.NoError(t, j.engine.commit(repair, pebble.Sync))
	require.NoError(t, j.File())
	require.Nil(t, j.Failure())
	record(t, j, st, recordOf("a", "t", 2))
	require.NoError(t, j.Close())
}

// update is the environment variable with which go test ./internal/journal -run Fixture rewrites the fixture of this
// version.
const update = "KUBEAGENTS_UPDATE"

// TestFixture reads the data directories that earlier versions wrote. Every later version must be able to read them.
func TestFixture(t *testing.T) {
	if os.Getenv(update) != "" {
		writeFixture(t, filepath.Join(t.TempDir(), "data"), fmt.Sprint("testdata/v", formatVersion))
	}
	for version := range formatVersion {
		readFixture(t, fmt.Sprint("testdata/v", version+1))
	}
}

// fixtureRead is the time at which fixtures are read, soon after their last record.
var fixtureRead = epoch.Add(62 * time.Minute)

func readFixture(t *testing.T, fixture string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join(fixture, "data"))))
	j, st, err := openAndReplayAt(t, nil, dir, fixtureRead)
	require.NoError(t, err)
	want, err := os.ReadFile(filepath.Join(fixture, "shown.json"))
	require.NoError(t, err)
	require.Equal(t, string(want), dumpState(t, j, st))
	last := recordOf("new", "t", 1)
	require.Greater(t, record(t, j, st, last)[0].Sequence, uint64(121), "the sequence numbers continue")
	before := messages(t, j, "agent/ü", "topic 1")
	record(t, j, st, recordOf("agent/ü", "topic 1", 2))
	require.NoError(t, j.File())
	after := messages(t, j, "agent/ü", "topic 1")
	require.Len(t, after, len(before)+1)
	at := slices.Index(after, "message 2")
	require.Equal(t, before, slices.Delete(slices.Clone(after), at, at+1), "a late record is filed in its place")
	require.Equal(t, "message 1", after[at+1])
	version, err := j.engine.get(formatKey)
	require.NoError(t, err)
	require.Equal(t, string([]byte{formatVersion}), version, "programs that don't know this format refuse the journal from now on")
	require.NoError(t, j.Close())
}

func writeFixture(t *testing.T, dir, fixture string) {
	t.Helper()
	j, st, err := openAndReplay(t, nil, dir)
	require.NoError(t, err)
	for n := range 100 {
		record(t, j, st, recordOf("agent/ü", fmt.Sprint("topic ", n%4), n))
	}
	record(t, j, st, recordOf("gone", "t", 1))
	require.NoError(t, j.fileUpTo(50))
	require.NoError(t, j.engine.db.Flush())
	for n := range 20 {
		record(t, j, st, recordOf("agent/ü", "topic 1", 50-n))
	}
	for n := 98; n < 100; n++ { // renewals of topics 2 and 3; only the first is filed
		renewal := recordOf("agent/ü", fmt.Sprint("topic ", n%4), n)
		renewal.Renews = models.RenewedRecord{Sequence: uint64(n + 1), Received: renewal.Received}
		renewal.Received = renewal.Received.Add(time.Hour)
		renewal.SessionTitle = "renewed"
		record(t, j, st, renewal)
		if n == 98 {
			require.NoError(t, j.File())
		}
	}
	recordQuestions(t, j, st)
	recordAcknowledgements(t, j, st)
	j.MarkAlive(epoch.Add(50 * time.Minute))
	st.Remove(store.Forgotten{SessionKey: store.SessionKey{AgentID: "gone", Topic: "t"}})
	require.NoError(t, j.Append(Commit{Forgotten: []store.Forgotten{{SessionKey: store.SessionKey{AgentID: "gone", Topic: "t"}, LastOfAgent: true}}}, func() {}))
	require.NoError(t, j.Close())
	require.NoError(t, os.RemoveAll(fixture))
	require.NoError(t, os.CopyFS(filepath.Join(fixture, "data"), os.DirFS(dir)))
	j, st, err = openAndReplayAt(t, nil, dir, fixtureRead)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(fixture, "shown.json"), []byte(dumpState(t, j, st)), 0o600))
	require.NoError(t, j.Close())
	require.NoError(t, os.RemoveAll(dir))
}

// recordAcknowledgements records sessions that failed and were acknowledged: one in its current state, one before it
// failed again. The acknowledgement of the first is filed, that of a third is only in the log.
func recordAcknowledgements(t *testing.T, j *Journal, st *store.Store) {
	t.Helper()
	acknowledge := func(topic string, until time.Time) {
		failed := recordOf("acknowledged", topic, 1)
		failed.Status, failed.TTLMinutes = models.Failed, 600
		base := record(t, j, st, failed)[0]
		ack := base
		ack.Renews = models.RenewedRecord{Sequence: base.Sequence, Received: base.Received}
		ack.Received = base.Received.Add(time.Minute)
		ack.Turn = &models.Turn{Acknowledged: &models.Acknowledgement{At: ack.Received, By: "ada", Until: until, Need: models.NeedFailed}}
		record(t, j, st, ack)
	}
	acknowledge("filed", time.Time{})
	acknowledge("snoozed", epoch.Add(100*time.Minute))
	require.NoError(t, j.File())
	acknowledge("logged", time.Time{})
	acknowledge("ended", time.Time{})
	again := recordOf("acknowledged", "ended", 2)
	again.Status, again.Turn = models.Failed, new(models.Turn)
	again.Closed = []models.ClosedQuestion{(&models.Acknowledgement{At: again.Received, By: "ada"}).Note()}
	record(t, j, st, again)
}

// recordQuestions records a session that asks three questions. The first one is answered, so the second one is shown.
func recordQuestions(t *testing.T, j *Journal, st *store.Store) {
	t.Helper()
	event := func(n int, status models.Status, message string) models.Record {
		r := recordOf("claude-code:payments@laptop", "0f4c", n)
		r.Status, r.Message, r.ReportID, r.Timestamp, r.Received = status, message, "", time.Time{}, epoch.Add(time.Hour+time.Duration(n)*time.Second)
		r.AgentSource, r.AgentHost, r.ByEvent = "claude-code", "laptop", true
		return r
	}
	record(t, j, st, event(1, models.Idle, "Session started"))
	beneath := models.UnderlyingStatus{Status: models.Running, Message: "Bash: make", Content: "make"}
	asks := event(2, models.Pending, "Bash: make")
	asks.Turn = &models.Turn{
		Question: &models.Question{Kind: models.Permission, Text: "Bash: make", Content: "make\nall", RequestedAs: "PermissionRequest"},
		Open:     []models.OpenQuestion{{CallIDHash: 7, InputHash: 8, ResultHash: 8}},
		Calls:    []models.Call{{IDHash: 7, InputHash: 8}}, Underlying: beneath,
	}
	first := record(t, j, st, asks)[0]
	require.NoError(t, j.File())
	open := []models.OpenQuestion{{Sequence: first.Sequence, CallIDHash: 7, InputHash: 8, ResultHash: 8}}
	for n, asked := range []*models.Question{
		{Kind: models.Choice, Text: "Which?", Choices: []string{"one", "two"}, AskedBy: "sub"},
		{Kind: models.Plan, Text: "Plan", Content: "all of", ContentCut: true},
	} {
		open = append(open, models.OpenQuestion{FromHint: n == 0})
		also := event(3+n, models.Pending, first.Message) // renews the first record
		also.Renews = models.RenewedRecord{Sequence: first.Sequence, Received: first.Received}
		also.ShownQuestion, also.ShownKind = first.Sequence, models.Permission
		also.Turn = &models.Turn{Question: asked, Open: slices.Clone(open), Underlying: beneath}
		open[n+1].Sequence = record(t, j, st, also)[0].Sequence
	}
	answered := event(5, models.Pending, "Which?")
	answered.ShownQuestion, answered.ShownKind = open[1].Sequence, models.Choice
	answered.Turn = &models.Turn{Open: open[1:], Underlying: beneath}
	answered.Closed = []models.ClosedQuestion{{ID: models.QuestionID(first.Sequence), Text: "Bash: make", Outcome: models.Answered, By: "PostToolUse", Answer: "yes"}}
	record(t, j, st, answered)
}

func TestBackupAndOpenRefuseUnsuitableDirectories(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	j, _, err := openAndReplay(t, nil, dir)
	require.NoError(t, err)
	require.NoError(t, j.Backup(filepath.Join(filepath.Dir(dir), "copy")))
	require.ErrorContains(t, j.Backup(filepath.Join(filepath.Dir(dir), "copy")), "already exists")
	require.ErrorContains(t, j.Backup("copy"), "is not an absolute path")
	require.NoError(t, j.Close())
	require.ErrorIs(t, j.Backup(filepath.Join(filepath.Dir(dir), "late")), ErrClosed)
	require.NoError(t, os.WriteFile(dir+".file", nil, 0o600))
	_, err = Open(Options{Dir: dir + ".file", Logger: slog.New(slog.DiscardHandler)})
	require.ErrorContains(t, err, "DATA_DIR")
	require.True(t, slices.ContainsFunc([]string{"is not a directory", "not a directory"}, func(s string) bool { return strings.Contains(err.Error(), s) }), err)
}
