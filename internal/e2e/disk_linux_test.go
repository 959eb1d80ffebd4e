package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/command"
	"github.com/kubeagents/kubeagents/models"
)

// badDisk is a data directory that a test can make fail.
type badDisk struct {
	dir    string // DATA_DIR
	fail   func() error
	repair func() error
	cause  string              // what /health shows about the failure
	user   *syscall.Credential // whom the program runs as; nil for the user of the tests
}

// badDisks are the ways in which a disk fails while the program runs.
var badDisks = map[string]func(t *testing.T) badDisk{
	"the directory is moved away": func(t *testing.T) badDisk {
		dir := filepath.Join(t.TempDir(), "data")
		return badDisk{dir: dir, cause: "gone",
			fail:   func() error { return os.Rename(dir, dir+".away") },
			repair: func() error { return os.Rename(dir+".away", dir) },
		}
	},
	"an empty directory takes its place": func(t *testing.T) badDisk {
		dir := filepath.Join(t.TempDir(), "data")
		return badDisk{dir: dir, cause: "DATA_DIR",
			fail: func() error {
				if err := os.Rename(dir, dir+".away"); err != nil {
					return err
				}
				return os.Mkdir(dir, 0o700)
			},
			repair: func() error {
				if err := os.RemoveAll(dir); err != nil {
					return err
				}
				return os.Rename(dir+".away", dir)
			},
		}
	},
	"it is not writable": func(t *testing.T) badDisk {
		open, err := os.MkdirTemp("", "") // other users can't enter t.TempDir
		require.NoError(t, err)
		t.Cleanup(func() { os.RemoveAll(open) }) //nolint:errcheck // it is a temporary directory
		require.NoError(t, os.Chmod(open, 0o755))
		dir := filepath.Join(open, "data")
		disk := badDisk{dir: dir, cause: "is not writable",
			fail:   func() error { return os.Chmod(dir, 0o500) },
			repair: func() error { return os.Chmod(dir, 0o700) },
		}
		if os.Geteuid() == 0 { // root may write regardless of the mode
			disk.user = &syscall.Credential{Uid: 65534, Gid: 65534}
			require.NoError(t, os.Mkdir(dir, 0o700))
			require.NoError(t, os.Chown(dir, 65534, 65534))
		}
		return disk
	},
	"it is immutable": func(t *testing.T) badDisk {
		dir := filepath.Join(t.TempDir(), "data")
		attribute := func(change string) error { return exec.Command("chattr", change, dir).Run() }
		require.NoError(t, os.Mkdir(dir, 0o700))
		if attribute("+i") != nil || attribute("-i") != nil {
			t.Skip("chattr +i does not work: run this as root, on a file system that supports it, such as ext4")
		}
		t.Cleanup(func() { attribute("-i") }) //nolint:errcheck // the test removes it already
		return badDisk{dir: dir, cause: "is not writable",
			fail:   func() error { return attribute("+i") },
			repair: func() error { return attribute("-i") },
		}
	},
	"it has no inodes left": func(t *testing.T) badDisk {
		volume := mountTemporary(t, "nr_inodes=300")
		ballast := filepath.Join(volume, "ballast")
		return badDisk{dir: filepath.Join(volume, "data"), cause: "full",
			fail:   func() error { return fillInodes(ballast) },
			repair: func() error { return os.RemoveAll(ballast) },
		}
	},
	"its volume is unmounted": func(t *testing.T) badDisk {
		volume, at := mountTemporary(t, "size=1g"), t.TempDir()
		mount := func() error { return syscall.Mount(volume, at, "", syscall.MS_BIND, "") }
		require.NoError(t, mount())
		t.Cleanup(func() { syscall.Unmount(at, syscall.MNT_DETACH) }) //nolint:errcheck // it may not be mounted
		return badDisk{dir: filepath.Join(at, "data"), cause: "gone",
			fail:   func() error { return syscall.Unmount(at, syscall.MNT_DETACH) },
			repair: mount,
		}
	},
	"it is a volume that is unmounted": func(t *testing.T) badDisk {
		volume, at := mountTemporary(t, "size=1g,mode=0700"), t.TempDir()
		mount := func() error { return syscall.Mount(volume, at, "", syscall.MS_BIND, "") }
		require.NoError(t, mount())
		t.Cleanup(func() { syscall.Unmount(at, syscall.MNT_DETACH) }) //nolint:errcheck // it may not be mounted
		return badDisk{dir: at, cause: "DATA_DIR",
			fail:   func() error { return syscall.Unmount(at, syscall.MNT_DETACH) },
			repair: mount,
		}
	},
}

