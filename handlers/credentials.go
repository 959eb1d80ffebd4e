package handlers

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/models"
)

// identify returns what whoever asks for something of that scope may do. The error is a *models.Error.
func (h *Handler) identify(w http.ResponseWriter, r *http.Request, scope access.Scope) (*access.Grant, error) {
	token, err := tokenOf(r, scope)
	switch {
	case err != nil:
		return nil, err
	case token != "":
		grant, err := h.grantOfToken(token)
		if err != nil {
			return nil, challenge(w, err.Error(), "invalid_token")
		}
		return grant, nil
	case scope == access.Report && h.Access.Signatures != nil && access.Signed(r.Header):
		return h.checkSignature(w, r)
	case scope == access.Read && safe(r.Method):
		if grant := h.signedIn(r); grant != nil {
			return grant, nil
		}
	}
	return nil, challenge(w, "a token is required: Authorization: Bearer …", "")
}

func (h *Handler) grantOfToken(token string) (*access.Grant, error) {
	if h.Access.Tokens == nil {
		return nil, access.ErrUnknown
	}
	return h.Access.Tokens.Grant(token)
}

func safe(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// challenge says that a token is wanted (RFC 6750, section 3).
func challenge(w http.ResponseWriter, why, code string) error {
	value := `Bearer realm="kubeagents"`
	if code != "" {
		value += `, error="` + code + `"`
	}
	w.Header().Set("WWW-Authenticate", value)
	return models.Unauthorized(why)
}

// tokenOf returns the token that a request brings, "" where it brings none. Webhooks may bring it in the query, for clients
// that can't set a header.
func tokenOf(r *http.Request, scope access.Scope) (string, error) {
	token, err := bearer(r.Header["Authorization"])
	if err != nil || scope != access.Report || !strings.Contains(r.URL.RawQuery, "access_token") {
		return token, err
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", models.BadRequest("", "malformed query")
	}
	switch values := query["access_token"]; {
	case len(values) == 0:
		return token, nil
	case len(values) > 1 || token != "":
		return "", models.BadRequest("access_token", "must occur once, and not together with the header Authorization")
	default:
		return values[0], nil
	}
}

// bearer reads the header Authorization (RFC 6750, section 2.1). Without a token, as a command sends it whose variable is not set, it
// counts as absent.
func bearer(values []string) (string, error) {
	const scheme = "Bearer"
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", models.BadRequest("Authorization", "must occur once")
	}
	name, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(name, scheme) {
		return "", models.BadRequest("Authorization", "must be Bearer and a token")
	}
	return strings.TrimSpace(token), nil
}

// signedBody is the body of a signed webhook, which was read whole to check its signature. It counts among the bodies in memory
// until it is closed.
type signedBody struct {
	bytes.Reader
	text []byte // as sent, of a pool
	room room
}

// Close implements io.Closer.
func (b *signedBody) Close() error {
	text, taken := b.take()
	releaseBody(text)
	taken.leave()
	return nil
}

// take returns the text and the memory that it takes, which are the caller's from now on.
func (b *signedBody) take() ([]byte, room) {
	text, taken := b.text, b.room
	b.Reset(nil)
	b.text, b.room = nil, room{}
	return text, taken
}

// keepSigned has sent, which [readSigned] returned, be the body of a request. The error is for the client.
func (h *Handler) keepSigned(w http.ResponseWriter, r *http.Request, sent []byte) error {
	body := &signedBody{text: sent, room: room{h: h, ctx: r.Context(), env: envelopeOf(w)}}
	body.Reset(sent)
	r.Body = body
	if cap(sent) <= sizeOfBody(0) {
		return nil
	}
	return body.room.hold(cap(sent))
}

// closeSigned closes the body of a request if it is that of a signed webhook; any other is the server's to close.
func closeSigned(r *http.Request) {
	if body, ok := r.Body.(*signedBody); ok {
		body.Close() //nolint:errcheck // it never fails
	}
}

// checkSignature reads the body of a signed webhook as sent, checks it, and puts it back. All of it is in memory meanwhile, so that
// even a tool's event may be no larger than reports.
func (h *Handler) checkSignature(w http.ResponseWriter, r *http.Request) (*access.Grant, error) {
	body, err := sentBody(r, "a signed body", maxBodyBytes)
	if err != nil {
		return nil, err
	}
	st := h.enterStranger(w, r)
	defer st.leave()
	sent, err := readSigned(held{&body, st})
	if err != nil {
		releaseBody(sent)
		return nil, err
	}
	grant, err := h.Access.Signatures.Grant(sent, r.Header)
	if err != nil {
		releaseBody(sent)
		return nil, challenge(w, "the webhook's signature does not hold: "+err.Error(), "invalid_token")
	}
	if err := signedAlone(r); err != nil {
		releaseBody(sent)
		return nil, err
	}
	if env := envelopeOf(w); env != nil {
		env.webhookID = r.Header.Get(access.WebhookID)
	}
	st.leave() // before it gets its time: from then on nobody cuts it off
	letIn(w)
	if err := h.keepSigned(w, r, sent); err != nil {
		return nil, err
	}
	return grant, nil
}
