package watch_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/watch"
	"github.com/kubeagents/kubeagents/store"
)

// TestFilesAreReloadedWhenTheyChange edits, breaks, removes and replaces a file.
func TestFilesAreReloadedWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write := func(path, text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	write(path, "one")
	write(other, "beside")
	var used []string
	use := func(texts [][]byte) error {
		require.Len(t, texts, 2)
		if bytes.HasPrefix(texts[0], []byte("bad")) {
			return errors.New("line 1 is bad")
		}
		used = append(used, string(texts[0])+" "+string(texts[1]))
		return nil
	}
	var log bytes.Buffer
	m := metrics.New(store.New(store.Options{}), "test")
	files, err := watch.Open("tokens", []watch.File{{Setting: "A_FILE", Path: path}, {Setting: "B_FILE", Path: other}}, use, m, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	scrape := func() string {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Body.String()
	}
	expect := func(want ...string) {
		t.Helper()
		require.Equal(t, want, used)
		used = nil
	}
	expect("one beside")
	for range 3 {
		files.Check(false)
	}
	require.Empty(t, used, "nothing has changed")

	write(path, "two")
	files.Check(false)
	require.Empty(t, used, "the file may be half written")
	files.Check(false)
	expect("two beside")
	write(other, "next")
	files.Check(true)
	expect("two next")
	require.Contains(t, scrape(), `kubeagents_reload_ok{files="tokens"} 1`)

	write(path, "bad")
	for range 4 {
		files.Check(false)
	}
	require.Empty(t, used)
	require.Equal(t, 1, bytes.Count(log.Bytes(), fmt.Appendf(nil, `level=ERROR msg="the tokens can't be used: the previous ones stay in use" error="A_FILE=%s, B_FILE=%s: line 1 is bad"`, path, other)), "it is logged once: %s", &log)
	require.Contains(t, scrape(), `kubeagents_reload_ok{files="tokens"} 0`)
	require.Contains(t, scrape(), `kubeagents_reload_failures_total{files="tokens"} 1`)
	files.Check(true)
	require.Contains(t, scrape(), `kubeagents_reload_failures_total{files="tokens"} 2`)

	require.NoError(t, os.Remove(path))
	files.Check(false)
	files.Check(false)
	require.Contains(t, log.String(), "no such file")
	write(filepath.Join(dir, "new"), "three")
	require.NoError(t, os.Symlink("new", path))
	files.Check(false)
	files.Check(false)
	expect("three next")
	require.Contains(t, scrape(), `kubeagents_reload_ok{files="tokens"} 1`)

	_, err = watch.Open("tokens", []watch.File{{Setting: "A_FILE", Path: filepath.Join(dir, "none")}}, use, m, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "no such file")
	write(path, "bad")
	_, err = watch.Open("tokens", []watch.File{{Setting: "A_FILE", Path: path}, {Setting: "B_FILE", Path: other}}, use, m, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "line 1 is bad")
}