// mountTemporary mounts an in-memory file system and unmounts it when the test ends.
func mountTemporary(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("can't mount a file system: %v; run this as root", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// fillInodes creates files in a directory until no inodes are left.
func fillInodes(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for i := 0; ; i++ {
		file, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return nil
		}
		file.Close() //nolint:errcheck // it is empty
	}
}

// diskRounds is how often TestProgramOnABadDisk makes each disk fail, unless KUBEAGENTS_DISK_ROUNDS specifies another
// number.
const diskRounds = 2

// TestProgramOnABadDisk repeatedly makes the disk of a program fail under load and repairs it, in each way. Meanwhile,
// reports must be refused with the cause, and reads must still work. No acknowledged report may be lost.
func TestProgramOnABadDisk(t *testing.T) {
	for name, prepare := range badDisks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := prepare(t)
			writers := make([]*writer, 4)
			for i := range writers {
				writers[i] = &writer{agentID: "a", topic: fmt.Sprint(i), content: strings.Repeat("x", 9_000), atOnce: 10}
			}
			p := disk.start(t)
			for range rounds(t, "KUBEAGENTS_DISK_ROUNDS", diskRounds) {
				disk.failUnderLoad(t, p, writers)
			}
			requireWritten(t, p, writers)
			require.Zero(t, p.stop(t), "%s", p.stderr)
			assert.NotContains(t, p.stderr.String(), "panic")
			p = disk.start(t)
			requireWritten(t, p, writers)
			require.Zero(t, p.stop(t), "%s", p.stderr)
		})
	}
}

// start starts the program on the disk.
func (d *badDisk) start(t *testing.T) *process {
	t.Helper()
	path := program()
	if d.user != nil { // that user can't read the directory of the binary
		path = filepath.Join(filepath.Dir(d.dir), "program")
		if _, err := os.Stat(path); err != nil {
			binary, err := os.ReadFile(program())
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, binary, 0o755))
		}
	}
	return startAs(t, path, d.user, "DATA_DIR="+d.dir, "HISTORY_LIMIT=20")
}

// failUnderLoad makes the disk fail while writers report, and repairs it when all of them have been refused. It returns
// when the reports of all of them are accepted again.
func (d *badDisk) failUnderLoad(t *testing.T, p *process, writers []*writer) {
	t.Helper()
	var accepted, refused sync.WaitGroup
	var repaired atomic.Bool
	accepted.Add(len(writers))
	refused.Add(len(writers))
	var all sync.WaitGroup
	for _, w := range writers {
		all.Go(func() { w.reportUntilRecovered(t, p, &accepted, &refused, &repaired) })
	}
	accepted.Wait()
	require.NoError(t, d.fail())
	refused.Wait()
	status, health := fetch(t, p, "/health")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Contains(t, health, `"cause":"`)
	assert.Contains(t, health, d.cause)
	status, _ = fetch(t, p, "/api/agents")
	assert.Equal(t, http.StatusOK, status, "reads still work")
	status, detail := fetch(t, p, "/api/agents/a/sessions/0?limit=10")
	assert.Equal(t, http.StatusOK, status, "reads still work: %s", detail)
	require.NoError(t, d.repair())
	repaired.Store(true)
	all.Wait()
}

