package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"
)

// maxCompressed is the maximum size of an image as it is sent over the network, in bytes.
const maxCompressed = 25_000_000

// layouts are the environment variables that name the layouts that make image has written, by program.
var layouts = map[string]string{"kubeagents": "KUBEAGENTS_IMAGE", "kubeagents-watcher": "KUBEAGENTS_WATCHER_IMAGE"}

// images returns the images of a program, by architecture.
func images(t *testing.T, program string) map[string]v1.Image {
	t.Helper()
	dir := os.Getenv(layouts[program])
	if dir == "" {
		t.Skip("run make image")
	}
	return imagesIn(t, dir)
}

// imagesIn returns the images in a layout, by architecture.
func imagesIn(t *testing.T, dir string) map[string]v1.Image {
	t.Helper()
	outer, err := layout.ImageIndexFromPath(dir)
	require.NoError(t, err)
	require.NoError(t, validate.Index(outer), "digests and sizes")
	manifest, err := outer.IndexManifest()
	require.NoError(t, err)
	require.Len(t, manifest.Manifests, 1)
	index, err := outer.ImageIndex(manifest.Manifests[0].Digest)
	require.NoError(t, err)
	manifest, err = index.IndexManifest()
	require.NoError(t, err)
	found := map[string]v1.Image{}
	for _, m := range manifest.Manifests {
		require.Equal(t, "linux", m.Platform.OS)
		found[m.Platform.Architecture], err = index.Image(m.Digest)
		require.NoError(t, err)
	}
	require.Len(t, found, 2)
	return found
}

// unpack writes the files of an image to dir, with their owners if the test runs as root, and returns their names.
func unpack(t *testing.T, image v1.Image, dir string) (names []string) {
	t.Helper()
	stream := mutate.Extract(image)
	defer stream.Close() //nolint:errcheck // it is only read
	for files := tar.NewReader(stream); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		require.NoError(t, err)
		names = append(names, fmt.Sprintf("%s %o %d", strings.TrimSuffix(header.Name, "/"), header.Mode, header.Uid))
		path := filepath.Join(dir, header.Name)
		if header.Typeflag == tar.TypeDir {
			require.NoError(t, os.MkdirAll(path, os.FileMode(header.Mode)))
		} else {
			content, err := io.ReadAll(files)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, content, os.FileMode(header.Mode)))
		}
		if os.Geteuid() == 0 {
			require.NoError(t, os.Chown(path, header.Uid, header.Gid))
		}
	}
}

// contents are the files of each program's image besides the certificates, with their modes and owners.
var contents = map[string][]string{
	"kubeagents":         {"data 700 65532", "kubeagents 755 0"},
	"kubeagents-watcher": {"kubeagents-watcher 755 0"},
}

// TestConfiguration checks how each program's image is run. It makes the images from stand-ins for the programs, twice:
// the same release must give the same bytes.
func TestConfiguration(t *testing.T) {
	_, out := imageOf(t, "kubeagents")
	config := configOf(t, out)
	require.Equal(t, []string{"/kubeagents"}, config.Entrypoint)
	require.ElementsMatch(t, []string{"DATA_DIR=/data", "HOST=0.0.0.0"}, config.Env)
	require.Contains(t, config.Volumes, "/data")
	require.Equal(t, []string{"CMD", "/kubeagents", "health"}, config.Healthcheck.Test)

	_, out = imageOf(t, "kubeagents-watcher")
	config = configOf(t, out)
	require.Equal(t, []string{"/kubeagents-watcher"}, config.Entrypoint)
	require.Empty(t, config.Env)
	require.Empty(t, config.Volumes)
	require.Nil(t, config.Healthcheck)

	for _, program := range names() {
		first, out := imageOf(t, program)
		second, _ := imageOf(t, program)
		require.Equal(t, first, second)
		config := configOf(t, out)
		require.Equal(t, "65532:65532", config.User)
		require.Equal(t, "SIGTERM", config.StopSignal)
		require.Contains(t, config.ExposedPorts, "8080/tcp")
		for label, want := range map[string]string{"version": "v1.2.3", "revision": "0123abcd", "created": "2026-01-02T03:04:05Z", "licenses": "Apache-2.0"} {
			require.Equal(t, want, config.Labels["org.opencontainers.image."+label])
		}
		require.ElementsMatch(t, append([]string{"etc 755 0", "etc/ssl 755 0", "etc/ssl/certs 755 0", "etc/ssl/certs/ca-certificates.crt 644 0"},
			contents[program]...), unpack(t, imagesIn(t, out)["arm64"], t.TempDir()))
	}
	require.ErrorContains(t, run([]string{"-program", "other", "-out", t.TempDir(), "-version", "v1", "amd64=x"}), `unknown program "other": the programs are kubeagents and kubeagents-watcher`)
}

