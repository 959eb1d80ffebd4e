package e2e

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// volume is a file system in memory that can be full.
type volume struct {
	t   testing.TB
	dir string
}

// newVolume mounts a volume, and unmounts it when the test ends. The error is that of the mount, which needs root.
func newVolume(t testing.TB) (*volume, error) {
	v := &volume{t, t.TempDir()}
	if err := syscall.Mount("tmpfs", v.dir, "tmpfs", 0, "size=8g"); err != nil {
		return nil, fmt.Errorf("mount a file system: %w; run this as root", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(v.dir, syscall.MNT_DETACH)) })
	return v, nil
}

// fill makes the volume as small as what it holds.
func (v *volume) fill() {
	v.t.Helper()
	var err error
	for range 1000 {
		var s syscall.Statfs_t
		require.NoError(v.t, syscall.Statfs(v.dir, &s))
		if err = v.resize(max(s.Blocks-s.Bfree, 1) * uint64(s.Bsize)); err == nil {
			return
		}
	} // meanwhile, more was written
	require.NoError(v.t, err)
}

// empty makes it large again.
func (v *volume) empty() {
	v.t.Helper()
	require.NoError(v.t, v.resize(8<<30))
}

func (v *volume) resize(bytes uint64) error {
	return syscall.Mount("tmpfs", v.dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprint("size=", bytes))
}
