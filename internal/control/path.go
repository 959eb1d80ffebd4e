package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// maxPath is the longest path of a socket, in bytes, that every supported system accepts.
const maxPath = 100

// socketPath returns a path of the socket in a data directory. The path is valid until done is called. If the plain
// path is too long for a socket, it is a path under /proc that leads through the opened directory (Linux only).
func socketPath(dataDir string) (path string, done func() error, err error) {
	path = filepath.Join(dataDir, socket)
	if len(path) <= maxPath {
		return path, func() error { return nil }, nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, fmt.Errorf("the path of DATA_DIR is too long for a control socket: at most %d bytes are allowed", maxPath-len(socket)-1)
	}
	dir, err := os.Open(dataDir)
	if err != nil {
		return "", nil, err
	}
	path = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), socket)
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return "", nil, errors.Join(fmt.Errorf("the path of DATA_DIR is too long for a control socket: without /proc, at most %d bytes are allowed", maxPath-len(socket)-1), dir.Close())
	}
	return path, dir.Close, nil
}
