package handlers

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"

	"github.com/kubeagents/kubeagents/internal/nearest"
	"github.com/kubeagents/kubeagents/models"
)

// Limits of a list's parameters.
const (
	maxLimit  = 1000
	maxSearch = 500
)

// pathParam returns a part of the path. The router works on the encoded path: see [EncodedPath].
func pathParam(r *http.Request, name string) string {
	encoded := chi.URLParam(r, name)
	value, err := url.PathUnescape(encoded)
	if err != nil {
		return encoded // net/http refuses such a path before it comes here
	}
	return value
}

// EncodedPath has the router match the path as it is encoded, so that an ID may hold a slash, written as
// %2F, and is decoded just once. Doubled slashes count as one, and a trailing slash is ignored: no ID is empty.
func EncodedPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := chi.RouteContext(r.Context())
		ctx.RoutePath = trimmedPath(ctx.Routes, r.URL.EscapedPath())
		next.ServeHTTP(w, r)
	})
}

// trimmedPath returns a path without doubled slashes, and without a trailing slash unless a route wants it.
func trimmedPath(routes chi.Routes, path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	trimmed := strings.TrimSuffix(path, "/")
	if trimmed == "" || trimmed == path || routes.Match(chi.NewRouteContext(), http.MethodGet, path) {
		return path
	}
	return trimmed
}

// params reads the parameters of a query. The first that is not as it must be is kept in err.
type params struct {
	values url.Values
	known  []string // that were asked for
	err    error
}

func newParams(r *http.Request) *params {
	values, err := url.ParseQuery(r.URL.RawQuery)
	p := &params{values: values}
	if err != nil {
		p.err = models.BadRequest("", "malformed query: "+err.Error())
	}
	return p
}

// get returns the value of a parameter, and whether it is there.
func (p *params) get(name string) (string, bool) {
	p.known = append(p.known, name)
	values := p.values[name]
	if len(values) > 1 {
		p.fail(name, "must not occur twice")
	}
	if len(values) == 0 {
		return "", false
	}
	return values[0], true
}

func (p *params) fail(name, message string) {
	if p.err == nil {
		p.err = models.BadRequest(name, message)
	}
}

// done returns the first error, once every parameter that the route knows has been read: another one is an error as well.
func (p *params) done() error {
	if p.err == nil && len(p.values) > 0 {
		p.err = unknownParameter(p.values, p.known)
	}
	return p.err
}

// unknownParameter returns an error that names a parameter that is none of those known, if there is one. Names that begin with _ are for
// clients that make each address another one.
func unknownParameter(values url.Values, known []string) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if strings.HasPrefix(name, "_") || slices.Contains(known, name) {
			continue
		}
		shown := ignoredName(name)
		if meant, ok := nearest.To(name, known); ok {
			return models.BadRequest(shown, "is not a parameter of this route: did you mean "+meant+"?")
		}
		if len(known) == 0 {
			return models.BadRequest(shown, "is not a parameter of this route, which has none")
		}
		names := slices.Compact(slices.Sorted(slices.Values(known)))
		return models.BadRequest(shown, "is not a parameter of this route: the parameters are "+strings.Join(names, ", "))
	}
	return nil
}

// WithoutParameters lets requests through that have no query: no parameter is known to their route.
func (h *Handler) WithoutParameters(next Endpoint) Endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		if r.URL.RawQuery != "" {
			if err := newParams(r).done(); err != nil {
				return err
			}
		}
		return next(w, r)
	}
}

// text returns a text of at most limit characters; "" is as good as none.
func (p *params) text(name string, limit int) string {
	value, _ := p.get(name)
	switch {
	case !utf8.ValidString(value):
		p.fail(name, "must be UTF-8")
	case utf8.RuneCountInString(value) > limit:
		p.fail(name, fmt.Sprintf("must be at most %d characters", limit))
	}
	return value
}

// status returns a status, or 0 where there is none.
func (p *params) status(name string) models.Status {
	value, ok := p.get(name)
	if !ok {
		return 0
	}
	status, err := models.ParseStatus(name, value)
	if err != nil && p.err == nil {
		p.err = err
	}
	return status
}

// flag returns true or false, or nil where there is neither.
func (p *params) flag(name string) *bool {
	switch value, ok := p.get(name); {
	case !ok:
		return nil
	case value == "true":
		return new(true)
	case value == "false":
		return new(false)
	}
	p.fail(name, "must be true or false")
	return nil
}

// limit returns how many items a page may hold.
func (p *params) limit(unlessSaid int) int {
	value, ok := p.get("limit")
	if !ok {
		return unlessSaid
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > maxLimit {
		p.fail("limit", fmt.Sprintf("must be a whole number from 1 to %d", maxLimit))
	}
	return n
}
