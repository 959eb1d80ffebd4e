package handlers

import (
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/budget"
	"github.com/kubeagents/kubeagents/models"
)

// Access configures who has access, and how much they may do. The zero value allows everyone to do everything, except
// for profiles and backups.
type Access struct {
	Tokens      *access.Keyring          // nil if everyone may report and read
	Signatures  *access.Signatures       // nil if webhooks are not signed
	Deliveries  *access.Deliveries       // accepted signed webhooks; nil without Signatures
	SignIns     *access.SignIns          // of the dashboard; nil without Tokens
	Limits      *access.RateLimiter      // nil for no rate limits
	MaxInFlight int                      // maximum number of concurrent requests; 0 for no limit
	Origins     func(origin string) bool // other origins whose pages may call tools; nil for none
	Hosts       *access.Hosts            // host names that the server answers to; nil for any
	Proxies     []netip.Prefix           // proxies whose X-Forwarded-For is trusted
	Audit       *slog.Logger             // logs refusals and removals; nil for no audit log
}

// guards reports whether a scope requires authentication.
func (a *Access) guards(scope access.Scope) bool {
	return a.Tokens != nil || scope == access.Report && a.Signatures != nil
}

// takesOnlySigned reports whether reports are accepted only as signed webhooks.
func (a *Access) takesOnlySigned() bool { return a.Tokens == nil && a.Signatures != nil }

// before passes requests to next if check returns no error. Otherwise it responds with the error.
func (h *Handler) before(next http.Handler, check Endpoint) http.Handler {
	return h.Handle(func(w http.ResponseWriter, r *http.Request) error {
		if err := check(w, r); err != nil {
			return err
		}
		next.ServeHTTP(w, r)
		return nil
	})
}

// admitted passes requests to next if check, which identifies the client, returns no error and there are not too many
// requests in flight. Otherwise it responds with the error at once.
func (h *Handler) admitted(next http.Handler, check Endpoint) http.Handler {
	return h.Handle(func(w http.ResponseWriter, r *http.Request) error {
		err := check(w, r)
		defer closeSigned(r)
		if err != nil {
			return err
		}
		env := envelopeOf(w)
		if err := h.admit(w, env); err != nil {
			return err
		}
		defer h.leave(env)
		next.ServeHTTP(w, r)
		return nil
	})
}

// Require passes requests to the next handler if the client has one of scopes and is within its rate limit. Otherwise
// it responds with an error that says what is missing. The first scope determines how clients may authenticate, and
// which limit the request counts against.
func (h *Handler) Require(scopes ...access.Scope) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return h.admitted(next, func(w http.ResponseWriter, r *http.Request) error { return h.enter(w, r, scopes...) })
	}
}

// RequireEveryAgent passes requests to the next handler if the client may see every agent.
func (h *Handler) RequireEveryAgent(next http.Handler) http.Handler {
	return h.before(next, func(w http.ResponseWriter, _ *http.Request) error {
		if grantOf(w).Team() != nil {
			return errNotAllAgents
		}
		return nil
	})
}

// RequireOwner is like [Handler.Require] for clients with access.Read that change what is their own, such as devices. It
// must come after [Handler.SameOrigin], since people who are signed in may do so as well.
func (h *Handler) RequireOwner(next http.Handler) http.Handler {
	return h.admitted(next, func(w http.ResponseWriter, r *http.Request) error {
		if err := h.recognizeAndCount(w, r, access.Acknowledge); err != nil {
			return err
		}
		return h.allow(w, grantOf(w), []access.Scope{access.Read})
	})
}

// RequireMuting is like [Handler.Require] for clients that may mute notifications of some agents: those with
// access.Acknowledge, and those that manage notifications.
func (h *Handler) RequireMuting(next http.Handler) http.Handler {
	return h.admitted(next, func(w http.ResponseWriter, r *http.Request) error {
		if err := h.recognizeAndCount(w, r, access.Acknowledge); err != nil || grantOf(w).ManagesNotifications() {
			return err
		}
		return h.allow(w, grantOf(w), []access.Scope{access.Acknowledge})
	})
}

// RequireManaging is like [Handler.Require] for clients that manage notifications.
func (h *Handler) RequireManaging(next http.Handler) http.Handler {
	return h.admitted(next, func(w http.ResponseWriter, r *http.Request) error {
		if err := h.recognizeAndCount(w, r, access.Acknowledge); err != nil || grantOf(w).ManagesNotifications() {
			return err
		}
		if err := h.allow(w, grantOf(w), []access.Scope{access.Admin}); err != nil {
			return err
		}
		return errNotAllAgents
	})
}

