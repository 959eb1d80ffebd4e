// Package control lets an operator on the server's machine send it commands, over a Unix socket in its data directory.
// Only the server's own user can connect to the socket.
package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// socket is the name of the socket in the data directory.
const socket = "control.sock"

// Listen opens the socket in a data directory and replaces a socket that an earlier server left behind. The caller must
// hold the lock of the directory.
func Listen(dataDir string) (l net.Listener, err error) {
	path, done, err := socketPath(dataDir)
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
	unix.SetUnlinkOnClose(false) // path may be invalid by then; the next Listen removes the socket
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, unix.Close())
	}
	return unix, nil
}

// Serve carries out the commands that arrive on l until ctx is done, and waits for a command under way to finish.
// backup copies the state to a directory; ready reports whether the server takes requests.
func Serve(ctx context.Context, l net.Listener, backup func(dir string) error, ready func() bool) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /backup", func(w http.ResponseWriter, r *http.Request) {
		if err := backup(r.URL.Query().Get("dir")); err != nil {
			http.Error(w, err.Error(), http.StatusConflict) // only the server's own user sees it
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		server.Shutdown(context.WithoutCancel(ctx)) //nolint:errcheck // without a deadline, it waits for a backup under way
	})
	defer stop()
	err := server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return err
}

// Backup asks the server that uses a data directory to copy its state to a directory, and returns when the copy is
// complete.
func Backup(ctx context.Context, dataDir, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	response, err := send(ctx, dataDir, http.MethodPost, "/backup?dir="+url.QueryEscape(dir))
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // only read
	if response.StatusCode == http.StatusNoContent {
		return nil
	}
	reason, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return err
	}
	return errors.New(strings.TrimSpace(string(reason)))
}

// Ready reports whether the server that uses a data directory takes requests. The error says why it can't be asked.
func Ready(ctx context.Context, dataDir string) (bool, error) {
	response, err := send(ctx, dataDir, http.MethodGet, "/ready")
	if err != nil {
		return false, err
	}
	return response.StatusCode == http.StatusNoContent, response.Body.Close()
}

// send sends a request without a body to the server that uses a data directory. The caller closes the response's body.
func send(ctx context.Context, dataDir, method, target string) (*http.Response, error) {
	path, done, err := socketPath(dataDir)
	if err != nil {
		return nil, err
	}
	defer done() //nolint:errcheck // only opened for reading
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true,
	}}
	request, err := http.NewRequestWithContext(ctx, method, "http://server"+target, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, unreachable(dataDir, errors.Unwrap(err))
	}
	return response, nil
}

// unreachable returns the error for a data directory whose server can't be reached, and what to do about it.
func unreachable(dataDir string, err error) error {
	switch _, found := os.Stat(dataDir); {
	case errors.Is(found, fs.ErrNotExist):
		return fmt.Errorf("DATA_DIR %s does not exist: set DATA_DIR to the same value as for the server", dataDir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this user may not connect to the server of DATA_DIR %s: run the command as the server's user", dataDir)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("no server runs with DATA_DIR %s: start it, or set DATA_DIR to the same value as for the running server", dataDir)
	}
	return fmt.Errorf("no server answers for DATA_DIR %s: %w", dataDir, err)
}
