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

// images returns the images in the layout that make image has written, by architecture.
func images(t *testing.T) map[string]v1.Image {
	t.Helper()
	dir := os.Getenv("KUBEAGENTS_IMAGE")
	if dir == "" {
		t.Skip("run make image")
	}
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

func TestImage(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(arch, func(t *testing.T) {
			image := images(t)[arch]
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
			require.Equal(t, "65532:65532", config.Config.User)
			require.ElementsMatch(t, []string{"DATA_DIR=/data", "HOST=0.0.0.0"}, config.Config.Env)
			require.Contains(t, config.Config.Volumes, "/data")
			require.Equal(t, []string{"CMD", "/kubeagents", "health"}, config.Config.Healthcheck.Test)
			require.Regexp(t, `^[0-9a-f]{40}$`, config.Config.Labels["org.opencontainers.image.revision"])
			require.Equal(t, "Apache-2.0", config.Config.Labels["org.opencontainers.image.licenses"])

			dir := t.TempDir()
			require.ElementsMatch(t, []string{"data 700 65532", "etc 755 0", "etc/ssl 755 0", "etc/ssl/certs 755 0",
				"etc/ssl/certs/ca-certificates.crt 644 0", "kubeagents 755 0"}, unpack(t, image, dir))
			program, err := elf.Open(filepath.Join(dir, "kubeagents"))
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

// TestImageRuns unpacks the image for this machine and runs it as a container engine does: in its own root directory,
// which can't be written, with the image's variables, and as the image's user and as another one. It does not need a
// container engine. The network is one of its own, since the server listens on all interfaces.
func TestImageRuns(t *testing.T) {
	image := images(t)[runtime.GOARCH]
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
		dir := t.TempDir()
		require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755)) //nolint:gosec // the user must reach it
		root := filepath.Join(dir, "root")
		require.NoError(t, os.Mkdir(root, 0o755)) //nolint:gosec // as above
		unpack(t, image, root)
		cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "bash", "-c", script)
		cmd.Env = append(os.Environ(), "ROOT="+root, "USER="+user, "VARIABLES="+strings.Join(config.Config.Env, " "),
			"PROGRAM="+strings.Join(config.Config.Entrypoint, " "), "HEALTH="+strings.Join(config.Config.Healthcheck.Test[1:], " "), "LOG="+filepath.Join(dir, "log"))
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		for _, want := range []string{"http://127.0.0.1:8080 is ready\n", "Read-only file system", `"success":true`, `"storage":"journal"`, "owner " + strings.Split(user, ":")[0], "stopped\n"} {
			require.Contains(t, string(out), want)
		}
	}
}
