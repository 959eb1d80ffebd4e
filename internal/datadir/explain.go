package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/kubeagents/kubeagents/config"
)

// Explain returns an error of [Prepare], or of opening the state in its home, with a message that says what to do. dir
// is the directory that the operator named. The result is a *config.SettingError, since a restart does not help. An
// error whose cause is none of the usual ones is returned as it is.
func Explain(dir string, err error) error {
	var at *fs.PathError
	path := dir
	if errors.As(err, &at) {
		path = at.Path
	}
	message := ""
	switch {
	case errors.Is(err, syscall.ENOTDIR) && path == dir:
		message = fmt.Sprintf("DATA_DIR is %s, which is a file or has one in its path: set DATA_DIR to a directory", dir)
	case errors.Is(err, syscall.EROFS):
		message = fmt.Sprintf("DATA_DIR is %s, which is on a read-only file system: set DATA_DIR to a directory on one that can be written", dir)
	case errors.Is(err, fs.ErrPermission):
		message = fmt.Sprintf("this user may not use DATA_DIR %s (permission denied: %s): let the server's user own that directory and what is in it, "+
			"or set DATA_DIR to another directory", dir, path)
	default:
		return err
	}
	return &config.SettingError{Err: explained{message, err}}
}

// explained is an error with a message for people in place of its own.
type explained struct {
	message string
	error
}

func (e explained) Error() string { return e.message }
func (e explained) Unwrap() error { return e.error }
