//go:build unix

package e2e

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// releaseVariable is the environment variable that enables the tests of releases. They take minutes if GoReleaser is not
// built yet, and change nothing on the machine.
const releaseVariable = "KUBEAGENTS_RELEASE"

// goreleaser is the package that make release runs.
var goreleaser = regexp.MustCompile(`(?m)^GORELEASER = (\S+)$`)

// released is a snapshot of a release for this platform.
type released struct{ dist, commit string }

// releaseOf builds a snapshot of the repository at from, in a clone in the directory dir. Uncommitted changes are
// committed in the clone.
func releaseOf(dir, from string) (released, error) {
	const script = `
set -e
git clone -q --shared . "$DIR/source"
git ls-files -z --cached --others --exclude-standard | while IFS= read -rd '' file; do
	if [ -e "$file" ]; then cp --parents "$file" "$DIR/source/"; else rm -f "$DIR/source/$file"; fi
done
cd "$DIR/source"
git add -A
git diff --cached --quiet && [ "$(git describe --tags --always)" = v9.8.7 ] || git commit -qm snapshot --allow-empty
git tag -f v9.8.7 >/dev/null
git remote set-url origin https://github.com/kubeagents/kubeagents
sed "s/goos: \[.*/goos: [$OS]/; s/goarch: \[.*/goarch: [$ARCH]/" .goreleaser.yaml >"$DIR/goreleaser.yaml"
echo "dist: $DIR/dist" >>"$DIR/goreleaser.yaml"
CGO_ENABLED=0 go run "$GORELEASER" check
CGO_ENABLED=0 go run "$GORELEASER" release --snapshot --skip=homebrew --config "$DIR/goreleaser.yaml"
git rev-parse HEAD >"$DIR/commit"`
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		return released{}, err
	}
	cmd := exec.Command("bash", "-c", script) //nolint:noctx // the test has a time limit
	cmd.Dir = from
	cmd.Env = append(os.Environ(), "DIR="+dir, "GORELEASER="+string(goreleaser.FindSubmatch(makefile)[1]), "OS="+runtime.GOOS, "ARCH="+runtime.GOARCH,
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a",
		"GIT_AUTHOR_DATE=2026-01-02T03:04:05Z", "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z")
	if out, err := cmd.CombinedOutput(); err != nil {
		return released{}, errors.New(string(out))
	}
	commit, err := os.ReadFile(filepath.Join(dir, "commit"))
	return released{filepath.Join(dir, "dist"), strings.TrimSpace(string(commit))}, err
}

var firstRelease = sync.OnceValues(func() (released, error) { return releaseOf(must(os.MkdirTemp(buildDir(), "release-")), root) })

// release returns a snapshot. It skips the test unless the tests of releases are enabled.
func release(t *testing.T) released {
	t.Helper()
	if os.Getenv(releaseVariable) == "" {
		t.Skip("run make test-release")
	}
	r, err := firstRelease()
	require.NoError(t, err)
	return r
}

// file returns the only file in dist that a pattern matches.
func (r released) file(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(r.dist, pattern))
	require.NoError(t, err)
	require.Len(t, found, 1, pattern)
	return found[0]
}

// sums returns the checksum of each file in dist that is published.
func (r released) sums(t *testing.T) map[string][32]byte {
	t.Helper()
	sums := map[string][32]byte{}
	for _, pattern := range []string{"*.tar.gz", "*.deb", "*.rpm", "*.cdx.json", "checksums.txt", "*/kubeagents"} {
		path := r.file(t, pattern)
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		sums[filepath.Base(path)] = sha256.Sum256(content)
	}
	return sums
}

// TestReleaseIsReproducible builds the same commit twice, in different directories.
func TestReleaseIsReproducible(t *testing.T) {
	first := release(t)
	second, err := releaseOf(t.TempDir(), filepath.Join(filepath.Dir(first.dist), "source"))
	require.NoError(t, err)
	require.Equal(t, first.commit, second.commit)
	require.Equal(t, first.sums(t), second.sums(t))
}

// TestReleaseKnowsItsVersion checks what the program of a release says about itself, and what is in the archive and in
// the list of its modules.
func TestReleaseKnowsItsVersion(t *testing.T) {
	r := release(t)
	binary := r.file(t, "kubeagents_*/kubeagents")
	out, err := exec.CommandContext(t.Context(), binary, "version").Output()
	require.NoError(t, err)
	require.Regexp(t, `^v9\.8\.8-dev\.1767323045 \(commit `+r.commit+`\)\n$`, string(out))
	p := startAs(t, binary, nil)
	health := p.do("GET", "/health", "").Body.String()
	require.Contains(t, health, `"version":"v9.8.8-dev.1767323045","commit":"`+r.commit+`"`)
	require.Zero(t, p.stop(t))

	archive, err := os.Open(r.file(t, "*.tar.gz"))
	require.NoError(t, err)
	defer archive.Close() //nolint:errcheck // it is only read
	uncompressed, err := gzip.NewReader(archive)
	require.NoError(t, err)
	names := map[string]bool{}
	for files := tar.NewReader(uncompressed); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		names[header.Name] = true
		require.EqualValues(t, 1767323045, header.ModTime.Unix(), header.Name)
	}
	for _, name := range []string{"kubeagents", "LICENSE", "README.md", "docs/operate.md", "completions/_kubeagents", "systemd/kubeagents.service", "launchd/com.kubeagents.kubeagents.plist"} {
		require.True(t, names[name], "%s is missing in %v", name, names)
	}

	text, err := os.ReadFile(r.file(t, "*.cdx.json"))
	require.NoError(t, err)
	var bom struct {
		Format     string `json:"bomFormat"`
		Components []struct{ Name string }
	}
	require.NoError(t, json.Unmarshal(text, &bom))
	require.Equal(t, "CycloneDX", bom.Format)
	modules := map[string]bool{}
	for _, component := range bom.Components {
		modules[component.Name] = true
	}
	require.True(t, modules["github.com/cockroachdb/pebble/v2"] && modules["std"], "%v", modules)
	require.False(t, modules["github.com/stretchr/testify"], "a module of the tests only")
}

