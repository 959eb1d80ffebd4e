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
	"strings"
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

// TestEveryDifferenceIsAChange watches two files through changes that a comparison of their joined contents would miss:
// a byte moves from one file to the other, a file is empty, absent, or something that can't be read.
func TestEveryDifferenceIsAChange(t *testing.T) {
	dir := t.TempDir()
	paths := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	put := func(texts ...string) {
		t.Helper()
		for i, text := range texts {
			require.NoError(t, os.RemoveAll(paths[i]))
			switch text {
			case "absent":
			case "a directory":
				require.NoError(t, os.Mkdir(paths[i], 0o700))
			default:
				require.NoError(t, os.WriteFile(paths[i], []byte(text), 0o600))
			}
		}
	}
	var used, log bytes.Buffer
	put("", "")
	files, err := watch.Open("tokens", []watch.File{{Setting: "A_FILE", Path: paths[0]}, {Setting: "B_FILE", Path: paths[1]}}, func(texts [][]byte) error {
		fmt.Fprintf(&used, "%q", texts)
		return nil
	}, metrics.New(store.New(store.Options{}), "test"), slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	for _, step := range []struct {
		texts       [2]string
		used, fault string
	}{
		{[2]string{"ab", "c"}, `["ab" "c"]`, ""},
		{[2]string{"a", "bc"}, `["a" "bc"]`, ""},
		{[2]string{"", "abc"}, `["" "abc"]`, ""},
		{[2]string{"abc", ""}, `["abc" ""]`, ""},
		{[2]string{"1 a", ""}, `["1 a" ""]`, ""},
		{[2]string{"", "1 a"}, `["" "1 a"]`, ""},
		{[2]string{"", "absent"}, "", "B_FILE: open " + paths[1]},
		{[2]string{"", ""}, `["" ""]`, ""},
		{[2]string{"absent", ""}, "", "A_FILE: open " + paths[0]},
		{[2]string{"a directory", ""}, "", "A_FILE: " + paths[0] + " is not a regular file"},
		{[2]string{"absent", "absent"}, "", "A_FILE: open " + paths[0]},
		{[2]string{"", ""}, `["" ""]`, ""},
	} {
		put(step.texts[:]...)
		used.Reset()
		log.Reset()
		for range 3 {
			files.Check(false)
		}
		require.Equal(t, step.used, used.String(), step.texts)
		require.Equal(t, step.fault != "", strings.Contains(log.String(), "level=ERROR"), log.String())
		require.Contains(t, log.String(), step.fault)
	}
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
