// Package watch reads files again when they change.
package watch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/kubeagents/kubeagents/internal/metrics"
)

// Files are some that are used together: tokens, or a certificate with its key. Its methods are safe for concurrent use.
//
// They are compared by what they hold, not by when they were written, so that it does not matter whether somebody edits
// them, puts others in their place, or has a link lead elsewhere.
type Files struct {
	name    string
	files   []File
	use     func(texts [][]byte) error
	metrics *metrics.Metrics
	logger  *slog.Logger

	mu   sync.Mutex
	used [sha256.Size]byte // what was tried last, be it good or not
	seen [sha256.Size]byte // what was there at the last look
}

// File is a file that a setting names.
type File struct{ Setting, Path string }

// Open reads files and has use take what is in them, in the same order. name says in the log and in the metrics what they
// are. An error names the settings and the files.
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

// apply has what the files hold be used.
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

// read returns what the files hold, and a hash of it; where they can't be read, one of the error.
func (f *Files) read() (texts [][]byte, sum [sha256.Size]byte, err error) {
	hash := sha256.New()
	for _, file := range f.files {
		text, err := os.ReadFile(file.Path)
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

// Look uses the files again if they have changed; what is only half written by now would not do, so that they must be as they
// were at the last look. With now, it does not wait for that, and tries again what did not do before. Where they don't
// do, what was used before stays in use, which the log and the metrics say.
func (f *Files) Look(now bool) {
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
	f.logger.Info("read the " + f.name + " again")
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
			files.Look(now)
		}
	}
}
