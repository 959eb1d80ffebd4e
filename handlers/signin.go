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

// maxForm is the size of the longest form that is read, in bytes.
const maxForm = 8 << 10

// Page serves the dashboard to those who may read, and to others the form with which they sign in: GET /.
func (h *Handler) Page(w http.ResponseWriter, r *http.Request) error {
	err := h.enter(w, r, access.Read)
	var known *models.Error
	if errors.As(err, &known) && known.Code == models.CodeUnauthorized {
		envelopeOf(w).refused = known.Message
		return h.Dashboard.SignIn(w, r, dashboard.SignIn{Status: http.StatusUnauthorized, Query: viewOf(r.URL.RawQuery)})
	}
	if err != nil {
		return err
	}
	if !h.replayed.Load() {
		return errReplaying
	}
	return h.Dashboard.Page(w, r, grantOf(w))
}

// SignIn takes the form with a token, and lets the browser read for a while: POST /sign-in.
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
		return models.BadRequest("", "the form can't be read")
	}
	query := viewOf(r.PostForm.Get("view"))
	grant, err := h.Access.Tokens.Grant(strings.TrimSpace(r.PostForm.Get("token")))
	if err == nil && !grant.Allows(access.Read) {
		err = errors.New("this token can't read: it lacks the scope read")
	}
	if err != nil {
		env.refused = err.Error()
		return h.Dashboard.SignIn(w, r, dashboard.SignIn{Status: http.StatusUnauthorized, Query: query, Fault: err.Error()})
	}
	env.grant = grant
	h.setSecret(w, r, h.Access.SignIns.Add(grant), int(access.SignedInFor/time.Second))
	home(w, query)
	h.audit(r, env, "signed in", "")
	return nil
}

// SignOut ends what SignIn began: POST /sign-out.
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

// viewOf returns what of a query names a view of the dashboard. Nothing else is repeated: it could be a token.
func viewOf(query string) string {
	values, _ := url.ParseQuery(query)
	for name := range values {
		switch name {
		case "view", "agent", "session", "state", "status", "source", "search", "sort":
		default:
			values.Del(name)
		}
	}
	return values.Encode()
}

// home sends a browser to the dashboard, with that query. The address is relative, so that it holds under any prefix.
func home(w http.ResponseWriter, query string) {
	location := "./"
	if query != "" {
		location += "?" + query
	}
	w.Header().Set("Location", location)
	w.Header()["Cache-Control"] = noStore
	w.WriteHeader(http.StatusSeeOther)
}

// The cookies that keep the secret of a sign-in: without TLS, with it, and with it where the server has a path of its own on a host that
// others may share. A browser takes those with a prefix over TLS alone, and the one of a whole host from no other host (RFC 6265bis,
// section 4.1.3).
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
	if h.underPrefix(r) {
		cookie.Path = h.prefix() + "/"
	}
	if h.encrypted(r) {
		cookie.Name, cookie.Secure = hostCookieName, true
		if cookie.Path != "/" {
			cookie.Name = secureCookieName
		}
	}
	http.SetCookie(w, cookie)
}

// encrypted reports whether the client's connection is, be it that of a proxy.
func (h *Handler) encrypted(r *http.Request) bool {
	return r.TLS != nil || h.viaProxy(r) && r.Header.Get("X-Forwarded-Proto") == "https" || h.atPublicHost(r) && h.PublicURL.Scheme == "https"
}

// secretsOf returns what a browser has kept of sign-ins. Over TLS, a cookie without a prefix does not count: anybody on the network could
// have set it.
func (h *Handler) secretsOf(r *http.Request) (secrets []string) {
	names := []string{cookieName}
	if h.encrypted(r) {
		names = []string{hostCookieName, secureCookieName}
	}
	for _, name := range names {
		for _, cookie := range r.CookiesNamed(name) {
			secrets = append(secrets, cookie.Value)
		}
	}
	return secrets
}

// signedIn returns what somebody who signed in may do, nil where nobody did.
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
