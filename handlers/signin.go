package handlers

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/dashboard"
	"github.com/kubeagents/kubeagents/models"
)

// maxForm is the maximum size of the sign-in form, in bytes.
const maxForm = 8 << 10

// Page serves the dashboard to clients that may read, and the sign-in form to others: GET /.
func (h *Handler) Page(w http.ResponseWriter, r *http.Request) error {
	if h.withSlash(w, r) {
		return nil
	}
	err := h.enter(w, r, access.Read)
	var known *models.Error
	if errors.As(err, &known) && known.Code == models.CodeUnauthorized {
		envelopeOf(w).refused = known.Message
		return h.Dashboard.SignIn(w, r, dashboard.SignIn{Status: http.StatusUnauthorized, Query: viewOf(r.URL.RawQuery), Base: h.base(r)})
	}
	if err != nil {
		return err
	}
	if !h.replayed.Load() {
		return errReplaying
	}
	if r, err = h.awaitPage(w, r); err != nil {
		return err
	}
	h.refresh()
	return h.Dashboard.Page(w, r, grantOf(w), h.serverAt(""), h.pushFor(grantOf(w)), h.base(r), h.now())
}

// SignIn accepts the form with a token, and signs the browser in for reading: POST /sign-in.
func (h *Handler) SignIn(w http.ResponseWriter, r *http.Request) error {
	if h.Access.Tokens == nil {
		return h.NotFound(w, r)
	}
	env := envelopeOf(w)
	if err := h.countStranger(w, r); err != nil {
		return err
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return models.BadRequest("", "the form is malformed or too large")
	}
	query := viewOf(r.PostForm.Get("view"))
	grant, err := h.Access.Tokens.Grant(strings.TrimSpace(r.PostForm.Get("token")))
	if err == nil && !grant.Allows(access.Read) {
		err = errors.New("this token can't read: it lacks the scope read")
	}
	if err != nil {
		env.refused = err.Error()
		return h.Dashboard.SignIn(w, r, dashboard.SignIn{Status: http.StatusUnauthorized, Query: query, Fault: err.Error(), Base: h.base(r)})
	}
	env.grant = grant
	h.setSecret(w, r, h.Access.SignIns.Add(grant), int(access.SignedInFor/time.Second))
	home(w, query)
	h.audit(r, env, "signed in", "")
	return nil
}

// SignOut ends the browser's sign-in: POST /sign-out.
func (h *Handler) SignOut(w http.ResponseWriter, r *http.Request) error {
	if h.Access.Tokens == nil {
		return h.NotFound(w, r)
	}
	for _, secret := range h.secretsOf(r) {
		h.Access.SignIns.End(secret)
	}
	h.setSecret(w, r, "", -1)
	home(w, "")
	return nil
}

// viewOf returns the parameters of a query that select a view of the dashboard. It drops everything else, which could
// be a token.
func viewOf(query string) string {
	values, _ := url.ParseQuery(query)
	for name := range values {
		switch name {
		case "view", "agent", "session", "agent_id", "needs", "state", "status", "waiting", "source", "search", "sort":
		default:
			values.Del(name)
		}
	}
	return values.Encode()
}

// home redirects to the dashboard with this query. The location is relative, so that it works under any prefix.
func home(w http.ResponseWriter, query string) {
	location := "./"
	if query != "" {
		location += "?" + query
	}
	w.Header().Set("Location", location)
	w.Header()["Cache-Control"] = noStore
	w.WriteHeader(http.StatusSeeOther)
}

// The cookies that hold the secret of a sign-in: without TLS, with TLS, and with TLS if the server is under a path
// prefix on a host that it may share. Browsers accept cookies with a prefix only over TLS, and __Host- cookies only
// from that very host (RFC 6265bis, section 4.1.3).
const (
	cookieName       = "kubeagents"
	hostCookieName   = "__Host-kubeagents"
	secureCookieName = "__Secure-kubeagents"
)

func (h *Handler) setSecret(w http.ResponseWriter, r *http.Request, secret string, maxAge int) {
	cookie := &http.Cookie{
		Name: cookieName, Value: secret, Path: "/", MaxAge: maxAge,
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
	if h.atPrefix(r) && h.prefix(r) != "" {
		cookie.Path = h.prefix(r) // without a trailing slash, so that it is also sent to the prefix itself
	}
	if h.encrypted(r) {
		cookie.Name, cookie.Secure = hostCookieName, true
		if cookie.Path != "/" {
			cookie.Name = secureCookieName
		}
	}
	http.SetCookie(w, cookie)
}

// encrypted reports whether the client's connection is encrypted, be it to this server or to a proxy.
func (h *Handler) encrypted(r *http.Request) bool {
	return r.TLS != nil || h.viaProxy(r) && r.Header.Get("X-Forwarded-Proto") == "https" || h.atPublicHost(r) && h.PublicURL.Scheme == "https"
}

// secretsOf returns the secrets of sign-ins in the request's cookies. Over TLS it ignores the cookie without a prefix,
// which anybody on the network could have set.
func (h *Handler) secretsOf(r *http.Request) (secrets []string) {
	names := []string{cookieName}
	if h.encrypted(r) {
		names = []string{hostCookieName}
		if h.atPrefix(r) && h.prefix(r) != "" {
			names = append(names, secureCookieName) // which any other server of the domain can set
		}
	}
	for _, name := range names {
		for _, cookie := range r.CookiesNamed(name) {
			secrets = append(secrets, cookie.Value)
		}
	}
	return secrets
}

// signedIn returns the grant of the request's sign-in, nil if there is none.
func (h *Handler) signedIn(r *http.Request) *access.Grant {
	if h.Access.SignIns == nil {
		return nil
	}
	for _, secret := range h.secretsOf(r) {
		if grant := h.Access.SignIns.Grant(secret); grant != nil {
			return grant
		}
	}
	return nil
}
