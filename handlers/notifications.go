package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// maxPending is how many notifications that are to be sent a response has.
const maxPending = 100

// aDevice is what a device is called in responses. Its name is for its owner only.
const aDevice = "a device"

// kindDevice is the kind of a device as a destination.
const kindDevice = "device"

// notifications is the response to GET /api/notifications. Clients that don't manage notifications get no rules and no
// destinations, and only what is about their agents.
type notifications struct {
	RulesFile    bool                  `json:"rules_file"`
	Manages      bool                  `json:"manages"` // see [access.Grant.ManagesNotifications]
	Rules        []notificationRule    `json:"rules,omitzero"`
	Destinations []destination         `json:"destinations,omitzero"`
	Pending      []pendingNotification `json:"pending"`
	Planned      int                   `json:"planned"`
	ToSend       int                   `json:"to_send"`
	Oldest       time.Time             `json:"oldest,omitzero"`
	Recent       []sentNotification    `json:"recent"`
	Mutes        []shownMute           `json:"mutes"`

	// Of a cluster: another server than this one sends, and the name of the one that does.
	Standby bool   `json:"standby,omitzero"`
	Sender  string `json:"sender,omitzero"`
}

type notificationRule struct {
	Name         string             `json:"name"`
	Description  []string           `json:"description"` // one fact per line, for people
	On           []notify.Change    `json:"on"`
	Agents       []string           `json:"agents,omitzero"`
	Sources      []string           `json:"sources,omitzero"`
	Title        string             `json:"title,omitzero"`
	Steps        []notificationStep `json:"steps"`
	EverySeconds float64            `json:"every_seconds,omitzero"`
	UntilSeconds float64            `json:"until_seconds,omitzero"`
	Quiet        *quietHours        `json:"quiet,omitzero"`
	Text         string             `json:"text"`
	FollowUp     bool               `json:"follow_up"`
	AtKeyboard   string             `json:"at_keyboard"`
	MutedUntil   time.Time          `json:"muted_until,omitzero"`
}

type notificationStep struct {
	AfterSeconds map[notify.Change]float64 `json:"after_seconds"` // after each change
	To           []string                  `json:"to"`
}

type quietHours struct {
	From string `json:"from"`
	To   string `json:"to"`
	Zone string `json:"zone"`
	Do   string `json:"do"`
}

type destination struct {
	Name          string     `json:"name"`
	Kind          string     `json:"kind"`
	LastDelivered time.Time  `json:"last_delivered,omitzero"`
	LastError     string     `json:"last_error,omitzero"`
	LastFailed    time.Time  `json:"last_failed,omitzero"`
	Failing       bool       `json:"failing"`
	ToSend        int        `json:"to_send"`
	PausedUntil   time.Time  `json:"paused_until,omitzero"`
	AtMost        *sendLimit `json:"at_most,omitzero"` // nil for no limit
}

type sendLimit struct {
	Messages   int     `json:"messages"`
	PerSeconds float64 `json:"per_seconds"`
}

// aboutSession is the session that a notification is about, as far as it is known. A summary has none.
type aboutSession struct {
	AgentID   string `json:"agent_id,omitzero"`
	Topic     string `json:"session_topic,omitzero"`
	Title     string `json:"title,omitzero"`
	AgentName string `json:"agent_name,omitzero"`
	AgentHost string `json:"agent_host,omitzero"`
}

// notifiedBy is where a notification goes and why. Only clients that manage notifications get the names.
type notifiedBy struct {
	Destination string `json:"destination,omitzero"`
	Kind        string `json:"kind,omitzero"`
	Rule        string `json:"rule,omitzero"`
}

type pendingNotification struct {
	aboutSession
	notifiedBy
	Change     string    `json:"change,omitzero"` // "" for a summary
	Due        time.Time `json:"due"`
	Attempts   int       `json:"attempts"`
	Withdrawal bool      `json:"withdrawal"`
	Held       string    `json:"held,omitzero"`
}

type sentNotification struct {
	aboutSession
	notifiedBy
	ID      string                `json:"id"`
	At      time.Time             `json:"at"`
	Change  string                `json:"change,omitzero"`
	Summary map[notify.Change]int `json:"summary,omitzero"`
	Result  notify.Result         `json:"result"`
	Error   string                `json:"error,omitzero"` // only for clients that manage notifications
}

