//go:build unix

package setup

import (
	"io/fs"
	"os"
	"syscall"
)

// chown gives a file the owner of another one, if this user may do that.
func chown(path string, like fs.FileInfo) {
	if stat, ok := like.Sys().(*syscall.Stat_t); ok {
		os.Chown(path, int(stat.Uid), int(stat.Gid)) //nolint:errcheck // only root may do that
	}
}
