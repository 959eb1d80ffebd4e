//go:build unix

package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/command"
)

// unprivileged is a user who is not root, and where that user finds the program.
type unprivileged struct {
	dir     string // others can enter it
	program string
	user    *syscall.Credential // nil for the user of the tests
}

// nobody is the user that the program runs as where the tests run as root.
const nobody = 65534

func newUnprivileged(t *testing.T) *unprivileged {
	t.Helper()
	dir, err := os.MkdirTemp("", "") // other users can't enter t.TempDir
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // it is a temporary directory
	require.NoError(t, os.Chmod(dir, 0o755))
	u := &unprivileged{dir: dir, program: filepath.Join(dir, "program")}
	binary, err := os.ReadFile(program())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(u.program, binary, 0o755))
	if os.Geteuid() == 0 {
		u.user = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return u
}

// run runs the program as the user until it exits.
func (u *unprivileged) run(t *testing.T, environment []string, args ...string) (int, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), u.program, args...)
	cmd.Env = append(os.Environ(), environment...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: u.user}
	out, _ := cmd.CombinedOutput() //nolint:errcheck // the caller gets the exit status
	return cmd.ProcessState.ExitCode(), string(out)
}

// mkdir makes a directory of a mode that belongs to the user, and returns its path.
func (u *unprivileged) mkdir(t *testing.T, name string, mode os.FileMode) string {
	t.Helper()
	dir := filepath.Join(u.dir, name)
	require.NoError(t, os.Mkdir(dir, 0o700))
	if u.user != nil {
		require.NoError(t, os.Chown(dir, nobody, nobody))
	}
	require.NoError(t, os.Chmod(dir, mode))
	t.Cleanup(func() { os.Chmod(dir, 0o700) }) //nolint:errcheck // so that it can be removed
	return dir
}

// TestADataDirWithoutPermission starts the program as a user who may not use DATA_DIR.
func TestADataDirWithoutPermission(t *testing.T) {
	u := newUnprivileged(t)
	readOnly, shared, closed := u.mkdir(t, "read-only", 0o500), u.mkdir(t, "shared", 0o555), u.mkdir(t, "closed", 0)
	for dir, at := range map[string]string{
		readOnly:                        filepath.Join(readOnly, "LOCK"),
		filepath.Join(readOnly, "data"): filepath.Join(readOnly, "data"),
		shared:                          filepath.Join(shared, "kubeagents"),
		filepath.Join(closed, "data"):   filepath.Join(closed, "data"),
	} {
		status, output := u.run(t, []string{"HOST=127.0.0.1", "PORT=0", "DATA_DIR=" + dir})
		require.Equal(t, command.ExitUsage, status, output)
		require.Contains(t, output, "this user may not use DATA_DIR "+dir+" (permission denied: "+at+
			"): let the server's user own that directory and what is in it, or set DATA_DIR to another directory")
	}
}

// TestAPortWithoutPermission starts the program on a port that only root may listen on.
func TestAPortWithoutPermission(t *testing.T) {
	const limit = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
	if first, err := os.ReadFile(limit); err != nil || must(strconv.Atoi(strings.TrimSpace(string(first)))) <= 80 {
		t.Skip("needs Linux with " + limit + " above 80")
	}
	status, output := newUnprivileged(t).run(t, []string{"HOST=127.0.0.1", "PORT=80"})
	require.Equal(t, command.ExitUsage, status)
	require.Contains(t, output, "this user may not listen on port 80 on 127.0.0.1: set PORT to 1024 or above, or allow the program to use lower ports")
}