// Notifications returns what the server notifies people of, and what became of it: GET /api/notifications.
func (h *Handler) Notifications(w http.ResponseWriter, r *http.Request) error {
	grant := grantOf(w)
	view := h.Notifier.View(maxPending, coveredBy(grant))
	if err := h.reserveItems(r.Context(), heldOf(w), len(view.Pending)+len(view.Recent)+len(view.Rules)+len(view.Destinations)); err != nil {
		return err
	}
	s := &shownNotifications{h: h, token: grant.Token(), manages: grant.ManagesNotifications(), kinds: map[string]string{}, sessions: map[store.SessionKey]aboutSession{}}
	for _, d := range view.Destinations {
		s.kinds[d.Name] = d.Kind
	}
	result := notifications{
		RulesFile: h.HasRules, Manages: s.manages, Planned: view.Planned, ToSend: view.ToSend, Oldest: utc(view.Oldest),
		Pending: []pendingNotification{}, Recent: []sentNotification{}, Mutes: h.mutesFor(grant),
		Standby: view.Standby, Sender: view.Sender,
	}
	for _, p := range view.Pending {
		result.Pending = append(result.Pending, s.pending(p))
	}
	for _, d := range view.Recent {
		result.Recent = append(result.Recent, s.sent(d))
	}
	if s.manages {
		result.Rules, result.Destinations = rulesOf(view.Rules), destinationsOf(view.Destinations, h.now())
	}
	return respond(w, r, result)
}

// coveredBy returns which agents a client may see, nil for all.
func coveredBy(grant *access.Grant) func(agentID string) bool {
	if grant.Team() == nil {
		return nil
	}
	return grant.Covers
}

// shownNotifications makes the notifications of a response.
type shownNotifications struct {
	h        *Handler
	token    string // of the client, see [access.Grant.Token]
	manages  bool
	kinds    map[string]string                 // of destinations, by name
	sessions map[store.SessionKey]aboutSession // those that were looked up
}

func (s *shownNotifications) pending(p notify.PendingView) pendingNotification {
	shown := pendingNotification{aboutSession: s.session(p.Session), notifiedBy: s.by(p.Destination, p.Rule), Due: utc(p.Due), Attempts: p.Attempts, Withdrawal: p.Withdrawal, Held: p.Held}
	if p.Held == notify.AtKeyboard && p.Owner != s.token {
		shown.Held = "" // who is at the dashboard is nobody else's business
	}
	if p.Change != 0 {
		shown.Change = p.Change.String()
	}
	return shown
}

func (s *shownNotifications) sent(d notify.Delivery) sentNotification {
	shown := sentNotification{aboutSession: s.session(d.Session), notifiedBy: s.by(d.Destination, d.Rule), ID: d.ID, At: utc(d.At), Summary: d.Summary, Result: d.Result}
	if d.Change != 0 {
		shown.Change = d.Change.String()
	}
	if s.manages {
		shown.Error = d.Failure
	}
	return shown
}

func (s *shownNotifications) session(key store.SessionKey) aboutSession {
	if about, ok := s.sessions[key]; ok || key == (store.SessionKey{}) {
		return about
	}
	about := aboutSession{AgentID: key.AgentID, Topic: key.Topic}
	if session, _, _, ok := s.h.Store.SessionInFull(key.AgentID, key.Topic, nil, 1); ok {
		about.Title, about.AgentName, about.AgentHost = session.Title, session.AgentName, session.AgentHost
	}
	s.sessions[key] = about
	return about
}

func (s *shownNotifications) by(destination, rule string) notifiedBy {
	if notify.IsDevice(destination) {
		return notifiedBy{Destination: aDevice, Kind: kindDevice}
	}
	if !s.manages {
		return notifiedBy{Kind: s.kinds[destination]}
	}
	return notifiedBy{destination, s.kinds[destination], rule}
}

