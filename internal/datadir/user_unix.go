//go:build unix

package datadir

import (
	"io/fs"
	"os"
	"syscall"
)

// KeepPrivate has every file that the program makes from now on be its own user's alone, whatever the shell's umask says. It is for the
// start of a program.
func KeepPrivate() { syscall.Umask(others) }

// isMine reports whether a file belongs to the program's own user.
func isMine(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
