//go:build unix

package datadir

import (
	"errors"
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

// KeepsOthersOut is whether this package can deny other users access to the state.
const KeepsOthersOut = true

// isPrivate reports whether the program's effective user owns a directory and nobody else has access to it.
func isPrivate(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&othersMask != 0 {
		return false
	}
	return isMine(info)
}

// isMine reports whether the program's effective user owns a file.
func isMine(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
