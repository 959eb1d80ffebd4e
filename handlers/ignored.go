package handlers

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/kubeagents/kubeagents/internal/access"
)

// The headers in which webhook responses name unknown query parameters and unknown report fields, which are ignored.
// Names are percent-encoded.
const (
	ignoredParameters = "X-Ignored-Parameters"
	ignoredFields     = "X-Ignored-Fields"
)

// Limits of these headers.
const (
	maxIgnored      = 10 // names
	maxIgnoredBytes = 64 // of each name
)

// hiddenName stands for a name that could be a token. No name has this form, since parentheses are escaped.
const hiddenName = "(hidden)"

// ignoredName returns name, escaped and truncated, for use in these headers. A name that could be a token is not
// repeated, because responses are logged.
func ignoredName(name string) string {
	if access.LooksSecret(name) {
		return hiddenName
	}
	return url.PathEscape(name[:min(len(name), maxIgnoredBytes)])
}

// ignore records the name of a report's member that is ignored. name is a JSON string.
func (in *intake) ignore(name jsontext.Value) {
	if len(in.ignored) == maxIgnored {
		return
	}
	text, err := jsontext.AppendUnquote(nil, name[:min(len(name), 4*maxIgnoredBytes)])
	if err != nil { // it was truncated
		text = name[1:min(len(name), 1+maxIgnoredBytes)]
	}
	if shown := ignoredName(string(text)); !slices.Contains(in.ignored, shown) {
		in.ignored = append(in.ignored, shown)
	}
}

// setIgnoredFields names the ignored members of reports in the response header.
func (in *intake) setIgnoredFields(header http.Header) {
	if len(in.ignored) > 0 {
		header.Set(ignoredFields, strings.Join(in.ignored, ", "))
	}
}

// setIgnoredParameters names the query parameters that are unknown to the route in the response header. It ignores
// malformed ones. The error is for the client.
func setIgnoredParameters(header http.Header, r *http.Request, known ...string) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	values, err := queryOf(r)
	if values == nil {
		return err
	}
	var names []string
	for name := range values {
		if !strings.HasPrefix(name, "_") && !slices.Contains(known, name) {
			names = append(names, ignoredName(name))
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) > 0 {
		header.Set(ignoredParameters, strings.Join(names[:min(len(names), maxIgnored)], ", "))
	}
	return nil
}
