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

	"github.com/kubeagents/kubeagents/models"
)

// badDisk is a data directory that can be made to fail.
type badDisk struct {
	dir   string // DATA_DIR
	fail  func() error
	mend  func() error
	cause string // that /health shows, once it fails; "" for any
	user  *syscall.Credential
}

// badDisks are the ways in which a disk fails while the program runs.
var badDisks = map[string]func(t *testing.T) badDisk{
	"the directory is moved away": func(t *testing.T) badDisk {
		dir := filepath.Join(t.TempDir(), "data")
		return badDisk{dir: dir, cause: "gone",
			fail: func() error { return os.Rename(dir, dir+".away") },
			mend: func() error { return os.Rename(dir+".away", dir) },
		}
	},
	"an empty directory is in its place": func(t *testing.T) badDisk {
		dir := filepath.Join(t.TempDir(), "data")
		return badDisk{dir: dir, cause: "DATA_DIR",
			fail: func() error {
				if err := os.Rename(dir, dir+".away"); err != nil {
					return err
				}
				return os.Mkdir(dir, 0o700)
			},
			mend: func() error {
				if err := os.RemoveAll(dir); err != nil {
					return err
				}
				return os.Rename(dir+".away", dir)
			},
		}
	},
	"it may not be written": func(t *testing.T) badDisk {
		open, err := os.MkdirTemp("", "") // no other user gets at t.TempDir
		require.NoError(t, err)
		t.Cleanup(func() { os.RemoveAll(open) }) //nolint:errcheck // it is temporary
		require.NoError(t, os.Chmod(open, 0o755))
		dir := filepath.Join(open, "data")
		disk := badDisk{dir: dir, cause: "is not writable",
			fail: func() error { return os.Chmod(dir, 0o500) },
			mend: func() error { return os.Chmod(dir, 0o700) },
		}
		if os.Geteuid() == 0 { // whom no mode keeps from anything
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
			t.Skip("chattr +i is needed; run this as root, on a file system that has it, such as ext4")
		}
		t.Cleanup(func() { attribute("-i") }) //nolint:errcheck // it is mended already
		return badDisk{dir: dir, cause: "is not writable",
			fail: func() error { return attribute("+i") },
			mend: func() error { return attribute("-i") },
		}
	},
	"it has no inodes left": func(t *testing.T) badDisk {
		volume := mountTemporary(t, "nr_inodes=300")
		ballast := filepath.Join(volume, "ballast")
		return badDisk{dir: filepath.Join(volume, "data"), cause: "full",
			fail: func() error { return fillInodes(ballast) },
			mend: func() error { return os.RemoveAll(ballast) },
		}
	},
	"its volume is unmounted": func(t *testing.T) badDisk {
		volume, at := mountTemporary(t, "size=1g"), t.TempDir()
		mount := func() error { return syscall.Mount(volume, at, "", syscall.MS_BIND, "") }
		require.NoError(t, mount())
		t.Cleanup(func() { syscall.Unmount(at, syscall.MNT_DETACH) }) //nolint:errcheck // if it is mounted
		return badDisk{dir: filepath.Join(at, "data"), cause: "gone",
			fail: func() error { return syscall.Unmount(at, syscall.MNT_DETACH) },
			mend: mount,
		}
	},
	"its volume is unmounted, and was the directory": func(t *testing.T) badDisk {
		volume, at := mountTemporary(t, "size=1g,mode=0700"), t.TempDir()
		mount := func() error { return syscall.Mount(volume, at, "", syscall.MS_BIND, "") }
		require.NoError(t, mount())
		t.Cleanup(func() { syscall.Unmount(at, syscall.MNT_DETACH) }) //nolint:errcheck // if it is mounted
		return badDisk{dir: at, cause: "DATA_DIR",
			fail: func() error { return syscall.Unmount(at, syscall.MNT_DETACH) },
			mend: mount,
		}
	},
}

// mountTemporary mounts a file system in memory for the time of the test.
func mountTemporary(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("a file system of its own is needed, and mounting one: %v; run this as root", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// fillInodes makes files in a directory until there can be no more.
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

// diskRounds is how often TestProgramOnABadDisk has each disk fail; KUBEAGENTS_DISK_ROUNDS says another number.
const diskRounds = 2

// TestProgramOnABadDisk has the disk of a program fail in each way under load, and come back, again and again: reports are refused with
// the cause, reads go on, and nothing acknowledged is lost.
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

// start starts a program on the disk.
func (d *badDisk) start(t *testing.T) *process {
	t.Helper()
	path := program()
	if d.user != nil { // who may not read where the binary is
		path = filepath.Join(filepath.Dir(d.dir), "program")
		if _, err := os.Stat(path); err != nil {
			binary, err := os.ReadFile(program())
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, binary, 0o755))
		}
	}
	p := startAs(t, path, d.user, "DATA_DIR="+d.dir, "HISTORY_LIMIT=20")
	p.ready(t)
	return p
}

