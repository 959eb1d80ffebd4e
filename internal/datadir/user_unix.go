//go:build unix

package datadir

import (
	"io/fs"
	"os"
	"os/signal"
	"syscall"
)

// KeepPrivate has every file that the program makes from now on be its own user's alone, whatever the shell's umask says. It is for the
// start of a program.
func KeepPrivate() { syscall.Umask(others) }

// SurviveFileSizeLimit makes a write beyond the limit of a file's size an error of that write; by default the signal SIGXFSZ would end
// the program. It is for the start of a program.
func SurviveFileSizeLimit() { signal.Ignore(syscall.SIGXFSZ) }

// isMine reports whether a file belongs to the program's own user.
func isMine(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
