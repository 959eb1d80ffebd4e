//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sse "github.com/kubeagents/kubeagents/internal/client"
	"github.com/kubeagents/kubeagents/models"
)

// follower keeps a list of all sessions by the changes that a group's servers stream. When a stream ends, it goes on at
// the next server. When it is told that changes are missing, it lists anew.
type follower struct {
	group *group
	ended sync.WaitGroup

	mu       sync.Mutex // protects what follows
	sessions map[key]followed
	lastID   string
	faults   []string
	events   int
	streams  int
	resets   []string
}

// followed is what a follower knows of a session.
type followed struct {
	Status  models.Status
	Message string
	Expired bool
}

// followChanges starts a follower, which begins at one of the servers and ends with the test.
func followChanges(t *testing.T, g *group, first int) *follower {
	ctx := t.Context()
	f := &follower{group: g}
	f.ended.Go(func() {
		for server := first; ctx.Err() == nil; server++ {
			if err := f.readFrom(ctx, server%len(g.servers)); err != nil && ctx.Err() == nil {
				time.Sleep(50 * time.Millisecond) // as a client does before it tries again
			}
		}
	})
	t.Cleanup(f.ended.Wait)
	return f
}

func (f *follower) url(server int) string { return "http://" + f.group.server(server).address }

// readFrom reads changes from a server until the stream ends.
func (f *follower) readFrom(ctx context.Context, server int) error {
	address := f.url(server)
	if f.lastID == "" {
		if err := f.list(ctx, address); err != nil {
			return err
		}
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/api/events", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Last-Event-ID", f.lastID)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it is read to the end
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	f.mu.Lock()
	f.streams++
	f.mu.Unlock()
	for events := sse.NewEventReader(resp.Body); ; {
		event, err := events.Next()
		if err != nil {
			return err
		}
		if f.note(&event, server) == errReset {
			return f.list(ctx, address)
		}
	}
}

// errReset means that the follower must list anew.
var errReset = errors.New("changes are missing")

// note notes an event.
func (f *follower) note(e *sse.Event, server int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.Name == "reset" {
		f.resets, f.lastID = append(f.resets, fmt.Sprintf("server %d: %s", server, e.Data)), ""
		return errReset
	}
	if e.ID != "" {
		if placeIn(e.ID).before(placeIn(f.lastID)) || e.Name != "" && e.Name != "bye" && e.ID == f.lastID {
			f.faults = append(f.faults, fmt.Sprintf("server %d sent %+v after %s", server, *e, f.lastID))
		}
		f.lastID = e.ID
	}
	var data struct {
		AgentID      string `json:"agent_id"`
		SessionTopic string `json:"session_topic"`
		Status       models.Status
		Message      string
	}
	switch e.Name {
	case "status", "expired":
		if err := json.Unmarshal([]byte(e.Data), &data); err != nil {
			f.faults = append(f.faults, err.Error())
		}
	default:
		return nil
	}
	f.events++
	k := key{data.AgentID, data.SessionTopic}
	before, known := f.sessions[k]
	if e.Name == "status" && strings.HasPrefix(k.topic, "session-") && data.Message != before.next(known) {
		f.faults = append(f.faults, fmt.Sprintf("server %d sent %+v, but the last one was %q", server, *e, before.Message))
	}
	f.sessions[k] = followed{data.Status, data.Message, e.Name == "expired"}
	return nil
}

// next returns the message of the session's next report.
func (s followed) next(known bool) string {
	if !known {
		return "0"
	}
	n, _ := strconv.Atoi(s.Message) //nolint:errcheck // 0 is as wrong
	return strconv.Itoa(n + 1)
}

// place is the place of an event ID in the stream.
type place struct{ message, made int }

func placeIn(id string) (p place) {
	parts := strings.Split(id, "-")
	if len(parts) == 3 {
		p.message, _ = strconv.Atoi(parts[1]) //nolint:errcheck // 0 is as wrong
		p.made, _ = strconv.Atoi(parts[2])    //nolint:errcheck // see above
	}
	return p
}

func (p place) before(q place) bool {
	return p.message < q.message || p.message == q.message && p.made < q.made
}

// list reads the list of all sessions from a server.
func (f *follower) list(ctx context.Context, address string) error {
	all, id, err := listAll(ctx, address)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions, f.lastID = all, id
	return nil
}

// listAll returns all sessions, which must fit into one page, and the event ID up to which the list goes.
func listAll(ctx context.Context, address string) (all map[key]followed, id string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/api/sessions?limit=1000", nil)
	if err != nil {
		return nil, "", err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close() //nolint:errcheck // it is read to the end
	var page struct{ Sessions []models.FleetSession }
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		return nil, "", err
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Link") != "" {
		return nil, "", errors.New(resp.Status)
	}
	all = map[key]followed{}
	for _, s := range page.Sessions {
		all[key{s.AgentID, s.Topic}] = followed{s.CurrentStatus, s.CurrentMessage, s.Expired}
	}
	return all, resp.Header.Get("X-Event-Id"), nil
}

// requireComplete requires that the follower comes to the list that a server has. That it got each change since it listed
// once, note has checked.
func (f *follower) requireComplete(t *testing.T) {
	var listed, known map[key]followed
	for began := time.Now(); time.Since(began) < chaosPatience; time.Sleep(10 * time.Millisecond) {
		var err error
		listed, _, err = listAll(t.Context(), f.url(0))
		require.NoError(t, err)
		f.mu.Lock()
		known = maps.Clone(f.sessions)
		f.mu.Unlock()
		if maps.Equal(listed, known) {
			break
		}
	}
	require.Equal(t, listed, known)
	f.mu.Lock()
	defer f.mu.Unlock()
	t.Logf("the follower got %d events in %d streams, and was reset: %q", f.events, f.streams, f.resets)
	require.Empty(t, f.faults)
}
