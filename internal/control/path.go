package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// mostPath is how long the path of a socket may be everywhere, in bytes.
const mostPath = 100

// pathOf returns a path of the socket in a data directory, which holds until done is called. One that is too long for a socket goes by way
// of the open directory where the system has a name for that.
func pathOf(dataDir string) (path string, done func() error, err error) {
	path = filepath.Join(dataDir, socket)
	if len(path) <= mostPath {
		return path, func() error { return nil }, nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, fmt.Errorf("the path of DATA_DIR must be at most %d bytes long for that", mostPath-len(socket)-1)
	}
	dir, err := os.Open(dataDir)
	if err != nil {
		return "", nil, err
	}
	path = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), socket)
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return "", nil, errors.Join(fmt.Errorf("the path of DATA_DIR must be at most %d bytes long where there is no /proc", mostPath-len(socket)-1), dir.Close())
	}
	return path, dir.Close, nil
}