// TestReleasePackage boots Debian's systemd in a container whose files are those of this machine, with changes kept in
// memory. There it runs the commands of docs/operate.md that install, protect, back up and restore a server, and then
// upgrades, breaks, removes and purges the package.
func TestReleasePackage(t *testing.T) {
	r := release(t)
	requireTools(t, "systemd-nspawn", "unshare", "dpkg", "openssl", "curl")
	if os.Geteuid() != 0 {
		t.Skip("only root can boot a container")
	}
	_, section, found := strings.Cut(manual(t)["docs/operate.md"], "\n## Install on Debian\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	var commands strings.Builder
	for _, b := range blocksOf(section) {
		require.NotEmpty(t, b.notRun, "these commands can't run outside of the container")
		commands.WriteString(b.code)
	}
	dir := t.TempDir()
	script, err := os.ReadFile("testdata/package.sh")
	require.NoError(t, err)
	writeFile(t, filepath.Join(dir, "package.sh"), []byte(strings.Replace(string(script), "MANUAL\n", commands.String(), 1)))
	require.NoError(t, os.CopyFS(filepath.Join(dir, "formats"), os.DirFS(filepath.Join(root, "internal/journal/testdata"))))
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "bash", must(filepath.Abs("testdata/boot.sh")), r.file(t, "*.deb"), dir)
	booted, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() == 3 {
		t.Skipf("systemd-nspawn can't boot a container on this machine, so the package is not tried: %s", booted)
	}
	require.NoError(t, err, "%s", booted)
	out, err := os.ReadFile(filepath.Join(dir, "output"))
	require.NoError(t, err, "%s", booted)
	require.True(t, strings.HasSuffix(string(out), "\nThe package works.\n"), "%s", out)
}

// TestUnit checks the unit and its drop-in with systemd's own tools.
func TestUnit(t *testing.T) {
	requireTools(t, "systemd-analyze")
	unit, err := os.ReadFile(filepath.Join(root, "deploy/systemd/kubeagents.service"))
	require.NoError(t, err)
	dir := t.TempDir()
	path := filepath.Join(dir, "kubeagents.service")
	writeFile(t, path, []byte(strings.Replace(string(unit), "/usr/bin/kubeagents", program(), 1)))
	require.NoError(t, os.Mkdir(path+".d", 0o700))
	require.NoError(t, os.Symlink(must(filepath.Abs(filepath.Join(root, "deploy/systemd/tls.conf"))), path+".d/tls.conf"))
	for _, args := range [][]string{
		{"verify", "--man=no", path},
		{"security", "--offline=true", "--threshold=20", "--no-pager", path}, // an exposure of 2.0
	} {
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		if args[0] == "verify" {
			require.Empty(t, string(out))
		}
	}
}

// TestProgramTellsSystemd checks that systemd learns when the server is ready and when it stops.
func TestProgramTellsSystemd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer socket.Close() //nolint:errcheck // the test is over
	next := func() string {
		message := make([]byte, 1000)
		n, err := socket.Read(message)
		require.NoError(t, err)
		return string(message[:n])
	}
	p := start(t, "NOTIFY_SOCKET="+path)
	require.Equal(t, "READY=1", next())
	require.Zero(t, p.stop(t))
	require.Equal(t, "STOPPING=1", next())

	p = start(t, "NOTIFY_SOCKET="+path+".none")
	require.Zero(t, p.stop(t))
	require.Contains(t, p.stderr.String(), "can't tell systemd what the server does")
}

// TestLaunchdAgent runs the command of the property list for macOS in an empty home directory.
func TestLaunchdAgent(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "deploy/launchd/com.kubeagents.kubeagents.plist"))
	require.NoError(t, err)
	var list struct {
		Strings []string `xml:"dict>string"`
		Keys    []string `xml:"dict>key"`
		Command []string `xml:"dict>array>string"`
	}
	require.NoError(t, xml.Unmarshal(text, &list))
	require.Equal(t, []string{"com.kubeagents.kubeagents"}, list.Strings)
	require.Subset(t, list.Keys, []string{"Label", "ProgramArguments", "EnvironmentVariables", "RunAtLoad", "KeepAlive"})
	home, folder := t.TempDir(), t.TempDir()
	require.NoError(t, os.Symlink(must(filepath.Abs(program())), filepath.Join(folder, "kubeagents")))
	cmd := exec.CommandContext(t.Context(), list.Command[0], list.Command[1:]...)
	path := filepath.Join(home, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer socket.Close() //nolint:errcheck // the test is over
	cmd.Env = []string{"HOME=" + home, "PATH=" + folder + ":/usr/bin:/bin", "HOST=127.0.0.1", "PORT=0", "NOTIFY_SOCKET=" + path}
	require.NoError(t, cmd.Start())
	_, err = socket.Read(make([]byte, 100)) // it is ready
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
	require.FileExists(t, filepath.Join(home, "Library/Application Support/KubeAgents/LOCK"))
	logged, err := os.ReadFile(filepath.Join(home, "Library/Logs/KubeAgents.log"))
	require.NoError(t, err)
	require.Contains(t, string(logged), "msg=ready")
}