// imageOf makes the images of a stand-in for a program, and returns the content of all files of the layout.
func imageOf(t *testing.T, program string) (content map[string]string, out string) {
	t.Helper()
	dir := t.TempDir()
	out = filepath.Join(dir, "out")
	binary, certs := filepath.Join(dir, program), filepath.Join(dir, "certs")
	require.NoError(t, os.WriteFile(binary, []byte("a program"), 0o700)) //nolint:gosec // it is one
	require.NoError(t, os.WriteFile(certs, []byte("certificates"), 0o600))
	require.NoError(t, run([]string{"-program", program, "-out", out, "-version", "v1.2.3", "-commit", "0123abcd", "-created", "2026-01-02T03:04:05Z",
		"-certs", certs, "amd64=" + binary, "arm64=" + binary}))
	content = map[string]string{}
	require.NoError(t, filepath.WalkDir(out, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path) //nolint:gosec // in a temporary directory
		content[strings.TrimPrefix(path, out)] = string(text)
		return err
	}))
	return content, out
}

// configOf returns how the images in a layout are run.
func configOf(t *testing.T, out string) v1.Config {
	t.Helper()
	config, err := imagesIn(t, out)["amd64"].ConfigFile()
	require.NoError(t, err)
	return config.Config
}

// TestImage checks the images that make image has written.
func TestImage(t *testing.T) {
	for _, name := range names() {
		for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
			t.Run(name+" "+arch, func(t *testing.T) {
				image := images(t, name)[arch]
				manifest, err := image.Manifest()
				require.NoError(t, err)
				size := manifest.Config.Size
				for _, layer := range manifest.Layers {
					size += layer.Size
				}
				t.Logf("%d bytes compressed", size)
				require.Less(t, size, int64(maxCompressed))

				config, err := image.ConfigFile()
				require.NoError(t, err)
				require.Equal(t, arch, config.Architecture)
				require.Regexp(t, `^[0-9a-f]{40}$`, config.Config.Labels["org.opencontainers.image.revision"])

				dir := t.TempDir()
				unpack(t, image, dir)
				program, err := elf.Open(filepath.Join(dir, name))
				require.NoError(t, err)
				defer program.Close() //nolint:errcheck // it is only read
				require.Equal(t, machine, program.Machine)
				for _, segment := range program.Progs {
					require.NotEqual(t, elf.PT_INTERP, segment.Type, "the program is not static")
				}
				authorities, err := os.ReadFile(filepath.Join(dir, "etc/ssl/certs/ca-certificates.crt"))
				require.NoError(t, err)
				require.Greater(t, bytes.Count(authorities, []byte("BEGIN CERTIFICATE")), 100)
			})
		}
	}
}

