package command

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/kubeagents/kubeagents/internal/client"
	"github.com/kubeagents/kubeagents/models"
)

// Variables that say which server the commands talk to.
const (
	serverVariable = "KUBEAGENTS_SERVER"
	tokenVariable  = "KUBEAGENTS_TOKEN"

	defaultServer = "http://localhost:8080"
)

var status = command{
	name:    "status",
	summary: "show which agents need you, from a running server",
	help: "The exit status is 0 if no agent is waiting, 1 if one is, and 3 if the server can't be reached or refuses.\n" +
		"The environment may name the server (" + serverVariable + ") and the token (" + tokenVariable + ").",
	define: func(flags *flag.FlagSet) action {
		var s statusCommand
		s.server = defineServer(flags)
		flags.BoolVar(&s.watch, "watch", false, "show every change as it happens, until Ctrl-C")
		flags.BoolVar(&s.json, "json", false, "print JSON")
		flags.BoolVar(&s.line, "line", false, "print one short line, as for the prompt of a shell or for tmux")
		flags.IntVar(&s.most, "n", 10, "the `number` of sessions to list of each kind, 1 to 1000")
		return s.run
	},
}

// serverFlags say which server a command talks to.
type serverFlags struct{ address, tokenFile *string }

func defineServer(flags *flag.FlagSet) serverFlags {
	return serverFlags{
		flags.String("server", "", "the `URL` of the server (default "+defaultServer+")"),
		flags.String("token-file", "", "the `file` that holds the token, if the server wants one"),
	}
}

// server returns the address of the server that the flags name, or else the environment.
func (f serverFlags) server(environment map[string]string) string {
	return cmp.Or(*f.address, environment[serverVariable], defaultServer)
}