// reportUntilRecovered reports until some reports have been accepted, then one has been refused, and then, with the
// disk repaired, one has been accepted again.
func (w *writer) reportUntilRecovered(t *testing.T, p *process, accepted, refused *sync.WaitGroup, repaired *atomic.Bool) {
	client := http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	signalAccepted, signalRefused := sync.OnceFunc(accepted.Done), sync.OnceFunc(refused.Done)
	defer signalAccepted()
	defer signalRefused()
	for n, wasRefused := 0, false; ; n++ {
		recovered := repaired.Load()
		status, err := w.post(&client, p.address)
		if !assert.NoError(t, err, "%s", p.stderr) || !assert.Contains(t, []int{200, 503}, status) || !assert.Less(t, n, 100_000) {
			return
		}
		switch {
		case status == http.StatusServiceUnavailable:
			wasRefused = true
			signalRefused()
		case recovered && wasRefused:
			return
		case n == 2:
			signalAccepted()
		}
	}
}

// TestProgramWithDeletedDirectory deletes the data directory of a running program. The program must refuse reports and
// still serve reads. When it is started again, it begins with an empty directory.
func TestProgramWithDeletedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, "DATA_DIR="+dir, "HISTORY_LIMIT=5")
	w := &writer{agentID: "a", topic: "t"}
	for range 20 {
		require.True(t, w.report(http.DefaultClient, p.address))
	}
	require.NoError(t, os.RemoveAll(dir))
	for range 3 {
		status, err := w.post(http.DefaultClient, p.address)
		require.NoError(t, err)
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.NoError(t, os.MkdirAll(dir, 0o700)) // a new directory is not the old one
	}
	status, health := fetch(t, p, "/health")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, health, "DATA_DIR")
	status, _ = fetch(t, p, "/api/agents/a/sessions/t?limit=5")
	require.Equal(t, http.StatusOK, status, "reads of what is in memory still work")
	require.Zero(t, p.stop(t), "%s", p.stderr)
	require.NotContains(t, p.stderr.String(), "panic")
	p = start(t, "DATA_DIR="+dir)
	require.True(t, (&writer{agentID: "a", topic: "t"}).report(http.DefaultClient, p.address))
	require.Zero(t, p.stop(t))
}

// fetch returns the status and the body of the response to a GET request.
func fetch(t *testing.T, p *process, target string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + p.address + target)
	require.NoError(t, err, "%s", p.stderr)
	defer resp.Body.Close() //nolint:errcheck // it is read to the end
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// TestProgramOnAFullDisk fills the disk of a program, and then frees some space again.
func TestProgramOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m")
	if err != nil {
		t.Skipf("can't mount a file system: %v; run this as root", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	ballast := filepath.Join(dir, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 10<<20), 0o600))
	settings := []string{"DATA_DIR=" + filepath.Join(dir, "data"), "HISTORY_LIMIT=10"}
	p := start(t, settings...)

	n, code := 0, 0
	post := func() int {
		body := fmt.Sprintf(`{"agent_id":"a","session_topic":"t","status":"running","message":"%d","content":"%s"}`, n, strings.Repeat("x", 10_000))
		resp, err := http.Post("http://"+p.address+"/webhook/status", "application/json", strings.NewReader(body))
		require.NoError(t, err, "%s", p.stderr)
		defer resp.Body.Close() //nolint:errcheck // only the status matters
		if resp.StatusCode == http.StatusOK {
			n++
		} else {
			require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
			require.NotEmpty(t, resp.Header.Get("Retry-After"))
		}
		return resp.StatusCode
	}
	for code != http.StatusServiceUnavailable {
		code = post()
		require.Less(t, n, 5000, "the disk does not fill up")
	}
	resp, err := http.Get("http://" + p.address + "/health")
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Contains(t, string(body), "the disk of DATA_DIR is full")
	var detail struct {
		Session       models.Session
		StatusHistory []models.AgentStatus `json:"status_history"`
	}
	p.get(t, "/api/agents/a/sessions/t?limit=10", &detail)
	require.Equal(t, strconv.Itoa(n-1), detail.Session.CurrentMessage)

	require.NoError(t, os.Remove(ballast))
	for code != http.StatusOK {
		code = post()
	}
	for range 20 {
		require.Equal(t, http.StatusOK, post())
	}
	check := func() {
		var all []models.AgentStatus
		for target := "/api/agents/a/sessions/t?limit=100"; target != ""; {
			next := p.get(t, target, &detail)
			all = append(all, detail.StatusHistory...)
			detail.StatusHistory, target = nil, next
		}
		require.Len(t, all, n)
		for i, st := range all {
			require.Equal(t, strconv.Itoa(n-1-i), st.Message)
		}
	}
	check()
	p.kill(t)
	p = start(t, settings...)
	check()
	require.Zero(t, p.stop(t), "%s", p.stderr)
	require.NotContains(t, p.stderr.String(), "panic")
}

