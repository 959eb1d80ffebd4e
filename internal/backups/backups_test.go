package backups_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/backups"
	"github.com/kubeagents/kubeagents/internal/datadir"
	"github.com/kubeagents/kubeagents/internal/journal"
)

// made is a journal with two logs and a table, as a backup has them.
const made = "../journal/testdata/v6/data"

// files returns the content of the files in a directory by name, without the one by which a server locks it.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if e.Name() == "LOCK" {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, e.Name())) //nolint:gosec // in a directory of the test
		require.NoError(t, err)
		all[e.Name()] = string(content)
	}
	require.NotEmpty(t, all)
	return all
}

// entry is a file in an archive.
type entry struct {
	header  tar.Header
	content string
}

// archiveOf returns a tar archive.
func archiveOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, e := range entries {
		e.header.Mode, e.header.Format = 0o777, tar.FormatUSTAR
		if e.header.Typeflag == 0 {
			e.header.Typeflag, e.header.Size = tar.TypeReg, int64(len(e.content))
		}
		require.NoError(t, w.WriteHeader(&e.header))
		_, err := io.WriteString(w, e.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return archive.Bytes()
}

// entriesOf returns the files of a backup as a server sends them.
func entriesOf(t *testing.T) (entries []entry) {
	t.Helper()
	for name, content := range files(t, made) {
		entries = append(entries, entry{tar.Header{Name: name}, content})
	}
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare([]byte(a.header.Name), []byte(b.header.Name)) })
	return entries
}

// receive receives an archive in an empty folder. If that fails, nothing may be left.
func receive(t *testing.T, archive io.Reader) (dir string, err error) {
	t.Helper()
	folder := t.TempDir()
	dir = filepath.Join(folder, "new")
	if err = backups.Receive(t.Context(), archive, dir); err != nil {
		left, failed := os.ReadDir(folder)
		require.NoError(t, failed)
		require.Empty(t, left)
	}
	return dir, err
}

func TestReceive(t *testing.T) {
	dir, err := receive(t, bytes.NewReader(archiveOf(t, entriesOf(t)...)))
	require.NoError(t, err)
	require.Equal(t, files(t, made), files(t, dir))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode(), e.Name())
	}
}

// TestReceiveNoticesACutArchive cuts an archive off after each of its blocks, and within them, as a proxy does that does
// not pass on that a response broke off.
func TestReceiveNoticesACutArchive(t *testing.T) {
	archive := archiveOf(t, entriesOf(t)...)
	for at := 0; at < len(archive); at += 512 {
		for _, at := range []int{at, at + 100} {
			_, err := receive(t, bytes.NewReader(archive[:at]))
			require.Error(t, err, "cut off after %d of %d bytes", at, len(archive))
		}
	}
	_, err := receive(t, bytes.NewReader(archive[:len(archive)-1024]))
	require.ErrorContains(t, err, "the backup broke off: the archive is not complete")
}

