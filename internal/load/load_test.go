package load_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/load"
)

func TestRunCountsWhatTheServerAnswered(t *testing.T) {
	var good, bad atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if string(body) == "bad" {
			bad.Add(1)
			w.WriteHeader(http.StatusTeapot)
			return
		}
		good.Add(1)
		w.Write(body) //nolint:errcheck // the client is gone
	}))
	defer server.Close()
	one, other := load.Request("POST", "/a", []byte("good")), load.Request("POST", "/a", []byte("bad"))
	result, err := load.Run(server.Listener.Addr().String(), [][][]byte{{one}, {one, other}}, 50*time.Millisecond)
	require.NoError(t, err)
	require.EqualValues(t, good.Load()+bad.Load(), result.Requests)
	require.EqualValues(t, bad.Load(), result.Failed)
	require.Positive(t, result.Failed)
	require.Positive(t, result.PerSecond())
	require.Len(t, result.Took, result.Requests)
	require.NotContains(t, result.Took, time.Duration(0))
}

func TestPaceTimesEveryAnswer(t *testing.T) {
	var answered atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if answered.Add(1) > 60 {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer server.Close()
	request := load.Request("POST", "/", nil)
	took, err := load.Pace(server.Listener.Addr().String(), [][][]byte{{request}, {request}, {request}}, 1000, 50*time.Millisecond)
	require.NoError(t, err)
	require.Len(t, took, 50)
	require.EqualValues(t, 50, answered.Load())
	require.NotContains(t, took, time.Duration(0))
	_, err = load.Pace(server.Listener.Addr().String(), [][][]byte{{request}}, 1000, 50*time.Millisecond)
	require.ErrorContains(t, err, "status 418")
	server.Close()
	_, err = load.Pace(server.Listener.Addr().String(), [][][]byte{{request}}, 1000, 50*time.Millisecond)
	require.Error(t, err)
}

func TestRunSaysWhatBreaks(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer server.Close()
	request := load.Request("GET", "/", nil)
	_, err := load.Run(server.Listener.Addr().String(), [][][]byte{{request}}, time.Minute)
	require.Error(t, err)
	server.Close()
	_, err = load.Run(server.Listener.Addr().String(), [][][]byte{{request}}, time.Minute)
	require.Error(t, err)
}

func TestRunWritesTheTimeOfSending(t *testing.T) {
	var last atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for text := range strings.FieldsSeq(string(body)) {
			sent, err := time.Parse(time.RFC3339Nano, text)
			if err != nil || sent.UnixMicro() < last.Load() || time.Since(sent) > time.Minute {
				w.WriteHeader(http.StatusTeapot)
			}
			last.Store(sent.UnixMicro())
		}
		w.Write(body) //nolint:errcheck // the client is gone
	}))
	defer server.Close()
	requests := [][][]byte{{load.Request("POST", "/", []byte(load.TimePlaceholder+" "+load.TimePlaceholder)), load.Request("POST", "/", []byte(load.TimePlaceholder))}}
	for range 2 {
		result, err := load.Run(server.Listener.Addr().String(), requests, 20*time.Millisecond)
		require.NoError(t, err)
		require.Zero(t, result.Failed)
		require.Greater(t, result.Requests, 2)
	}
	require.Contains(t, string(requests[0][1]), load.TimePlaceholder, "they can be sent again")
}