// rulesOf returns the rules of the file.
func rulesOf(views []notify.RuleView) []notificationRule {
	rules := []notificationRule{}
	for _, r := range views {
		shown := notificationRule{
			Name: r.Name, Description: strings.Split(r.Describe(), "\n"), On: r.Changes, Agents: r.Agents, Sources: r.Sources, Title: r.Title,
			EverySeconds: r.Every.Seconds(), UntilSeconds: r.Until.Seconds(), Text: notify.TextNames[r.Text], FollowUp: r.FollowUp,
			AtKeyboard: "hold", MutedUntil: utc(r.MutedUntil),
		}
		if r.AtKeyboard {
			shown.AtKeyboard = "send"
		}
		for _, step := range r.Steps {
			after := map[notify.Change]float64{}
			for _, change := range r.Changes {
				after[change] = step.AfterChange(change).Seconds()
			}
			shown.Steps = append(shown.Steps, notificationStep{after, step.To})
		}
		if q := r.Quiet; q != nil {
			shown.Quiet = &quietHours{notify.ClockTime(q.From), notify.ClockTime(q.To), q.Zone.String(), "hold"}
			if q.Drop {
				shown.Quiet.Do = "drop"
			}
		}
		rules = append(rules, shown)
	}
	return rules
}

// destinationsOf returns the destinations of the file.
func destinationsOf(views []notify.DestinationView, now time.Time) []destination {
	destinations := []destination{}
	for _, d := range views {
		if d.Kind == kindDevice {
			continue
		}
		shown := destination{Name: d.Name, Kind: d.Kind, LastDelivered: utc(d.Worked), LastError: d.Failure, LastFailed: utc(d.Failed), Failing: d.Failing, ToSend: d.ToSend}
		if now.Before(d.PausedUntil) {
			shown.PausedUntil = utc(d.PausedUntil)
		}
		if d.Limit != (notify.Limit{}) {
			shown.AtMost = &sendLimit{d.Limit.Messages, d.Limit.Per.Seconds()}
		}
		destinations = append(destinations, shown)
	}
	return destinations
}

// utc returns a time in UTC, and the zero time as it is.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

// How often destinations may be tested, since a test sends a real message.
const (
	testEvery   = 10 * time.Second
	testBurst   = 5
	testTimeout = 20 * time.Second
)

// TestDestination sends a test message to a destination: POST /api/notifications/test.
func (h *Handler) TestDestination(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Destination string `json:"destination"`
	}
	if err := readObject(w, r, maxMuteBody, &in, "a JSON object with destination, the name of one"); err != nil {
		return err
	}
	names := []string{}
	for _, d := range destinationsOf(h.Notifier.Destinations(), h.now()) {
		names = append(names, d.Name)
	}
	switch {
	case in.Destination == "":
		return models.BadRequest("destination", "is required")
	case !slices.Contains(names, in.Destination):
		return models.NotFound("destination: " + listOf("destinations", names))
	}
	if err := h.admitTest(w); err != nil {
		return err
	}
	err := h.testDestination(r.Context(), in.Destination)
	if err != nil {
		h.fail(w, r, err)
	} else {
		writeJSON(w, http.StatusOK, testResult{true})
	}
	h.auditDone(r, w, "tested", "destination "+in.Destination)
	return nil
}

// admitTest counts a test message. The error says that there were too many.
func (h *Handler) admitTest(w http.ResponseWriter) error {
	now := time.Now()
	if h.notificationTests.AllowN(now, 1) {
		return nil
	}
	after := time.Duration((1 - h.notificationTests.TokensAt(now)) * float64(testEvery))
	setRateLimit(w.Header(), testBurst, after)
	return models.TooManyRequests("too many test messages: try again later")
}

type testResult struct {
	Delivered bool `json:"delivered"`
}

// testDestination sends a test message, even if the client goes away. The error is a *models.Error.
func (h *Handler) testDestination(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), testTimeout)
	defer cancel()
	err := h.Notifier.Test(ctx, name)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, notify.ErrUnknownDestination): // it was removed just now
		return models.NotFound("destination")
	case ctx.Err() != nil:
		return models.BadGateway(fmt.Sprintf("the destination did not answer within %d seconds", testTimeout/time.Second))
	}
	return models.BadGateway(err.Error())
}

// listOf says which of some things there are, as in "the rules are a and b".
func listOf(what string, names []string) string {
	if len(names) == 0 {
		return "there are no " + what
	}
	return fmt.Sprintf("the %s are %s", what, strings.Join(names, ", "))
}

// ruleNames returns the names of the rules of the file.
func (h *Handler) ruleNames() (names []string) {
	for _, r := range h.Notifier.Rules() {
		names = append(names, r.Name)
	}
	return names
}
