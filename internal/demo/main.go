// Demo starts the server and replays a recorded day of 200 agents to it, stamped as now, so that one can
// watch a living fleet. PORT says where, as for the server; an interrupt ends both.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
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

	"github.com/kubeagents/kubeagents/internal/fleet"
)

const (
	// speed is how many seconds of the day pass in one: the day is over in some nine minutes.
	speed = 60
	// headStart is how much of the day is there at once.
	headStart = 90 * time.Minute
	// slowestTTL is what a session's TTL is at the most, so that one sees them expire, too.
	slowestTTL = 3
	// shutdownTimeout is the server's.
	shutdownTimeout = time.Second
)

func main() {
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	if err := run(ctx); ctx.Err() == nil { // else it was to end
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	base := "http://127.0.0.1:" + cmp.Or(os.Getenv("PORT"), "8080")
	if resp, err := http.Get(base); err == nil {
		resp.Body.Close() //nolint:errcheck // that it answers is enough
		return fmt.Errorf("something serves at %s already: set PORT to another port", base)
	}
	dir, err := os.MkdirTemp("", "kubeagents-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is in a place that is cleaned up
	program := filepath.Join(dir, "kubeagents")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, ".")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build the server: %w", err)
	}
	server := exec.Command(program)
	server.Env = append(os.Environ(), "DEFAULT_TTL_MINUTES=1", "RATE_LIMIT_REPORTS=0", "SHUTDOWN_TIMEOUT="+shutdownTimeout.String())
	server.Stdout, server.Stderr = os.Stdout, os.Stderr
	if err := server.Start(); err != nil {
		return err
	}
	watchCtx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cancel(fmt.Errorf("the server ended: %w", cmp.Or(server.Wait(), errors.New("exit status 0"))))
	}()
	err = watch(watchCtx, base)
	stop(ctx, server.Process, ended)
	return err
}

// stop ends the server. An interrupt from a terminal has reached it as well, and another would keep it from stopping in
// good order; so it gets a signal only where none has come, or where that did not end it.
func stop(ctx context.Context, server *os.Process, ended <-chan struct{}) {
	if ctx.Err() != nil {
		select {
		case <-ended:
		case <-time.After(2 * shutdownTimeout):
		}
	}
	server.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	<-ended
}

// watch replays the day once the server is ready, and returns when ctx ends.
func watch(ctx context.Context, base string) error {
	if err := waitUntilReady(ctx, base); err != nil {
		return err
	}
	fmt.Printf("\nThe day begins. Try:\n  curl -s %[1]s/api/summary\n  curl -s '%[1]s/api/sessions?status=pending&expired=false&limit=3'\n\n", base)
	err := replay(ctx, base)
	fmt.Println()
	if err != nil {
		return err
	}
	fmt.Println("The day is over; the server goes on until you interrupt it.")
	<-ctx.Done()
	return context.Cause(ctx)
}

func waitUntilReady(ctx context.Context, base string) error {
	for {
		resp, err := http.Get(base + "/health/ready")
		if err == nil {
			resp.Body.Close() //nolint:errcheck // only its status is asked for
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// report is what of a report the demo changes.
type report struct {
	fields    map[string]any
	timestamp time.Time
}

// replay sends the day's reports in batches, four times a second.
func replay(ctx context.Context, base string) error {
	reports, err := readDay()
	if err != nil {
		return err
	}
	started := time.Now()
	clock := reports[0].timestamp.Add(headStart) // what time of the day it is
	morning := clock
	for sent := 0; sent < len(reports); {
		var batch bytes.Buffer
		for sent < len(reports) && !reports[sent].timestamp.After(clock) {
			body, err := json.Marshal(reports[sent].stamped(clock))
			if err != nil {
				return err
			}
			batch.Write(body)
			sent++
		}
		if err := send(base, &batch); err != nil {
			return err
		}
		fmt.Printf("\r%s  %d of %d reports  %s", clock.Format("15:04"), sent, len(reports), summary(base))
		if err := pause(ctx, 250*time.Millisecond); err != nil {
			return err
		}
		clock = morning.Add(time.Since(started) * speed)
	}
	return nil
}

func readDay() ([]report, error) {
	var day []report
	for _, line := range fleet.Reports() {
		var r report
		if err := json.Unmarshal(line, &r.fields); err != nil {
			return nil, err
		}
		var err error
		if r.timestamp, err = time.Parse(time.RFC3339, r.fields["timestamp"].(string)); err != nil {
			return nil, err
		}
		day = append(day, r)
	}
	return day, nil
}

// stamped returns the report as of now, when it is clock in the day: what came late comes late, and TTLs
// are as short as the day.
func (r report) stamped(clock time.Time) map[string]any {
	r.fields["timestamp"] = time.Now().Add(-clock.Sub(r.timestamp) / speed)
	if ttl, ok := r.fields["ttl_minutes"].(float64); ok {
		r.fields["ttl_minutes"] = min(slowestTTL, max(1, int(ttl)/speed))
	}
	return r.fields
}

func send(base string, batch *bytes.Buffer) error {
	if batch.Len() == 0 {
		return nil
	}
	resp, err := http.Post(base+"/webhook/status", "application/x-ndjson", batch)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it has been read
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(string(answer))
	}
	return err
}

// summary says in one line how the fleet is.
func summary(base string) string {
	var s struct {
		Agents   int
		Sessions struct {
			Active, Lost int
			ByStatus     struct{ Running, Pending, Success, Failed int } `json:"by_status"`
		}
	}
	resp, err := http.Get(base + "/api/summary")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close() //nolint:errcheck // it has been read
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return err.Error()
	}
	of := s.Sessions.ByStatus
	return fmt.Sprintf("agents %d  running %d  pending %d  success %d  failed %d  lost %d   ",
		s.Agents, of.Running, of.Pending, of.Success, of.Failed, s.Sessions.Lost)
}