// errNotAllAgents is the response to clients that may do something, but not for every agent.
var errNotAllAgents = models.Forbidden("this needs a token for all agents")

// grantOf returns what the client may do.
func grantOf(w http.ResponseWriter) *access.Grant {
	if env := envelopeOf(w); env != nil {
		return env.grant
	}
	return nil
}

// reader is the client of a read, and the memory that the response may take.
type reader struct {
	grant *access.Grant
	held  *budget.Reservation // memory of the response; nil if not counted
	most  int                 // maximum size of a page in bytes; 0 for [store.PageBytes]
}

// readerOf returns the client of a read.
func readerOf(w http.ResponseWriter) reader { return reader{grant: grantOf(w), held: heldOf(w)} }

// enter identifies the client, counts the request and checks that the client has one of scopes. The error is a
// *models.Error.
func (h *Handler) enter(w http.ResponseWriter, r *http.Request, scopes ...access.Scope) error {
	if err := h.recognizeAndCount(w, r, scopes[0]); err != nil {
		return err
	}
	return h.allow(w, grantOf(w), scopes)
}

// recognizeAndCount identifies the client of a request that needs scope, and counts the request. The error is a
// *models.Error.
func (h *Handler) recognizeAndCount(w http.ResponseWriter, r *http.Request, scope access.Scope) error {
	if err := h.recognize(w, r, scope); err != nil {
		return err
	}
	return h.count(w.Header(), envelopeOf(w), scope)
}

// Identify is like [Handler.Require], for endpoints that count requests against the rate limits themselves.
func (h *Handler) Identify(scopes ...access.Scope) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return h.admitted(next, func(w http.ResponseWriter, r *http.Request) error {
			if err := h.recognize(w, r, scopes[0]); err != nil {
				return err
			}
			return h.allow(w, grantOf(w), scopes)
		})
	}
}

// recognize identifies the client of a request that needs scope, and stores it in the envelope. The error is a
// *models.Error.
func (h *Handler) recognize(w http.ResponseWriter, r *http.Request, scope access.Scope) error {
	env := envelopeOf(w)
	if scope != access.Report {
		setPersonal(w.Header())
	}
	env.client = h.clientOf(r)
	if h.Access.guards(scope) {
		grant, err := h.identify(w, r, scope)
		if err != nil {
			if excess := h.limitReads(nil, env.client); excess != nil {
				w.Header().Del("WWW-Authenticate")
				return tooMany(w.Header(), "requests", excess)
			}
			return err
		}
		env.grant = grant
	}
	return nil
}

// allow returns an error unless the grant has one of scopes. It is a *models.Error.
func (h *Handler) allow(w http.ResponseWriter, grant *access.Grant, scopes []access.Scope) error {
	if !slices.ContainsFunc(scopes, grant.Allows) {
		names := make([]string, len(scopes))
		for i, scope := range scopes {
			names[i] = scope.String()
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="kubeagents", error="insufficient_scope", scope="`+strings.Join(names, " ")+`"`)
		return models.Forbidden("the token lacks the scope " + strings.Join(names, " or "))
	}
	return nil
}

// count counts a request against the rate limit for scope.
func (h *Handler) count(header http.Header, env *envelope, scope access.Scope) error {
	if scope == access.Report {
		return h.countReports(header, env, 1)
	}
	if excess := h.limitReads(env.grant, env.client); excess != nil {
		return tooMany(header, "requests", excess)
	}
	return nil
}

// countStranger counts a request that needs no token against the rate limit of its address. The error is a
// *models.Error.
func (h *Handler) countStranger(w http.ResponseWriter, r *http.Request) error {
	env := envelopeOf(w)
	env.client = h.clientOf(r)
	return h.count(w.Header(), env, access.Read)
}

func (h *Handler) limitReads(g *access.Grant, client netip.Addr) *access.Excess {
	if h.Access.Limits == nil {
		return nil
	}
	return h.Access.Limits.Reads(g, client, time.Now())
}

// countReports counts n reports against the client's rate limit. The error is a *models.Error.
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
	return models.TooManyRequests(fmt.Sprintf("more than %d %s per second: try again later", excess.Rate, what))
}

// setRateLimit sets the headers for an exhausted rate limit and for the time to wait (IETF
// draft-ietf-httpapi-ratelimit-headers-06).
func setRateLimit(header http.Header, limit int, after time.Duration) {
	seconds := strconv.Itoa(max(1, int(math.Ceil(after.Seconds()))))
	header.Set("Retry-After", seconds)
	header.Set("RateLimit-Limit", strconv.Itoa(limit))
	header.Set("RateLimit-Remaining", "0")
	header.Set("RateLimit-Reset", seconds)
}