// TestABackupWithoutPermission asks for a backup to a directory that the server may not write to, and as another user
// than the server's.
func TestABackupWithoutPermission(t *testing.T) {
	u := newUnprivileged(t)
	data, closed := u.mkdir(t, "data", 0o700), u.mkdir(t, "closed", 0o555)
	p := startAs(t, u.program, u.user, "DATA_DIR="+data)
	status, output := u.run(t, []string{"DATA_DIR=" + data}, "backup", filepath.Join(closed, "backup"))
	require.Equal(t, command.ExitFailure, status)
	require.Contains(t, output, "the server's user may not write to "+closed+": let it, or choose another directory")
	require.Zero(t, p.stop(t))

	if u.user == nil {
		t.Skip("needs root, to run the server as another user")
	}
	p = start(t, "DATA_DIR="+filepath.Join(u.dir, "of-root"))
	status, output = u.run(t, []string{"DATA_DIR=" + filepath.Join(u.dir, "of-root")}, "backup", filepath.Join(u.dir, "backup"))
	require.Equal(t, command.ExitFailure, status)
	require.Contains(t, output, "this user may not connect to the server of DATA_DIR "+filepath.Join(u.dir, "of-root")+": run the command as the server's user")
	require.Zero(t, p.stop(t))
}

// TestAnAddressThatIsTaken starts a second server on the port of a first one, and one on its DATA_DIR.
func TestAnAddressThatIsTaken(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, "DATA_DIR="+dir)
	_, port, err := net.SplitHostPort(p.address)
	require.NoError(t, err)
	status, output := runProgram(t, []string{"HOST=127.0.0.1", "PORT=" + port})
	require.Equal(t, command.ExitFailure, status)
	require.Contains(t, output, "port "+port+" on 127.0.0.1 is in use by another program (is a server running already?): stop it, or set PORT to another port")
	status, output = runProgram(t, []string{"HOST=127.0.0.1", "PORT=0", "DATA_DIR=" + dir})
	require.Equal(t, command.ExitFailure, status)
	require.Contains(t, output, "DATA_DIR "+dir+" is in use by another process (is a server running already?): stop it, or set DATA_DIR to another directory")
	require.Zero(t, p.stop(t))
}

// TestRestoreIntoAVolume restores a backup as a Pod does: as a user who may write to the volume as a member of its group,
// but does not own it. It also restores into directories that this user may not write to.
func TestRestoreIntoAVolume(t *testing.T) {
	u := newUnprivileged(t)
	if u.user == nil {
		t.Skip("needs root, to make a volume of another user")
	}
	p := startAs(t, u.program, u.user, "DATA_DIR="+u.mkdir(t, "data", 0o700))
	p.report(t, reportOf("a", "t", "running"))
	backups, volume, closed := u.mkdir(t, "backups", 0o700), filepath.Join(u.dir, "volume"), u.mkdir(t, "closed", 0o500)
	status, output := u.run(t, []string{"DATA_DIR=" + filepath.Join(u.dir, "data")}, "backup", "-keep", "1", backups)
	require.Zero(t, status, output)
	backup := completed.FindStringSubmatch(output)[1]
	require.Zero(t, p.stop(t))

	require.NoError(t, os.Mkdir(volume, 0o700))
	require.NoError(t, os.Mkdir(filepath.Join(volume, "lost+found"), 0o700))
	require.NoError(t, os.Chown(volume, 0, nobody))
	require.NoError(t, os.Chmod(volume, 0o775|os.ModeSetgid))
	status, output = u.run(t, []string{"DATA_DIR=" + volume}, "restore", "-if-empty", backup)
	require.Zero(t, status, output)
	p = startAs(t, u.program, u.user, "DATA_DIR="+volume)
	require.Len(t, p.statusesOf(t, "a", "t"), 1)
	require.Zero(t, p.stop(t))

	for _, dir := range []string{closed, filepath.Join(closed, "data")} {
		status, output = u.run(t, []string{"DATA_DIR=" + dir}, "restore", backup)
		require.Equal(t, command.ExitUsage, status, output)
		require.Contains(t, output, "this user may not use DATA_DIR "+dir+" (permission denied: ")
	}
	require.NoError(t, os.Chmod(backup, 0))
	status, output = u.run(t, []string{"DATA_DIR=" + filepath.Join(u.dir, "new")}, "restore", backup)
	require.Equal(t, command.ExitFailure, status, output)
	require.Contains(t, output, "the backup can't be read: ")
}
