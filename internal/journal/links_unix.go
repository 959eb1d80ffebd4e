//go:build unix

package journal

import (
	"io/fs"
	"syscall"
)

// links returns the number of hard links to a file. ok is false if it is not known.
func links(info fs.FileInfo) (n uint64, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return uint64(stat.Nlink), true //nolint:unconvert // the type is smaller on some systems
}
