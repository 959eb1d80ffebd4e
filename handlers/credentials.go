package handlers

import (
	"bytes"
	"net/http"
	"strings"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/models"
)

// identify returns what the client of a request that needs scope may do. The error is a *models.Error.
func (h *Handler) identify(w http.ResponseWriter, r *http.Request, scope access.Scope) (*access.Grant, error) {
	token, err := tokenOf(r, scope)
	switch {
	case err != nil:
		return nil, err
	case token != "" && h.Access.Tokens != nil:
		grant, err := h.Access.Tokens.Grant(token)
		if err != nil {
			return nil, challenge(w, err.Error(), "invalid_token")
		}
		return grant, nil
	case scope == access.Report && h.Access.Signatures != nil && access.Signed(r.Header):
		return h.checkSignature(w, r)
	case scope == access.Read && safe(r.Method), scope == access.Acknowledge: // which is for pages of the server's own origin
		if grant := h.signedIn(r); grant != nil {
			return grant, nil
		}
	}
	switch {
	case scope == access.Report && h.Access.takesOnlySigned():
		return nil, challenge(w, onlySigned+": webhook-id, webhook-timestamp and webhook-signature are required", "")
	case scope != access.Report && r.URL.Query().Has("access_token"):
		return nil, challenge(w, "access_token in the URL works only for webhooks: use the Authorization header", "")
	}
	return nil, challenge(w, "a token is required: Authorization: Bearer …", "")
}

// onlySigned is why a server with WEBHOOK_SECRET and without tokens refuses a report.
const onlySigned = "this server accepts reports only as signed webhooks"

func safe(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// challenge asks for a token in the WWW-Authenticate header (RFC 6750, section 3), and returns the error.
func challenge(w http.ResponseWriter, why, code string) error {
	value := `Bearer realm="kubeagents"`
	if code != "" {
		value += `, error="` + code + `"`
	}
	w.Header().Set("WWW-Authenticate", value)
	return models.Unauthorized(why)
}

// tokenOf returns the token in a request, "" if there is none. Webhooks also accept it in the query, for clients that
// can't set a header.
func tokenOf(r *http.Request, scope access.Scope) (string, error) {
	token, err := bearer(r.Header["Authorization"])
	if err != nil || scope != access.Report || !strings.Contains(r.URL.RawQuery, "access_token") {
		return token, err
	}
	query, err := queryOf(r)
	if err != nil {
		return "", err
	}
	switch values := query["access_token"]; {
	case len(values) == 0:
		return token, nil
	case len(values) > 1 || token != "":
		return "", models.BadRequest("access_token", "must occur only once, and not together with the Authorization header")
	default:
		return values[0], nil
	}
}

// bearer parses the Authorization header (RFC 6750, section 2.1). A header without a token counts as absent: commands
// send it if the token's variable is not set.
func bearer(values []string) (string, error) {
	const scheme = "Bearer"
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", models.BadRequest("Authorization", "must occur only once")
	}
	name, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(name, scheme) {
		return "", models.BadRequest("Authorization", "must be Bearer followed by a token")
	}
	return strings.TrimSpace(token), nil
}

// signedBody is the body of a signed webhook, which was read completely to check its signature. Its memory counts as
// that of a request body until it is closed.
type signedBody struct {
	bytes.Reader
	text []byte // as sent, from a pool
	room room
}

// Close implements io.Closer.
func (b *signedBody) Close() error {
	text, taken := b.take()
	releaseBody(text)
	taken.leave()
	return nil
}

// take returns the text and its reserved memory, and passes their ownership to the caller.
func (b *signedBody) take() ([]byte, room) {
	text, taken := b.text, b.room
	b.Reset(nil)
	b.text, b.room = nil, room{}
	return text, taken
}

// keepSigned makes sent, which [readSigned] returned, the body of a request. The error is for the client.
func (h *Handler) keepSigned(w http.ResponseWriter, r *http.Request, sent []byte) error {
	body := &signedBody{text: sent, room: room{h: h, ctx: r.Context(), env: envelopeOf(w)}}
	body.Reset(sent)
	r.Body = body
	if cap(sent) <= sizeOfBody(0) {
		return nil
	}
	return body.room.hold(cap(sent))
}

// closeSigned closes the body of a signed webhook. net/http closes any other body.
func closeSigned(r *http.Request) {
	if body, ok := r.Body.(*signedBody); ok {
		body.Close() //nolint:errcheck // it never fails
	}
}

// checkSignature reads the body of a signed webhook, checks its signature, and puts the body back. Since it holds all
// of the body in memory, the size limit for reports applies to tools' events as well.
func (h *Handler) checkSignature(w http.ResponseWriter, r *http.Request) (*access.Grant, error) {
	body, err := sentBody(r, "a signed body", maxBodyBytes)
	if err != nil {
		return nil, err
	}
	st := h.enterStranger(w, r)
	defer st.leave()
	sent, err := readSigned(countedReader{&body, st})
	if err != nil {
		releaseBody(sent)
		return nil, err
	}
	grant, err := h.Access.Signatures.Grant(sent, r.Header)
	if err != nil {
		releaseBody(sent)
		return nil, challenge(w, "the webhook's signature is invalid: "+err.Error(), "invalid_token")
	}
	if err := restrictToSigned(r); err != nil {
		releaseBody(sent)
		return nil, err
	}
	if env := envelopeOf(w); env != nil {
		env.webhookID = r.Header.Get(access.WebhookID)
	}
	st.leave() // before its deadlines are extended, so that it is no longer dropped
	extendDeadlines(w)
	if err := h.keepSigned(w, r, sent); err != nil {
		return nil, err
	}
	return grant, nil
}
