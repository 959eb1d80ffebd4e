package handlers

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5/middleware"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/models"
)

// Access is who is let in, and how much they may do. Its zero value lets everybody do everything, but see profiles.
type Access struct {
	Tokens      *access.Keyring    // nil where everybody may report and read
	Signatures  *access.Signatures // nil where no webhook is signed
	SignIns     *access.SignIns    // of the dashboard; nil where there are no tokens
	Limits      *access.Addresses  // nil for none
	MaxInFlight int                // requests at a time; 0 for any number
	Proxies     []netip.Prefix     // whose X-Forwarded-For is believed
	Audit       *slog.Logger       // where refusals and removals are written; nil for nowhere
}

// guards reports whether a scope is only for those who say who they are.
func (a *Access) guards(scope access.Scope) bool {
	return a.Tokens != nil || scope == access.Report && a.Signatures != nil
}

// Admit lets requests in as long as there are not too many in flight. It answers others at once.
func (h *Handler) Admit(next http.Handler) http.Handler {
	most := int64(h.Access.MaxInFlight)
	if most == 0 {
		return next
	}
	return h.Handle(func(w http.ResponseWriter, r *http.Request) error {
		env := envelopeOf(w)
		env.counted = true
		defer h.leave(env)
		if h.inFlight.Add(1) > most {
			setRateLimit(w.Header(), int(most), time.Second)
			env.refused = "too many requests in flight"
			return models.Unavailable("there are as many requests in flight as MAX_IN_FLIGHT allows")
		}
		next.ServeHTTP(w, r)
		return nil
	})
}

// leave says that a request is no longer in flight: it is answered, or goes on as an event stream.
func (h *Handler) leave(env *envelope) {
	if env != nil && env.counted {
		env.counted = false
		h.inFlight.Add(-1)
	}
}

// Require lets requests through of those who have a scope, as often as they may; others are told what is missing.
func (h *Handler) Require(scope access.Scope) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return h.Handle(func(w http.ResponseWriter, r *http.Request) error {
			if err := h.enter(w, r, scope); err != nil {
				return err
			}
			next.ServeHTTP(w, r)
			return nil
		})
	}
}

// Whole lets requests through of those who may see every agent.
func (h *Handler) Whole(next http.Handler) http.Handler {
	return h.Handle(func(w http.ResponseWriter, r *http.Request) error {
		if grantOf(w).Team() != nil {
			return models.Forbidden("this is about every agent, and the token is for some")
		}
		next.ServeHTTP(w, r)
		return nil
	})
}

// grantOf returns what whoever asks may do.
func grantOf(w http.ResponseWriter) *access.Grant {
	if env := envelopeOf(w); env != nil {
		return env.grant
	}
	return nil
}

