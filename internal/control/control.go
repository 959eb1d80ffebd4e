// Package control lets an operator on the server's own machine tell it what to do: over a Unix socket in its data directory,
// which only its own user can reach.
package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// socket is the name of the socket in the data directory.
const socket = "control.sock"

// Listen opens the socket in a data directory, which the caller has locked: one that is left from before is of
// no use.
func Listen(dataDir string) (l net.Listener, err error) {
	path, done, err := pathOf(dataDir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	unix, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	unix.SetUnlinkOnClose(false) // its path may be another by then; the next one removes it
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, unix.Close())
	}
	return unix, nil
}

// Serve carries out what comes in by l until ctx ends. backup copies the state to a directory.
func Serve(ctx context.Context, l net.Listener, backup func(dir string) error) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /backup", func(w http.ResponseWriter, r *http.Request) {
		if err := backup(r.URL.Query().Get("dir")); err != nil {
			http.Error(w, err.Error(), http.StatusConflict) // to the server's own user: nothing to hide
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		server.Shutdown(context.WithoutCancel(ctx)) //nolint:errcheck // a backup under way is waited for
	})
	defer stop()
	err := server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return err
}

// Backup has the server of a data directory copy its state to a directory, and returns when that is done.
func Backup(ctx context.Context, dataDir, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	path, done, err := pathOf(dataDir)
	if err != nil {
		return err
	}
	defer done() //nolint:errcheck // it was only read
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://server/backup?dir="+url.QueryEscape(dir), nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("no server answers for DATA_DIR %s: %w", dataDir, errors.Unwrap(err))
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	if response.StatusCode == http.StatusNoContent {
		return nil
	}
	reason, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return err
	}
	return errors.New(strings.TrimSpace(string(reason)))
}