// TestBackupAndRestoreOnAFullDisk fetches and restores a backup on disks that are too small for it. Nothing is left.
func TestBackupAndRestoreOnAFullDisk(t *testing.T) {
	tokens, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	whole := filepath.Join(t.TempDir(), "backup")
	p := start(t, "TOKENS_FILE="+tokens, "DATA_DIR="+filepath.Join(t.TempDir(), "data"))
	content := strings.Repeat("x", 9_000)
	teamClient{holders["reports"], p}.batch(t, 500, func(i int) string {
		return fmt.Sprintf(`{"agent_id":"a","session_topic":"%d","status":"running","content":%q}`, i, content)
	})
	fetch := []string{"KUBEAGENTS_TOKEN=" + holders["admin"].Token}
	status, output := runProgram(t, fetch, "backup", "-server", "http://"+p.address, whole)
	require.Zero(t, status, output)
	for options, want := range map[string]string{"size=2m": "the disk of ", "size=16m,nr_inodes=5": "no space left on device"} {
		small := mountTemporary(t, options)
		status, output = runProgram(t, fetch, "backup", "-server", "http://"+p.address, "-keep", "1", small)
		require.Equal(t, command.ExitFailure, status, output)
		require.Contains(t, output, want)
		require.Equal(t, []string{".lock"}, namesIn(t, small))
		require.NoError(t, os.Remove(filepath.Join(small, ".lock")))
		status, output = runProgram(t, []string{"DATA_DIR=" + small}, "restore", whole)
		require.Equal(t, command.ExitFailure, status, output)
		require.Contains(t, output, "no space left on device")
		require.Empty(t, namesIn(t, small))
	}
	require.Zero(t, p.stop(t))
}

// TestProgramAtAFileSizeLimit lets a file in the data directory reach the limit RLIMIT_FSIZE.
func TestProgramAtAFileSizeLimit(t *testing.T) {
	var before, limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	limit = before
	limit.Cur = 1 << 20
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)) // the program inherits it
	p := start(t, "DATA_DIR="+filepath.Join(t.TempDir(), "data"))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before))
	accepted, refused := 0, 0
	for refused == 0 || accepted == 0 {
		body := fmt.Sprintf(`{"agent_id":"a","session_topic":"t","status":"running","content":"%s"}`, strings.Repeat("y", 9_000))
		resp, err := http.Post("http://"+p.address+"/webhook/status", "application/json", strings.NewReader(body))
		require.NoError(t, err, "%s", p.stderr)
		require.NoError(t, resp.Body.Close())
		if resp.StatusCode == http.StatusOK {
			accepted++
		} else {
			refused++
		}
		require.Less(t, accepted, 5000)
	}
	p.get(t, "/api/agents", new(any))
	require.Zero(t, p.stop(t), "%s", p.stderr)
	require.Contains(t, p.stderr.String(), "reached the size that the system allows")
}
