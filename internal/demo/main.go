// Demo starts the server and replays a recorded day of 200 agents to it, with current timestamps, so that you can watch
// a fleet at work. It uses PORT like the server does. An interrupt stops both.
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
	// speed is how many seconds of the recorded day are replayed per second. The day takes about nine minutes.
	speed = 60
	// headStart is how much of the day is replayed immediately.
	headStart = 90 * time.Minute
	// maxTTL is the maximum TTL of a session in minutes. It is short so that you can see sessions expire.
	maxTTL = 3
	// shutdownTimeout is the server's SHUTDOWN_TIMEOUT.
	shutdownTimeout = time.Second
)

func main() {
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	if err := run(ctx); ctx.Err() == nil { // otherwise it was interrupted
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	base := "http://127.0.0.1:" + cmp.Or(os.Getenv("PORT"), "8080")
	if resp, err := http.Get(base); err == nil {
		resp.Body.Close() //nolint:errcheck // any answer is enough
		return fmt.Errorf("a server is already running at %s: set PORT to another port", base)
	}
	dir, err := os.MkdirTemp("", "kubeagents-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the system cleans up its temporary directory
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

// stop stops the server. An interrupt from a terminal reaches the server as well, and a second one would cut its
// graceful shutdown short. So stop sends a signal only if there was no interrupt, or if that did not stop the server in
// time.
func stop(ctx context.Context, server *os.Process, ended <-chan struct{}) {
	if ctx.Err() != nil {
		select {
		case <-ended:
		case <-time.After(2 * shutdownTimeout):
		}
	}
	server.Signal(syscall.SIGTERM) //nolint:errcheck // it may have stopped already
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
	fmt.Println("The day is over. The server runs until you interrupt it.")
	<-ctx.Done()
	return context.Cause(ctx)
}

func waitUntilReady(ctx context.Context, base string) error {
	for {
		resp, err := http.Get(base + "/health/ready")
		if err == nil {
			resp.Body.Close() //nolint:errcheck // only the status matters
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

// report is a decoded report of the recorded day.
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
	clock := reports[0].timestamp.Add(headStart) // the time of the recorded day
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

// stamped returns the report with a current timestamp, given that clock is the time of the recorded day. Late reports
// stay late, and TTLs are shortened like the day.
func (r report) stamped(clock time.Time) map[string]any {
	r.fields["timestamp"] = time.Now().Add(-clock.Sub(r.timestamp) / speed)
	if ttl, ok := r.fields["ttl_minutes"].(float64); ok {
		r.fields["ttl_minutes"] = min(maxTTL, max(1, int(ttl)/speed))
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

// summary returns the state of the fleet in one line.
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