// TestImageRuns unpacks the image for this machine and runs it as a container engine does: in its own root directory,
// which can't be written, with the image's variables, and as the image's user and as another one. It does not need a
// container engine. The network is one of its own, since the server listens on all interfaces.
func TestImageRuns(t *testing.T) {
	image := images(t, "kubeagents")[runtime.GOARCH]
	if os.Geteuid() != 0 {
		t.Skip("only root can change the root directory")
	}
	config, err := image.ConfigFile()
	require.NoError(t, err)
	const script = `
set -eu
mount --bind "$ROOT" "$ROOT"
mount -t tmpfs -o "mode=700,uid=${USER%:*}" tmpfs "$ROOT/data"
mount -o remount,bind,ro "$ROOT"
ip link set lo up
chroot=$(command -v chroot)
inside() { exec env -i $VARIABLES "$chroot" --userspec="$USER" "$ROOT" "$@"; }
inside $PROGRAM >"$LOG" 2>&1 &
trap 'kill $! 2>/dev/null || true' EXIT
until (inside $HEALTH); do
	kill -0 $! || { cat "$LOG"; exit 1; }
	sleep 0.1
done
! touch "$ROOT/file" 2>&1
curl -fsS 127.0.0.1:8080/webhook/status -d '{"agent_id":"a","session_topic":"t","status":"running"}'
curl -fsS 127.0.0.1:8080/health
stat -c 'owner %u' "$ROOT/data/LOCK"
kill -TERM $!
wait $!
! (inside $HEALTH)
echo stopped`
	for _, user := range []string{config.Config.User, "12345:12345"} {
		out, err := runIn(t, image, script, "USER="+user, "HEALTH="+strings.Join(config.Config.Healthcheck.Test[1:], " "))
		require.NoError(t, err, "%s", out)
		for _, want := range []string{"http://127.0.0.1:8080 is ready\n", "Read-only file system", `"success":true`, `"storage":"journal"`, "owner " + strings.Split(user, ":")[0], "stopped\n"} {
			require.Contains(t, out, want)
		}
	}
}

// runIn runs a script that may change the root directory to that of an image, in namespaces of its own. It returns the
// output.
func runIn(t *testing.T, image v1.Image, script string, environment ...string) (string, error) {
	t.Helper()
	config, err := image.ConfigFile()
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755)) //nolint:gosec // the user must reach it
	root := filepath.Join(dir, "root")
	require.NoError(t, os.Mkdir(root, 0o755)) //nolint:gosec // as above
	unpack(t, image, root)
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "bash", "-c", script)
	cmd.Env = append(os.Environ(), append(environment, "ROOT="+root, "VARIABLES="+strings.Join(config.Config.Env, " "),
		"PROGRAM="+strings.Join(config.Config.Entrypoint, " "), "LOG="+filepath.Join(dir, "log"))...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestWatcherImageRuns runs the watcher as TestImageRuns does the server, but without a cluster: it must say what is
// missing.
func TestWatcherImageRuns(t *testing.T) {
	image := images(t, "kubeagents-watcher")[runtime.GOARCH]
	if os.Geteuid() != 0 {
		t.Skip("only root can change the root directory")
	}
	config, err := image.ConfigFile()
	require.NoError(t, err)
	const script = `
set -u
mount --bind "$ROOT" "$ROOT"
mount -o remount,bind,ro "$ROOT"
inside() { env -i $VARIABLES "$@"; echo "status $?"; }
watch=("$(command -v chroot)" --userspec="$USER" "$ROOT" $PROGRAM)
inside "${watch[@]}" version 2>&1
inside "${watch[@]}" 2>&1
inside KUBEAGENTS_SERVER=http://127.0.0.1:8080 "${watch[@]}" 2>&1`
	for _, user := range []string{config.Config.User, "12345:12345"} {
		out, err := runIn(t, image, script, "USER="+user)
		require.NoError(t, err, "%s", out)
		require.True(t, strings.HasPrefix(out, config.Config.Labels["org.opencontainers.image.version"]+"\nstatus 0\n"), out)
		require.Contains(t, out, "KUBEAGENTS_SERVER is not set")
		require.Contains(t, out, "outside of a cluster, set KUBECONFIG")
		require.Equal(t, 2, strings.Count(out, "status 2\n"), out)
	}
}
