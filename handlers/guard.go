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

// Access is who is let in, and how much they may do. Its zero value lets everybody do everything, but see profiles.
type Access struct {
	Tokens      *access.Keyring          // nil where everybody may report and read
	Signatures  *access.Signatures       // nil where no webhook is signed
	Deliveries  *access.Deliveries       // of signed webhooks; nil where there are none
	SignIns     *access.SignIns          // of the dashboard; nil where there are no tokens
	Limits      *access.Addresses        // nil for none
	MaxInFlight int                      // requests at a time; 0 for any number
	Origins     func(origin string) bool // whose pages may call tools as those of the server itself may; nil for no others
	Hosts       *access.Hosts            // under which it answers; nil for any
	Proxies     []netip.Prefix           // whose X-Forwarded-For is believed
	Audit       *slog.Logger             // where refusals and removals are written; nil for nowhere
}

// guards reports whether a scope is only for those who say who they are.
func (a *Access) guards(scope access.Scope) bool {
	return a.Tokens != nil || scope == access.Report && a.Signatures != nil
}

// before lets requests through for which check returns no error; that is the answer to others.
func (h *Handler) before(next http.Handler, check Endpoint) http.Handler {
	return h.Handle(func(w http.ResponseWriter, r *http.Request) error {
		if err := check(w, r); err != nil {
			return err
		}
		next.ServeHTTP(w, r)
		return nil
	})
}

// admitted lets requests through for which check, which finds out who asks, returns no error, as long as there are not too many in
// flight. That is the answer to others, at once.
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

// Require lets requests through of those who have one of some scopes, as often as they may; others are told what is missing. The
// first scope says how somebody may say who they are, and as what the request counts.
func (h *Handler) Require(scopes ...access.Scope) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return h.admitted(next, func(w http.ResponseWriter, r *http.Request) error { return h.enter(w, r, scopes...) })
	}
}

// Whole lets requests through of those who may see every agent.
func (h *Handler) Whole(next http.Handler) http.Handler {
	return h.before(next, func(w http.ResponseWriter, _ *http.Request) error {
		if grantOf(w).Team() != nil {
			return models.Forbidden("this concerns every agent, and the token is for some")
		}
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

// reader is who reads, and what the answer may take.
type reader struct {
	grant *access.Grant
	held  *budget.Holding // of the memory for answers; nil where that is not counted
	most  int             // bytes of a page; 0 for [store.PageBytes]
}

// readerOf returns who reads.
func readerOf(w http.ResponseWriter) reader { return reader{grant: grantOf(w), held: heldOf(w)} }

// enter finds out who asks, and whether they may, and notes that. The error is a *models.Error.
func (h *Handler) enter(w http.ResponseWriter, r *http.Request, scopes ...access.Scope) error {
	if err := h.recognize(w, r, scopes[0]); err != nil {
		return err
	}
	env := envelopeOf(w)
	if err := h.count(w.Header(), env, scopes[0]); err != nil {
		return err
	}
	return h.allow(w, env.grant, scopes)
}

// Recognize is [Handler.Require] for an endpoint that counts by itself what a request asks for.
func (h *Handler) Recognize(scopes ...access.Scope) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return h.admitted(next, func(w http.ResponseWriter, r *http.Request) error {
			if err := h.recognize(w, r, scopes[0]); err != nil {
				return err
			}
			return h.allow(w, grantOf(w), scopes)
		})
	}
}

// recognize finds out who asks for something of that scope, and notes that. The error is a *models.Error.
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

// allow returns an error unless a grant has one of some scopes. It is a *models.Error.
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

// countStranger counts a request that anybody may send for the address that it comes from. The error is a *models.Error.
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
