// Package watch re-reads files when they change.
package watch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/kubeagents/kubeagents/internal/metrics"
)

// Files is a set of files that are used together, such as a certificate with its key. Its methods are safe for
// concurrent use.
//
// A change is detected by content, not by modification time. It makes no difference whether a file is edited, replaced,
// or is a link that now points elsewhere.
type Files struct {
	name    string
	files   []File
	use     func(texts [][]byte) error
	metrics *metrics.Metrics
	logger  *slog.Logger

	mu   sync.Mutex
	used [sha256.Size]byte // hash of the contents last passed to use, whether it accepted them or not
	seen [sha256.Size]byte // hash of the contents at the last Look
}

// File is a file and the setting that names it.
type File struct{ Setting, Path string }

// Open reads files and passes their contents to use, in the same order. name stands for the files in the log and in the
// metrics. An error names the settings and the files.
func Open(name string, files []File, use func(texts [][]byte) error, m *metrics.Metrics, logger *slog.Logger) (*Files, error) {
	f := &Files{name: name, files: files, use: use, metrics: m, logger: logger}
	texts, sum, err := f.read()
	if err == nil {
		err = f.apply(texts)
	}
	if err != nil {
		return nil, err
	}
	f.used, f.seen = sum, sum
	m.SetReload(name, nil)
	return f, nil
}

// apply passes the contents of the files to use. An error names the settings and the files.
func (f *Files) apply(texts [][]byte) error {
	err := f.use(texts)
	if err == nil {
		return nil
	}
	var names []string
	for _, file := range f.files {
		names = append(names, file.Setting+"="+file.Path)
	}
	return fmt.Errorf("%s: %w", strings.Join(names, ", "), err)
}

// read returns the contents of the files and a hash of them. If a file can't be read, sum is a hash of the error.
func (f *Files) read() (texts [][]byte, sum [sha256.Size]byte, err error) {
	hash := sha256.New()
	for _, file := range f.files {
		text, err := readRegular(file.Path)
		if err != nil {
			err = fmt.Errorf("%s: %w", file.Setting, err)
			return nil, sha256.Sum256([]byte(err.Error())), err
		}
		fmt.Fprintf(hash, "%d ", len(text))
		hash.Write(text)
		texts = append(texts, text)
	}
	return texts, [sha256.Size]byte(hash.Sum(nil)), nil
}

// maxFile is the maximum size of a file, in bytes.
const maxFile = 16 << 20

// readRegular reads a regular file. It does not wait for one that is something else, such as a named pipe.
func readRegular(path string) ([]byte, error) {
	switch info, err := os.Stat(path); {
	case err != nil:
		return os.ReadFile(path) // whose error is the usual one
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s has more than %d MiB", path, maxFile>>20)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	return io.ReadAll(io.LimitReader(file, maxFile))
}

// Check reloads the files if they have changed. A file may be half written at the time, so Look waits until two calls
// in a row find the same contents. If now is true, it doesn't wait, and retries contents that were rejected before. If
// the files can't be used, the previous contents stay in use; the log and the metrics say so.
func (f *Files) Check(now bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	texts, sum, err := f.read()
	settled := bytes.Equal(sum[:], f.seen[:])
	f.seen = sum
	if !now && (!settled || sum == f.used) {
		return
	}
	f.used = sum
	if err == nil {
		err = f.apply(texts)
	}
	f.metrics.SetReload(f.name, err)
	if err != nil {
		f.logger.Error("the "+f.name+" can't be used: the previous ones stay in use", "error", err.Error())
		return
	}
	f.logger.Info("reloaded the " + f.name)
}

// lookEvery is how often Run looks at files.
const lookEvery = time.Second

// Run looks at files every second, and at once on a signal from hangup, until ctx ends.
func Run(ctx context.Context, all []*Files, hangup <-chan os.Signal) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		now := false
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-hangup:
			now = true
		}
		for _, files := range all {
			files.Check(now)
		}
	}
}
