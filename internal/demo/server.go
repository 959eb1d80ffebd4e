package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kubeagents/kubeagents/config"
)

const (
	// shutdownTimeout is the server's SHUTDOWN_TIMEOUT.
	shutdownTimeout = time.Second
	// retention is the server's SESSION_RETENTION. It bounds what an endless demo shows, and the memory that it takes.
	retention = 6 * time.Hour
)

// server is a running process of the server.
type server struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed once it serves
	ended chan struct{} // closed when it has ended

	url, address string // where people and agents reach it; valid once ready is closed
	err          error  // why it ended; valid once ended is closed
}

// startServer starts the server with its state in the directory data. It writes the server's warnings to stderr.
func startServer(program, data string, stderr io.Writer) (*server, error) {
	s := &server{cmd: exec.Command(program), ready: make(chan struct{}), ended: make(chan struct{})} //nolint:noctx // stop ends it
	s.cmd.Env = append(withoutSettings(os.Environ()), "DATA_DIR="+data, "LOG_FORMAT=json", "SHUTDOWN_TIMEOUT="+shutdownTimeout.String(),
		"SESSION_RETENTION="+retention.String(), "CORS_ALLOWED_ORIGINS=http://localhost") // the default is warned about
	log, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.ended)
		s.follow(log, stderr)
		if err := s.cmd.Wait(); s.err == nil {
			s.err = fmt.Errorf("the server ended: %w", cmp.Or(err, errors.New("exit status 0")))
		}
	}()
	return s, nil
}

// withoutSettings returns an environment without the server's settings, except for HOST and PORT: the demo must not
// touch the state of a real server, nor need a token.
func withoutSettings(environment []string) []string {
	dropped := map[string]bool{}
	for field := range reflect.TypeFor[config.Config]().Fields() {
		dropped[field.Tag.Get("env")] = true
	}
	dropped["HOST"], dropped["PORT"] = false, false
	return slices.DeleteFunc(slices.Clone(environment), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return dropped[name]
	})
}

// follow reads the server's log until it ends: where the server listens, why it stopped, and what it warns of.
func (s *server) follow(log io.Reader, stderr io.Writer) {
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct{ Level, Msg, URL, Address, Error string }
		switch err := json.Unmarshal(lines.Bytes(), &line); {
		case err != nil: // not a line of the log: settings are refused before there is one
			fmt.Fprintln(stderr, lines.Text()) //nolint:errcheck // there is nowhere else to write it
		case line.Msg == "serving" && s.url == "":
			s.url, s.address = line.URL, line.Address
		case line.Msg == "ready":
			close(s.ready)
		case line.Error != "" && line.Level == "ERROR":
			s.err = errors.New(line.Error)
		case line.Level != "INFO":
			fmt.Fprintln(stderr, strings.TrimSuffix(line.Msg+": "+line.Error, ": ")) //nolint:errcheck // see above
		}
	}
}

// stop stops the server and waits until it has ended. An interrupt from a terminal reaches the server as well, and a
// second one would cut its graceful shutdown short. So stop sends a signal only if there was no interrupt, or if that
// did not stop the server in time.
func (s *server) stop(ctx context.Context) {
	if ctx.Err() != nil {
		select {
		case <-s.ended:
		case <-time.After(2 * shutdownTimeout):
		}
	}
	s.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended already
	<-s.ended
}
