// Demo starts the server with a made-up fleet, so that you can look at the dashboard without any agents of your own. The
// last hours are there from the start, and the agents go on working for as long as the demo runs: see package workday.
//
// It uses HOST and PORT as the server does, and ignores the server's other settings. It builds the server, unless
// KUBEAGENTS_PROGRAM names a binary. An interrupt stops it.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/kubeagents/kubeagents/internal/demo/workday"
)

// seed selects the day. Each demo shows the same one.
const seed = 1

// patience is how long the demo waits until it says that it is building the server.
const patience = 2 * time.Second

func main() {
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	if err := run(ctx, os.Stdout, os.Stderr); err != nil && ctx.Err() == nil { // otherwise it was interrupted
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run runs the demo until ctx is done or the server ends.
func run(ctx context.Context, stdout, stderr io.Writer) error {
	dir, err := os.MkdirTemp("", "kubeagents-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the system cleans up its temporary directory
	program := os.Getenv("KUBEAGENTS_PROGRAM")
	if program == "" {
		program = filepath.Join(dir, "kubeagents")
		if err := build(ctx, program, stderr); err != nil {
			return err
		}
	}
	data := filepath.Join(dir, "data")
	opens := time.Now()
	day := workday.New(seed, opens)
	if err := writeHistory(day, opens, data); err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	server, err := startServer(program, data, stderr)
	if err != nil {
		return err
	}
	defer server.stop(ctx)
	select {
	case <-server.ready:
	case <-server.ended:
		return server.err
	case <-ctx.Done():
		return nil
	}
	fmt.Fprintf(stdout, "The demo is at %s (Ctrl-C ends it)\n", server.url) //nolint:errcheck // the demo runs without anyone reading this, too
	return play(ctx, day, server)
}

// build builds the server.
func build(ctx context.Context, program string, stderr io.Writer) error {
	announced := time.AfterFunc(patience, func() {
		fmt.Fprintln(stderr, "Building the server. The first time, this takes a minute or two.") //nolint:errcheck // only a notice
	})
	defer announced.Stop()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/kubeagents/kubeagents")
	cmd.Stderr = stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the server: %w", err)
	}
	return nil
}

// play sends each event of the day to the server when its time comes. It returns when ctx is done or the server ends.
func play(ctx context.Context, day *workday.Day, server *server) error {
	for {
		e := day.Next()
		select {
		case <-time.After(time.Until(e.At)):
		case <-server.ended:
			return server.err
		case <-ctx.Done():
			return nil
		}
		if err := send(ctx, server.address, e); err != nil {
			return fmt.Errorf("report to the server: %w", err)
		}
	}
}

// send sends an event to the server at an address.
func send(ctx context.Context, address string, e workday.Event) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+e.Path, bytes.NewReader(e.Body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if e.Host != "" {
		r.Header.Set("X-Agent-Host", e.Host)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it is read to the end
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(string(answer))
	}
	return err
}
