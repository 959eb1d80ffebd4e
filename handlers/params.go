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

// Limits of the parameters of lists.
const (
	maxLimit  = 1000
	maxSearch = 500
)

// pathParam returns a decoded path parameter. The router matches the encoded path: see [EncodedPath].
func pathParam(r *http.Request, name string) string {
	encoded := chi.URLParam(r, name)
	value, err := url.PathUnescape(encoded)
	if err != nil {
		return encoded // can't happen: net/http refuses such paths
	}
	return value
}

// EncodedPath makes the router match the encoded path, so that an ID may contain a slash, written as %2F, and is
// decoded only once. Repeated slashes count as one and a trailing slash is ignored, since no ID is empty.
func EncodedPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := chi.RouteContext(r.Context())
		ctx.RoutePath = trimmedPath(ctx.Routes, r.URL.EscapedPath())
		next.ServeHTTP(w, r)
	})
}

// trimmedPath returns a path without repeated slashes, and without a trailing slash unless a route has one.
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

// params parses query parameters. err is the first error.
type params struct {
	values url.Values
	known  []string // the parameters read so far
	err    error
}

func newParams(r *http.Request) *params {
	values, err := queryOf(r)
	p := &params{values: values, err: err}
	if readsAfter(r) {
		p.known = append(p.known, afterParameter)
	}
	return p
}

// maxParameters is the maximum number of query parameters. It is not above the limit of net/url, which ignores the
// whole query beyond that.
const maxParameters = 10_000

// queryOf returns the query parameters of a request. The error is for the client. If it is about malformed parameters,
// values has the others; if there are too many, values is nil.
func queryOf(r *http.Request) (values url.Values, err error) {
	if strings.Count(r.URL.RawQuery, "&") >= maxParameters {
		return nil, models.BadRequest("", fmt.Sprintf("the URL has too many query parameters: at most %d are allowed", maxParameters))
	}
	if values, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		err = models.BadRequest("", "malformed query: "+err.Error())
	}
	return values, err
}

// get returns the value of a parameter, and whether it is present.
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

// done returns the first error. Call it after reading all of the route's parameters, since any other parameter is an
// error too.
func (p *params) done() error {
	if p.err == nil && len(p.values) > 0 {
		p.err = unknownParameter(p.values, p.known)
	}
	return p.err
}

// unknownParameter returns an error that names the first parameter that is not in known, if there is one. Names that
// begin with _ are allowed, for clients that make each URL unique.
func unknownParameter(values url.Values, known []string) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if strings.HasPrefix(name, "_") || slices.Contains(known, name) {
			continue
		}
		shown := ignoredName(name)
		if shown == hiddenName {
			return models.BadRequest("", "the name of a query parameter looks like a secret, so it is not repeated here: "+
				"send tokens in the Authorization header")
		}
		if meant, ok := nearest.To(name, known); ok {
			return models.BadRequest(shown, "is not a parameter of this route: did you mean "+meant+"?")
		}
		if len(known) == 0 {
			return models.BadRequest(shown, "is not a parameter of this route: it has none")
		}
		names := slices.Compact(slices.Sorted(slices.Values(known)))
		return models.BadRequest(shown, "is not a parameter of this route: the parameters are "+strings.Join(names, ", "))
	}
	return nil
}

// WithoutParameters wraps an endpoint that takes no query parameters, and refuses requests that have any.
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

// text returns a string of at most limit characters, "" if the parameter is absent.
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

// status returns a status, 0 if the parameter is absent.
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

// flag returns a boolean, nil if the parameter is absent.
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

// limit returns the maximum number of items on a page.
func (p *params) limit(defaultLimit int) int {
	value, ok := p.get("limit")
	if !ok {
		return defaultLimit
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > maxLimit {
		p.fail("limit", fmt.Sprintf("must be a whole number from 1 to %d", maxLimit))
	}
	return n
}