// TestReceiveNoticesABrokenStream lets the stream break off after each of several parts, even after all of it.
func TestReceiveNoticesABrokenStream(t *testing.T) {
	archive := archiveOf(t, entriesOf(t)...)
	for _, at := range []int{0, 1, 512, 513, len(archive) / 2, len(archive) - 1024, len(archive)} {
		broken := io.MultiReader(bytes.NewReader(archive[:at]), failingReader{})
		_, err := receive(t, broken)
		require.ErrorContains(t, err, "the backup broke off: connection reset", "after %d bytes", at)
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// TestReceiveRefusesWhatIsNoBackup receives archives that would write elsewhere, that fill the disk, and that are damaged.
func TestReceiveRefusesWhatIsNoBackup(t *testing.T) {
	whole := entriesOf(t)
	with := func(header tar.Header) []byte {
		return archiveOf(t, append(slices.Clone(whole), entry{header: header})...)
	}
	damaged := func(name string, change func(content []byte) []byte) []byte {
		entries := slices.Clone(whole)
		i := slices.IndexFunc(entries, func(e entry) bool { return e.header.Name == name })
		entries[i].content = string(change([]byte(entries[i].content)))
		return archiveOf(t, entries...)
	}
	without := func(name string) []byte {
		return archiveOf(t, slices.DeleteFunc(slices.Clone(whole), func(e entry) bool { return e.header.Name == name })...)
	}
	flip := func(content []byte) []byte { content[len(content)/3] ^= 1; return content }
	var huge bytes.Buffer
	require.NoError(t, tar.NewWriter(&huge).WriteHeader(&tar.Header{Name: "000001.log", Size: 1 << 60, Mode: 0o600, Format: tar.FormatGNU}))
	for name, test := range map[string]struct {
		archive []byte
		want    string
	}{
		"a path that leaves":       {with(tar.Header{Name: "../000009.log"}), `it contains "../000009.log"`},
		"an absolute path":         {with(tar.Header{Name: "/000009.log"}), `it contains "/000009.log"`},
		"a path with a directory":  {with(tar.Header{Name: "a/000009.log"}), `it contains "a/000009.log"`},
		"a path of Windows":        {with(tar.Header{Name: `c:\000009.log`}), `it contains "c:\\000009.log"`},
		"a directory":              {with(tar.Header{Name: "a", Typeflag: tar.TypeDir}), `it contains "a"`},
		"the parent directory":     {with(tar.Header{Name: ".."}), `it contains ".."`},
		"a symbolic link":          {with(tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/etc"}), `it contains "a"`},
		"a hard link":              {with(tar.Header{Name: "a", Typeflag: tar.TypeLink, Linkname: "000002.log"}), `it contains "a"`},
		"a pipe":                   {with(tar.Header{Name: "a", Typeflag: tar.TypeFifo}), `it contains "a"`},
		"a file twice":             {with(tar.Header{Name: "000002.log"}), "exist"},
		"a file beyond the disk":   {huge.Bytes(), "is full: it has room for"},
		"more than an archive":     {append(archiveOf(t, whole...), make([]byte, 2<<20)...), "it goes on after the end of the archive"},
		"nothing":                  {archiveOf(t), "empty archive"},
		"text":                     {bytes.Repeat([]byte("<html>"), 1000), "something that is no backup"},
		"other files":              {archiveOf(t, entry{tar.Header{Name: "notes.txt"}, "hello"}), "contains no journal"},
		"a table that is damaged":  {damaged("000005.sst", flip), "is damaged"},
		"a table that is cut off":  {damaged("000005.sst", func(content []byte) []byte { return content[:100] }), "000005: object size mismatch"},
		"a table that is missing":  {without("000005.sst"), "file does not exist"},
		"a manifest that is empty": {damaged("MANIFEST-000001", func([]byte) []byte { return nil }), "MANIFEST"},
		"no manifest":              {without("MANIFEST-000001"), "MANIFEST"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := receive(t, bytes.NewReader(test.archive))
			require.ErrorContains(t, err, test.want)
		})
	}
}

// TestFolderKeepsTheNewest keeps some of the backups in a folder, even if the clock has gone back.
func TestFolderKeepsTheNewest(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	for name, test := range map[string]struct {
		keep int
		now  time.Time
		want []string
	}{
		"more than there are":      {9, now, []string{"20251231T235959Z", "20260101T000000Z", "20260102T020405Z", "20260201T000000Z"}},
		"as many as there are":     {4, now, []string{"20251231T235959Z", "20260101T000000Z", "20260102T020405Z", "20260201T000000Z"}},
		"two":                      {2, now, []string{"20260102T020405Z", "20260201T000000Z"}},
		"one":                      {1, now, []string{"20260102T020405Z"}},
		"after the clock has gone": {2, now.AddDate(-1, 0, 0), []string{"20250102T020405Z", "20260201T000000Z"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			folder, err := backups.OpenFolder(dir)
			require.NoError(t, err)
			newest := folder.New(test.now)
			for _, path := range []string{"20251231T235959Z", "20260101T000000Z", "20260201T000000Z"} {
				require.NoError(t, os.MkdirAll(filepath.Join(dir, path, "content"), 0o700))
			}
			require.NoError(t, os.Mkdir(newest, 0o700))
			_, err = folder.Keep(test.keep, newest)
			require.NoError(t, err)
			require.NoError(t, folder.Close())
			var left []string
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			for _, e := range entries {
				if e.IsDir() {
					left = append(left, e.Name())
				}
			}
			require.Equal(t, test.want, left)
		})
	}
}

// TestFoldersThatCantBeUsed names folders that don't exist and that are none.
func TestFoldersThatCantBeUsed(t *testing.T) {
	dir := t.TempDir()
	_, err := backups.OpenFolder(filepath.Join(dir, "none"))
	require.ErrorContains(t, err, "make it first, or choose another one")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	_, err = backups.OpenFolder(filepath.Join(dir, "file"))
	require.ErrorContains(t, err, "is not a folder")
}

// copyOf returns a copy of the backup, without the file by which a server locks its state.
func copyOf(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "backup")
	require.NoError(t, os.CopyFS(dir, os.DirFS(made)))
	require.NoError(t, os.Remove(filepath.Join(dir, "LOCK")))
	return dir
}

// TestRestore restores a backup, and a copy of the directory of a server that keeps its state in a folder in it.
func TestRestore(t *testing.T) {
	outer := filepath.Join(t.TempDir(), "copied")
	require.NoError(t, os.MkdirAll(outer, 0o700))
	require.NoError(t, os.CopyFS(filepath.Join(outer, datadir.Folder), os.DirFS(made)))
	for _, backup := range []string{copyOf(t), made, outer} {
		dir := filepath.Join(t.TempDir(), "a", "data")
		require.NoError(t, backups.Restore(t.Context(), backup, dir))
		home := datadir.Find(dir)
		require.Equal(t, filepath.Join(dir, datadir.Folder), home)
		require.Equal(t, files(t, made), files(t, home))
		require.NoError(t, journal.Check(t.Context(), home))
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, left, 1)
	}
}

// TestRestoreRefuses restores what is no backup, or damaged. DATA_DIR stays empty.
func TestRestoreRefuses(t *testing.T) {
	damaged := copyOf(t)
	require.NoError(t, os.Truncate(filepath.Join(damaged, "000005.sst"), 1000))
	incomplete := copyOf(t)
	require.NoError(t, os.Remove(filepath.Join(incomplete, "000005.sst")))
	for backup, want := range map[string]string{
		damaged:                               damaged + " can't be restored: read the journal in ",
		incomplete:                            incomplete + " can't be restored: ",
		t.TempDir():                           "is no backup",
		filepath.Join(t.TempDir(), "nowhere"): "there is no backup ",
	} {
		dir := t.TempDir()
		require.ErrorContains(t, backups.Restore(t.Context(), backup, dir), want)
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

// TestReplace checks that a backup takes the place of a state, unless it is damaged.
func TestReplace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	require.NoError(t, backups.Replace(t.Context(), bytes.NewReader(archiveOf(t, entriesOf(t)...)), dir))
	require.Equal(t, files(t, made), files(t, filepath.Join(dir, "kubeagents")))
	damaged := entriesOf(t)
	for i := range damaged {
		if strings.HasSuffix(damaged[i].header.Name, ".sst") {
			damaged[i].content = strings.Repeat("x", len(damaged[i].content))
		}
	}
	require.Error(t, backups.Replace(t.Context(), bytes.NewReader(archiveOf(t, damaged...)), dir))
	require.Equal(t, files(t, made), files(t, filepath.Join(dir, "kubeagents")))
}
