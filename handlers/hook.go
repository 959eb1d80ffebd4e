package handlers

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/kubeagents/kubeagents/internal/adapters"
	"github.com/kubeagents/kubeagents/models"
)

// Hook accepts an event from an agent's tool: POST /webhook/{client}. The response has no body, because some tools act
// on one, except to a dry run.
func (h *Handler) Hook(w http.ResponseWriter, r *http.Request) error {
	client := adapters.Named(pathParam(r, "client"))
	if client == nil {
		return models.NotFound("client: /webhook/ must be followed by status, for status reports, or by one of: " + strings.Join(adapters.Names(), ", "))
	}
	if err := setIgnoredParameters(w.Header(), r, "access_token", "agent_id", "agent_name", "agent_host", "event", "ttl_minutes"); err != nil {
		return err
	}
	options, err := h.hookOptions(r)
	if err != nil {
		return err
	}
	body, err := openPayload(w, r, maxEventBytes)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // it never fails
	report, effect, err := client.Report(body, options)
	if err != nil {
		return err
	}
	switch dry, err := isDryRun(r); {
	case err != nil:
		return err
	case dry:
		return h.answerDryRun(w, report, effect)
	}
	in := intakes.Get().(*intake)
	defer in.release()
	h.Metrics.CountHook(client.Name, adapters.EffectNames[effect])
	if effect != adapters.Ignored {
		in.reports, in.faults = append(in.reports[:0], report), append(in.faults[:0], nil)
		if err := in.addKey(r.Header.Get(idempotencyKey), false); err != nil {
			return err
		}
		h.take(w, in)
		if in.faults[0] != nil {
			return in.faults[0]
		}
	}
	h.setPosition(w)
	w.WriteHeader(http.StatusOK)
	return nil
}

// hookOptions returns the options that the settings of an agent's tool specify in headers or in the query.
func (h *Handler) hookOptions(r *http.Request) (adapters.Options, error) {
	o := adapters.Options{
		AgentID:   r.Header.Get("X-Agent-Id"),
		AgentName: r.Header.Get("X-Agent-Name"),
		AgentHost: r.Header.Get("X-Agent-Host"),
		Capture:   cmp.Or(h.Capture, adapters.CaptureFull),
		Now:       h.now(),
	}
	if r.URL.RawQuery == "" {
		return o, nil
	}
	p := newParams(r)
	orParam := func(header, name string) string {
		value, _ := p.get(name)
		return cmp.Or(strings.TrimSpace(header), value)
	}
	o.AgentID, o.AgentName = orParam(o.AgentID, "agent_id"), orParam(o.AgentName, "agent_name")
	o.AgentHost, o.Event = orParam(o.AgentHost, "agent_host"), orParam("", "event")
	if text, _ := p.get("ttl_minutes"); text != "" {
		minutes, err := strconv.Atoi(text)
		if err != nil || minutes < 0 || minutes > models.MaxTTLMinutes {
			p.fail("ttl_minutes", fmt.Sprintf("must be a whole number from %d to %d, or 0 to keep the session's", models.MinTTLMinutes, models.MaxTTLMinutes))
		}
		o.TTLMinutes = minutes
	}
	return o, p.err
}