// failUnderLoad has the disk fail while writers report, until all of them are refused, and come back, until all of them are not.
func (d *badDisk) failUnderLoad(t *testing.T, p *process, writers []*writer) {
	t.Helper()
	var taken, refused sync.WaitGroup
	var mended atomic.Bool
	taken.Add(len(writers))
	refused.Add(len(writers))
	var all sync.WaitGroup
	for _, w := range writers {
		all.Go(func() { w.reportThrough(t, p, &taken, &refused, &mended) })
	}
	taken.Wait()
	require.NoError(t, d.fail())
	refused.Wait()
	status, health := fetch(t, p, "/health")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Contains(t, health, `"cause":"`)
	assert.Contains(t, health, d.cause)
	status, _ = fetch(t, p, "/api/agents")
	assert.Equal(t, http.StatusOK, status, "reads go on")
	status, detail := fetch(t, p, "/api/agents/a/sessions/0?limit=10")
	assert.Equal(t, http.StatusOK, status, "reads go on: %s", detail)
	require.NoError(t, d.mend())
	mended.Store(true)
	all.Wait()
}

// reportThrough reports until some reports were taken, then one was refused, and, once the disk is mended, one was taken.
func (w *writer) reportThrough(t *testing.T, p *process, taken, refused *sync.WaitGroup, mended *atomic.Bool) {
	client := http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	begun, failed := sync.OnceFunc(taken.Done), sync.OnceFunc(refused.Done)
	defer begun()
	defer failed()
	for n, wasRefused := 0, false; ; n++ {
		over := mended.Load()
		status, err := w.post(&client, p.address)
		if !assert.NoError(t, err, "%s", p.stderr) || !assert.Contains(t, []int{200, 503}, status) || !assert.Less(t, n, 100_000) {
			return
		}
		switch {
		case status == http.StatusServiceUnavailable:
			wasRefused = true
			failed()
		case over && wasRefused:
			return
		case n == 2:
			begun()
		}
	}
}

// TestProgramWhoseDirectoryIsDeleted deletes the data directory of a program: it takes no reports any more, but goes on to answer reads,
// and begins anew when it is started again.
func TestProgramWhoseDirectoryIsDeleted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, "DATA_DIR="+dir, "HISTORY_LIMIT=5")
	p.ready(t)
	w := &writer{agentID: "a", topic: "t"}
	for range 20 {
		require.True(t, w.report(http.DefaultClient, p.address))
	}
	require.NoError(t, os.RemoveAll(dir))
	for range 3 {
		status, err := w.post(http.DefaultClient, p.address)
		require.NoError(t, err)
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.NoError(t, os.MkdirAll(dir, 0o700)) // which does not make it what it was
	}
	status, health := fetch(t, p, "/health")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, health, "DATA_DIR")
	status, _ = fetch(t, p, "/api/agents/a/sessions/t?limit=5")
	require.Equal(t, http.StatusOK, status, "reads of what memory holds go on")
	require.Zero(t, p.stop(t), "%s", p.stderr)
	require.NotContains(t, p.stderr.String(), "panic")
	p = start(t, "DATA_DIR="+dir)
	p.ready(t)
	require.True(t, (&writer{agentID: "a", topic: "t"}).report(http.DefaultClient, p.address))
	require.Zero(t, p.stop(t))
}

// fetch returns the status and the text of an answer.
func fetch(t *testing.T, p *process, target string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + p.address + target)
	require.NoError(t, err, "%s", p.stderr)
	defer resp.Body.Close() //nolint:errcheck // it is read whole
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// TestProgramOnAFullDisk fills the disk of a program, and makes room again.
func TestProgramOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m")
	if err != nil {
		t.Skipf("a file system of its own is needed, and mounting one: %v; run this as root", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	ballast := filepath.Join(dir, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 10<<20), 0o600))
	settings := []string{"DATA_DIR=" + filepath.Join(dir, "data"), "HISTORY_LIMIT=10"}
	p := start(t, settings...)
	p.ready(t)

	n, code := 0, 0
	post := func() int {
		body := fmt.Sprintf(`{"agent_id":"a","session_topic":"t","status":"running","message":"%d","content":"%s"}`, n, strings.Repeat("x", 10_000))
		resp, err := http.Post("http://"+p.address+"/webhook/status", "application/json", strings.NewReader(body))
		require.NoError(t, err, "%s", p.stderr)
		defer resp.Body.Close() //nolint:errcheck // only its status is asked for
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
		require.Less(t, n, 5000, "the disk is never full")
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
	p.ready(t)
	check()
	require.Zero(t, p.stop(t), "%s", p.stderr)
	require.NotContains(t, p.stderr.String(), "panic")
}

// TestProgramAtAFileSizeLimit has a file in the data directory reach the size that the system allows.
func TestProgramAtAFileSizeLimit(t *testing.T) {
	var before, limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	limit = before
	limit.Cur = 1 << 20
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)) // the program inherits it
	p := start(t, "DATA_DIR="+filepath.Join(t.TempDir(), "data"))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before))
	p.ready(t)
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
