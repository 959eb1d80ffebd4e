package handlers

import (
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/models"
)

// Connect serves the page with the lines to paste into the settings of each tool, or a plain-text overview for clients
// that don't accept HTML: GET /connect. It needs no token: without one, it reveals only the address of the request and
// whether the server requires tokens. To clients that may read, it also says which tools of their agents have reported.
// The page's links are relative, so a path with a trailing slash redirects to the one without.
func (h *Handler) Connect(w http.ResponseWriter, r *http.Request) error {
	activity, err := h.activity(w, r)
	if err != nil {
		return err
	}
	server, err := h.serverAddress(r)
	if err != nil {
		return err
	}
	w.Header().Add("Vary", "Accept")
	if accept := r.Header.Get("Accept"); accept != "" && !strings.Contains(accept, "text/html") {
		writeText(w, connect.Overview(server, activity))
		return nil
	}
	if trimmed := strings.TrimRight(r.URL.Path, "/"); trimmed != r.URL.Path {
		w.Header().Set("Location", strings.Repeat("../", len(r.URL.Path)-len(trimmed))+"connect")
		w.WriteHeader(http.StatusPermanentRedirect)
		return nil
	}
	return h.Dashboard.Connect(w, r, server, activity)
}

// activity returns which tools of the client's agents have reported, nil if the client may not read or the state is not
// complete yet. The error is a *models.Error: the client sent too many requests.
func (h *Handler) activity(w http.ResponseWriter, r *http.Request) (*connect.Activity, error) {
	err := h.enter(w, r, access.Read)
	var known *models.Error
	switch {
	case errors.As(err, &known) && known.Code == models.CodeTooManyRequests:
		return nil, err
	case err != nil: // like a stranger, who may see the rest
		w.Header().Del("WWW-Authenticate")
		return nil, nil
	case !h.replayed.Load():
		return nil, nil
	}
	now, team := h.now(), grantOf(w).Team()
	activity := &connect.Activity{Limited: team != nil}
	for _, tool := range connect.Tools() {
		if use := h.Store.ToolUse(team, tool.Name); use.Agents > 0 {
			activity.Tools = append(activity.Tools, connect.ToolActivity{Title: tool.Title, Agents: use.Agents, Last: now.Sub(use.Last)})
		}
	}
	return activity, nil
}

// writeText responds with plain text. It must not be cached, since it depends on the address of the request.
func writeText(w http.ResponseWriter, text string) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header["Cache-Control"] = noStore
	io.WriteString(w, text) //nolint:errcheck // fails only if the client is gone
}

// ConnectClient serves the lines for one tool as plain text: GET /connect/{client}.
func (h *Handler) ConnectClient(w http.ResponseWriter, r *http.Request) error {
	if err := h.countStranger(w, r); err != nil {
		return err
	}
	server, err := h.serverAddress(r)
	if err != nil {
		return err
	}
	client := connect.Named(pathParam(r, "client"))
	if client == nil {
		return models.NotFound("client: /connect/ must be followed by one of: " + strings.Join(connect.Names(), ", "))
	}
	writeText(w, client.Lines(server))
	return nil
}

// hostAndPort matches the Host headers that may be repeated in the response, where they become part of shell commands.
var hostAndPort = regexp.MustCompile(`^([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)

// serverAddress returns the server at PUBLIC_URL or, if that is unset, at the address of the request, which may have
// come through a trusted proxy.
func (h *Handler) serverAddress(r *http.Request) (s connect.Server, err error) {
	if h.PublicURL != nil {
		return h.serverAt(h.PublicURL.String()), nil
	}
	host := r.Host
	if forwarded := r.Header.Get("X-Forwarded-Host"); forwarded != "" && h.viaProxy(r) {
		host = forwarded
	}
	if !hostAndPort.MatchString(host) {
		return s, models.BadRequest("Host", "must be a name or an address, and may end with a port")
	}
	at, _ := reachedAt(r)
	if at.err != nil {
		return s, at.err
	}
	scheme := "http://"
	if h.encrypted(r) {
		scheme = "https://"
	}
	return h.serverAt(scheme + host + at.prefix), nil
}

// serverAt returns this server at an address.
func (h *Handler) serverAt(address string) connect.Server {
	return connect.Server{Address: address, Tokens: h.Access.Tokens != nil, Signed: h.Access.takesOnlySigned()}
}