// client returns a client of the server that the flags name, or else the environment.
func (f serverFlags) client(environment map[string]string) (*client.Client, error) {
	token := environment[tokenVariable]
	if *f.tokenFile != "" {
		text, err := os.ReadFile(*f.tokenFile)
		if err != nil {
			return nil, usageError{fmt.Errorf("-token-file: %w", err)}
		}
		token = strings.TrimSpace(string(text))
	}
	c, err := client.New(f.server(environment), token)
	if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// unreachable returns the error of a command whose server can't be reached or refuses, with what to do about it.
func unreachable(err error) error {
	advice := ": start the server, or name another one with -server"
	if refusal, ok := errors.AsType[*client.Refusal](err); ok {
		switch refusal.Status {
		case http.StatusUnauthorized:
			advice = "; set " + tokenVariable + " to a valid token, or name its file with -token-file"
		case http.StatusForbidden:
			advice = ""
		}
	}
	return statusError{ExitUnreachable, fmt.Errorf("%w%s", err, advice)}
}

// statusCommand shows the fleet.
type statusCommand struct {
	server            serverFlags
	watch, json, line bool
	most              int // sessions of each kind
}

func (s *statusCommand) run(ctx context.Context, p Program, _ []string) error {
	switch {
	case s.json && s.line:
		return usageError{errors.New("-json and -line exclude each other")}
	case s.most < 1 || s.most > 1000:
		return usageError{errors.New("-n must be 1 to 1000")}
	}
	c, err := s.server.client(p.Environment)
	if err != nil {
		return err
	}
	w := s.writerTo(p)
	if s.watch {
		return watchFleet(ctx, c, s.most, w)
	}
	f, err := readFleet(ctx, c, s.most)
	if err != nil {
		return unreachable(err)
	}
	if err := w.write(f); err != nil {
		return err
	}
	if f.Summary.Needs.Waiting > 0 {
		return statusError{status: ExitWaiting}
	}
	return nil
}

// fleet is what the command shows of a server.
type fleet struct {
	Summary models.Summary        `json:"summary"`
	Waiting []models.FleetSession `json:"waiting"` // longest waiting first
	Lost    []models.FleetSession `json:"lost"`    // the newest first, as are the others
	Failed  []models.FleetSession `json:"failed"`
	Running []models.FleetSession `json:"running"`

	position string // in the stream of events
}

// readFleet reads the counts, and at most so many sessions of each kind.
func readFleet(ctx context.Context, c *client.Client, most int) (f fleet, err error) {
	if f.Summary, err = c.Summary(ctx); err != nil {
		return f, err
	}
	for _, list := range []struct {
		into  *[]models.FleetSession
		query string
	}{
		{&f.Waiting, "needs=waiting"},
		{&f.Lost, "needs=lost"},
		{&f.Failed, "needs=failed"},
		{&f.Running, "status=running&expired=false"},
	} {
		parameters, err := url.ParseQuery(list.query)
		if err != nil {
			return f, err
		}
		parameters.Set("limit", strconv.Itoa(most))
		page, err := c.Sessions(ctx, parameters)
		if err != nil {
			return f, err
		}
		*list.into = page.Sessions
		if f.position == "" {
			f.position = page.EventID
		}
	}
	return f, nil
}

// fleetWriter writes a fleet, again and again if it is watched.
type fleetWriter interface {
	write(fleet) error
	// trouble says that the fleet can't be read for now.
	trouble(error) error
}

// writerTo returns the writer that the flags ask for.
func (s *statusCommand) writerTo(p Program) fleetWriter {
	switch {
	case s.json:
		return jsonWriter{json.NewEncoder(p.Stdout), p.Stderr}
	case s.line:
		return lineWriter{p.Stdout, p.Stderr}
	}
	o := &overview{out: p.Stdout, err: p.Stderr, watched: s.watch, now: time.Now}
	if file, ok := p.Stdout.(*os.File); ok && term.IsTerminal(int(file.Fd())) { //nolint:gosec // a file descriptor fits into an int
		o.size = func() (width, height int) {
			width, height, err := term.GetSize(int(file.Fd())) //nolint:gosec // see above
			if err != nil {
				return 0, 0
			}
			return width, height
		}
		o.colours = p.Environment["NO_COLOR"] == "" && p.Environment["TERM"] != "dumb"
	}
	return o
}

// The shortest time between two readings of a watched fleet, and the longest: the ages that are shown grow.
const (
	minWatchInterval = 250 * time.Millisecond
	maxWatchInterval = 15 * time.Second
)

// watchFleet writes the fleet whenever it changes, until ctx ends. It reports trouble with the server, and tries again.
func watchFleet(ctx context.Context, c *client.Client, most int, w fleetWriter) error {
	var last []byte
	for wait := minWatchInterval; ctx.Err() == nil; {
		f, err := readFleet(ctx, c, most)
		var events *client.EventReader
		if err == nil {
			if events, err = c.Events(ctx, f.position); err == nil {
				wait = minWatchInterval
				err = follow(ctx, c, most, w, f, events, &last)
			}
		}
		if ctx.Err() != nil {
			break
		}
		if written := w.trouble(err); written != nil {
			return written
		}
		sleep(ctx, wait)
		wait = min(2*wait, maxWatchInterval)
	}
	return nil
}

// follow writes f, and the fleet again after changes that events tell of, until the stream or ctx ends.
func follow(ctx context.Context, c *client.Client, most int, w fleetWriter, f fleet, events *client.EventReader, last *[]byte) error {
	defer events.Close() //nolint:errcheck // nothing of it is needed any more
	changed, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		for {
			e, err := events.Next()
			if err != nil {
				ended <- err
				return
			}
			if e.Name != "" {
				select {
				case changed <- struct{}{}:
				default:
				}
			}
		}
	}()
	for {
		if err := writeChanged(w, f, last); err != nil {
			return err
		}
		sleep(ctx, minWatchInterval)
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			return fmt.Errorf("the connection to %s broke", c.Server())
		case <-changed:
		case <-time.After(maxWatchInterval):
			*last = nil
		}
		var err error
		if f, err = readFleet(ctx, c, most); err != nil {
			return err
		}
	}
}

// writeChanged writes f unless it is what was written last.
func writeChanged(w fleetWriter, f fleet, last *[]byte) error {
	text, err := json.Marshal(f)
	if err != nil || bytes.Equal(text, *last) {
		return err
	}
	*last = text
	return w.write(f)
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
