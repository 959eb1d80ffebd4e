//go:build unix

package journal

import (
	"io/fs"
	"syscall"
)

// links returns how many names a file has. ok is false where that is not known.
func links(info fs.FileInfo) (n uint64, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return uint64(stat.Nlink), true //nolint:unconvert // it is smaller on some systems
}
