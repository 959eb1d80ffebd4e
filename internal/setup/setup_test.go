package setup_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/internal/setup"
)

var (
	server  = connect.Server{Address: "http://localhost:8080"}
	guarded = connect.Server{Address: "https://hub.example.com", Tokens: true}
)

// file returns the settings file of a tool in a home directory.
func file(tool, home string, s connect.Server) setup.File {
	c := connect.Named(tool)
	return setup.NewFile(c, c.UserFile(connect.Machine{OS: runtime.GOOS, Home: home}), false, s)
}

func apply(t testing.TB, plan func() (setup.Change, error)) setup.Change {
	t.Helper()
	c, err := plan()
	require.NoError(t, err)
	require.False(t, c.IsNone())
	require.NoError(t, c.Apply())
	again, err := plan()
	require.NoError(t, err)
	require.True(t, again.IsNone(), "a second time changes nothing")
	return c
}

// snapshot returns what is in a directory: the mode and the text of each file, and the targets of links.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := e.Info()
		require.NoError(t, err)
		all[path] = info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			text, err := os.ReadFile(path) //nolint:gosec // in a temporary directory
			require.NoError(t, err)
			all[path] += " " + string(text)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			require.NoError(t, err)
			all[path] += " " + target
		}
		return nil
	}))
	return all
}

func write(t testing.TB, path, text string, mode fs.FileMode) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
	require.NoError(t, os.WriteFile(path, []byte(text), mode))
	require.NoError(t, os.Chmod(path, mode))
}

// TestConnectAndDisconnect connects each tool in a home directory, with and without a file, also twice and to another
// server, and checks that disconnecting leaves the directory as it was.
func TestConnectAndDisconnect(t *testing.T) {
	for _, c := range connect.Tools() {
		for name, before := range map[string]string{"no folder": "none", "a folder": "", "an empty file": "\n", "a file": "{\n  \"version\": 1, // one\n  \"a\": true\n}"} {
			if c.Script && name == "a file" {
				continue
			}
			home := t.TempDir()
			f := file(c.Name, home, server)
			switch {
			case name == "a folder":
				require.NoError(t, os.MkdirAll(filepath.Dir(f.Path), 0o750))
			case before != "none":
				write(t, f.Path, before, 0o640)
			}
			was := snapshot(t, home)
			change := apply(t, f.Connect)
			text, err := os.ReadFile(f.Path)
			require.NoError(t, err)
			require.Contains(t, string(text), "http://localhost:8080/webhook/"+c.Name)
			info, err := os.Stat(f.Path)
			require.NoError(t, err)
			if len(change.Old) > 0 {
				require.Equal(t, fs.FileMode(0o640), info.Mode().Perm())
				backup, err := os.ReadFile(change.Backup())
				require.NoError(t, err)
				require.Equal(t, before, string(backup))
			} else {
				require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
				require.Empty(t, change.Backup())
			}
			require.NotEmpty(t, apply(t, file(c.Name, home, guarded).Connect).Old)
			apply(t, f.Disconnect)
			require.Equal(t, was, snapshot(t, home), "%s: %s", c.Name, name)
		}
	}
}

// TestEditsStay checks that what was edited since is kept, by a second connect as well as by disconnect.
func TestEditsStay(t *testing.T) {
	home := t.TempDir()
	f := file("claude-code", home, server)
	write(t, f.Path, "{\n  \"model\": \"opus\"\n}\n", 0o600)
	apply(t, f.Connect)
	edit := func(old, new string) {
		text, err := os.ReadFile(f.Path)
		require.NoError(t, err)
		require.Contains(t, string(text), old)
		write(t, f.Path, strings.Replace(string(text), old, new, 1), 0o600)
	}
	edit("opus", "sonnet")
	again := apply(t, file("claude-code", home, guarded).Connect)
	backup, err := os.ReadFile(again.Backup())
	require.NoError(t, err)
	require.Contains(t, string(backup), "sonnet", "the backup has the edit")
	edit("sonnet", "haiku")
	apply(t, f.Disconnect)
	left := snapshot(t, home)
	require.Len(t, left, 3, "two folders and the file")
	require.Equal(t, "-rw------- {\n  \"model\": \"haiku\"\n}\n", left[f.Path])

	other := t.TempDir()
	f = file("codex", other, server)
	apply(t, f.Connect) // makes the file and its folder
	write(t, filepath.Join(filepath.Dir(f.Path), "config.toml"), "", 0o600)
	apply(t, f.Disconnect)
	require.Len(t, snapshot(t, other), 3, "the folder is in use")
	require.NoFileExists(t, f.Path)
}