// enter finds out who asks, and whether they may, and notes that. The error is a *models.Error.
func (h *Handler) enter(w http.ResponseWriter, r *http.Request, scope access.Scope) error {
	env := envelopeOf(w)
	env.client = h.clientOf(r)
	if h.Access.guards(scope) {
		grant, err := h.identify(w, r, scope)
		if err != nil {
			if excess := h.limitReads(nil, env.client); excess != nil {
				return tooMany(w.Header(), "requests", excess)
			}
			return err
		}
		env.grant = grant
	}
	if err := h.count(w.Header(), env, scope); err != nil {
		return err
	}
	if !env.grant.Allows(scope) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="kubeagents", error="insufficient_scope", scope="`+scope.String()+`"`)
		return models.Forbidden("the token has not the scope " + scope.String())
	}
	return nil
}

// count counts a request of that scope.
func (h *Handler) count(header http.Header, env *envelope, scope access.Scope) error {
	if scope == access.Report {
		return h.countReports(header, env, 1)
	}
	if excess := h.limitReads(env.grant, env.client); excess != nil {
		return tooMany(header, "requests", excess)
	}
	return nil
}

func (h *Handler) limitReads(g *access.Grant, client netip.Addr) *access.Excess {
	if h.Access.Limits == nil {
		return nil
	}
	return h.Access.Limits.Reads(g, client, time.Now())
}

// countReports counts n reports of whoever sends them. The error is a *models.Error.
func (h *Handler) countReports(header http.Header, env *envelope, n int) error {
	if h.Access.Limits == nil || env == nil {
		return nil
	}
	if excess := h.Access.Limits.Reports(env.grant, env.client, n, time.Now()); excess != nil {
		return tooMany(header, "reports", excess)
	}
	return nil
}

func tooMany(header http.Header, what string, excess *access.Excess) error {
	setRateLimit(header, int(excess.Rate), excess.After)
	return models.TooManyRequests(fmt.Sprintf("more than %d %s a second: try again later", excess.Rate, what))
}

// setRateLimit says how much is allowed, and when there is some of it again (the IETF's draft-ietf-httpapi-ratelimit-headers-06).
func setRateLimit(header http.Header, limit int, after time.Duration) {
	seconds := strconv.Itoa(max(1, int(math.Ceil(after.Seconds()))))
	header.Set("Retry-After", seconds)
	header.Set("RateLimit-Limit", strconv.Itoa(limit))
	header.Set("RateLimit-Remaining", "0")
	header.Set("RateLimit-Reset", seconds)
}

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
		return "", models.BadRequest("access_token", "must be there once, and not beside a header Authorization")
	default:
		return values[0], nil
	}
}

// bearer reads the header Authorization (RFC 6750, section 2.1).
func bearer(values []string) (string, error) {
	const scheme = "Bearer"
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", models.BadRequest("Authorization", "must be there once")
	}
	name, token, _ := strings.Cut(values[0], " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(name, scheme) || token == "" {
		return "", models.BadRequest("Authorization", "must be Bearer and a token")
	}
	return token, nil
}

// checkSignature reads the body of a signed webhook, checks it, and puts it back.
func (h *Handler) checkSignature(w http.ResponseWriter, r *http.Request) (*access.Grant, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBodyBytes+1))
	switch {
	case err != nil:
		return nil, bodyCut()
	case len(body) > maxBodyBytes:
		return nil, bodyTooLarge()
	}
	grant, err := h.Access.Signatures.Grant(body, r.Header)
	if err != nil {
		return nil, challenge(w, "the webhook's signature does not hold: "+err.Error(), "invalid_token")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if r.Header.Get(idempotencyKey) == "" {
		r.Header.Set(idempotencyKey, r.Header.Get(access.WebhookID))
	}
	return grant, nil
}

// TrustProxies has requests that come by way of trusted proxies be those of the client that they name in X-Forwarded-For.
func (h *Handler) TrustProxies(next http.Handler) http.Handler {
	if len(h.Access.Proxies) == 0 {
		return next
	}
	prefixes := make([]string, len(h.Access.Proxies))
	for i, prefix := range h.Access.Proxies {
		prefixes[i] = prefix.String()
	}
	return middleware.ClientIPFromXFF(prefixes...)(next)
}

// clientOf returns the address of who asks. It is not valid where a trusted proxy names none.
func (h *Handler) clientOf(r *http.Request) netip.Addr {
	if len(h.Access.Proxies) > 0 {
		return middleware.GetClientIPAddr(r.Context())
	}
	return peerOf(r)
}

// peerOf returns the address at the other end of the connection.
func peerOf(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap().WithZone("")
}

// viaProxy reports whether a request comes by way of a trusted proxy.
func (h *Handler) viaProxy(r *http.Request) bool {
	peer := peerOf(r)
	return slices.ContainsFunc(h.Access.Proxies, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// clientText says who asks, for the log.
func clientText(r *http.Request, env *envelope) string {
	if env.client.IsValid() && env.client != peerOf(r) {
		return env.client.String() // by way of a proxy
	}
	return r.RemoteAddr
}

// audit writes down who did what, and what came of it.
func (h *Handler) audit(r *http.Request, env *envelope, outcome, detail string) {
	if h.Access.Audit == nil {
		return
	}
	who := env.grant.Name()
	if who == "" {
		who = "anybody"
	}
	h.Access.Audit.LogAttrs(r.Context(), slog.LevelInfo, "audit",
		slog.String("who", who),
		slog.String("client", clientText(r, env)),
		slog.String("what", r.Method+" "+r.URL.EscapedPath()), // never the query, which may hold a token
		slog.String("outcome", outcome),
		slog.Int("status", env.status),
		slog.String("detail", detail),
		slog.String("request_id", env.id[0]),
	)
}

// Headers that every answer has; they are never changed. Pages set a policy of their own.
var (
	noSniff    = []string{"nosniff"}
	noReferrer = []string{"no-referrer"}
	denyFrames = []string{"DENY"}
	noContent  = []string{"default-src 'none'; frame-ancestors 'none'"}
	twoYears   = []string{"max-age=63072000"}
)

// setSecurity sets the headers that keep a browser from doing more with an answer than to show it.
func setSecurity(header http.Header, encrypted bool) {
	header["X-Content-Type-Options"] = noSniff
	header["Referrer-Policy"] = noReferrer
	header["X-Frame-Options"] = denyFrames
	header["Content-Security-Policy"] = noContent
	if encrypted {
		header["Strict-Transport-Security"] = twoYears
	}
}

// sameOrigin lets no page of another origin change anything.
var sameOrigin = http.NewCrossOriginProtection()

// SameOrigin refuses requests that a browser sends for a page of another origin.
func (h *Handler) SameOrigin(next http.Handler) http.Handler {
	return h.Handle(func(w http.ResponseWriter, r *http.Request) error {
		if err := sameOrigin.Check(r); err != nil {
			return models.Forbidden("a page of another origin must not do this")
		}
		next.ServeHTTP(w, r)
		return nil
	})
}
