//go:build unix

package datadir

import (
	"io/fs"
	"os"
	"os/signal"
	"syscall"
)

// KeepPrivate denies other users access to every file that the program creates from now on, whatever umask it
// inherited. Call it at the start of a program.
func KeepPrivate() { syscall.Umask(othersMask) }

// SurviveFileSizeLimit makes a write beyond the file size limit (RLIMIT_FSIZE) fail with an error. By default, the
// signal SIGXFSZ would end the program. Call it at the start of a program.
func SurviveFileSizeLimit() { signal.Ignore(syscall.SIGXFSZ) }

// isMine reports whether the program's effective user owns a file.
func isMine(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