// TestLinks checks that a link stays one, and that the file that it leads to is changed.
func TestLinks(t *testing.T) {
	home, dotfiles := t.TempDir(), t.TempDir()
	f := file("claude-code", home, server)
	real := filepath.Join(dotfiles, "claude.json")
	write(t, real, "{}\n", 0o600)
	require.NoError(t, os.Mkdir(filepath.Dir(f.Path), 0o700))
	require.NoError(t, os.Symlink(real, f.Path))
	was, there := snapshot(t, home), snapshot(t, dotfiles)
	apply(t, f.Connect)
	target, err := os.Readlink(f.Path)
	require.NoError(t, err)
	require.Equal(t, real, target)
	text, err := os.ReadFile(real) //nolint:gosec // in a temporary directory
	require.NoError(t, err)
	require.Contains(t, string(text), "/webhook/claude-code")
	apply(t, f.Disconnect)
	require.Equal(t, was, snapshot(t, home))
	require.Equal(t, there, snapshot(t, dotfiles))

	require.NoError(t, os.Remove(real))
	_, err = f.Connect()
	require.EqualError(t, err, f.Path+" is a link to "+real+", which does not exist: create that file, or remove the link")
}

// TestLeftAlone checks that files that can't or must not be changed stay as they are, with an error that says what to
// do.
func TestLeftAlone(t *testing.T) {
	home := t.TempDir()
	f := file("gemini-cli", home, server)
	refused := func(want string) {
		t.Helper()
		was := snapshot(t, home)
		_, err := f.Connect()
		require.ErrorContains(t, err, want)
		require.Equal(t, was, snapshot(t, home))
	}
	write(t, f.Path, "{\n  \"theme\": \"dark\"\n  \"vim\": true\n}\n", 0o600)
	refused(f.Path + ":3: not valid JSON: ")
	refused("the file was left alone: correct it, then run the command again")
	c, err := f.Disconnect()
	require.NoError(t, err, "it has no hooks of ours")
	require.True(t, c.IsNone())

	write(t, f.Path, "{}", 0o400)
	refused(f.Path + " is read-only, so it was left alone")
	require.NoError(t, os.Chmod(f.Path, 0o600)) //nolint:gosec // a temporary file
	apply(t, f.Connect)
	text, err := os.ReadFile(f.Path)
	require.NoError(t, err)
	write(t, f.Path, string(text)+"}", 0o600)
	_, err = f.Disconnect()
	require.ErrorContains(t, err, "not valid JSON", "it has hooks of ours")
	write(t, f.Path, string(text), 0o400)
	_, err = f.Disconnect()
	require.ErrorContains(t, err, "is read-only")

	require.NoError(t, os.Chmod(f.Path, 0o600)) //nolint:gosec // a temporary file
	require.NoError(t, os.Truncate(f.Path, 16<<20+1))
	refused(f.Path + " is larger than 16 MiB, so it was left alone: no tool has such settings")

	require.NoError(t, os.Remove(f.Path))
	require.NoError(t, os.Mkdir(f.Path, 0o700))
	refused(f.Path + " is not a file")
	require.NoError(t, os.Remove(f.Path))
	c, err = f.Disconnect()
	require.NoError(t, err)
	require.True(t, c.IsNone(), "the backup is all that is left")
	require.FileExists(t, f.Path+setup.BackupSuffix)

	require.NoError(t, os.Truncate(f.Path+setup.BackupSuffix, 16<<20+1))
	_, err = f.Disconnect()
	require.ErrorContains(t, err, f.Path+setup.BackupSuffix+" is larger than 16 MiB")
	require.NoError(t, os.Remove(f.Path+setup.BackupSuffix))
	require.NoError(t, os.Mkdir(f.Path+setup.BackupSuffix, 0o700))
	_, err = f.Disconnect()
	require.EqualError(t, err, f.Path+setup.BackupSuffix+" is not a file")
}

// TestChangedMeanwhile checks that a change is not applied to a file that is not the one that it was planned for.
func TestChangedMeanwhile(t *testing.T) {
	f := file("cursor", t.TempDir(), server)
	c, err := f.Connect()
	require.NoError(t, err)
	write(t, f.Path, "{}", 0o600)
	require.EqualError(t, c.Apply(), f.Path+" was changed in the meantime: run the command again")
	text, err := os.ReadFile(f.Path)
	require.NoError(t, err)
	require.Equal(t, "{}", string(text))
}

// TestOthersMayReadProjects checks the mode of a file that is made for a project.
func TestOthersMayReadProjects(t *testing.T) {
	project := t.TempDir()
	c := connect.Named("copilot")
	f := setup.NewFile(c, c.ProjectFile(connect.Machine{OS: runtime.GOOS}, project), true, server)
	apply(t, f.Connect)
	modes := snapshot(t, project)
	require.Equal(t, "drwxr-xr-x", modes[filepath.Join(project, ".github")])
	require.True(t, strings.HasPrefix(modes[f.Path], "-rw-r--r-- "))
	apply(t, f.Disconnect)
	require.Len(t, snapshot(t, project), 1)
}

// TestFolderInTheWay checks that a failure leaves everything as it was.
func TestFolderInTheWay(t *testing.T) {
	home := t.TempDir()
	f := file("opencode", home, server)
	write(t, filepath.Join(home, ".config", "opencode"), "a file in the place of a folder", 0o600)
	was := snapshot(t, home)
	c, err := f.Connect()
	if err == nil {
		err = c.Apply()
	}
	require.Error(t, err)
	require.Equal(t, was, snapshot(t, home))
}
