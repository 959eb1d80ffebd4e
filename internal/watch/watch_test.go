package watch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

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

// TestRun checks that every set of files is looked at each second, and at once on a signal.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		m := metrics.New(store.New(store.Options{}), "test")
		var all []*watch.Files
		var used [2]string
		path := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
		for i := range used {
			require.NoError(t, os.WriteFile(path(i), []byte("old"), 0o600))
			files, err := watch.Open(fmt.Sprint(i), []watch.File{{Setting: "A_FILE", Path: path(i)}}, func(texts [][]byte) error {
				used[i] = string(texts[0])
				return nil
			}, m, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			all = append(all, files)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		hangup := make(chan os.Signal, 1)
		go watch.Run(ctx, all, hangup)
		synctest.Wait()
		for round, look := range []func(){
			func() { hangup <- os.Interrupt },                       // any signal
			func() { time.Sleep(2*time.Second + time.Millisecond) }, // the file may be half written at the first look
		} {
			text := fmt.Sprint("new ", round)
			for i := range used {
				require.NoError(t, os.WriteFile(path(i), []byte(text), 0o600))
			}
			look()
			synctest.Wait()
			require.Equal(t, [2]string{text, text}, used)
		}
	})
}
