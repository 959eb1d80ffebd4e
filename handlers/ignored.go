package handlers

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// The headers in which an answer of a webhook names what it ignored: parameters of the query and members of reports that it does not
// know. Names are percent-encoded.
const (
	ignoredParameters = "X-Ignored-Parameters"
	ignoredFields     = "X-Ignored-Fields"
)

// Limits of what these headers name.
const (
	mostIgnored      = 10
	mostIgnoredBytes = 64 // of one name
)

// ignoredName returns a name as it is shown: encoded, and cut.
func ignoredName(name string) string {
	return url.PathEscape(name[:min(len(name), mostIgnoredBytes)])
}

// ignore notes that a member of a report was ignored. name is a JSON string.
func (in *intake) ignore(name jsontext.Value) {
	if len(in.ignored) == mostIgnored {
		return
	}
	text, err := jsontext.AppendUnquote(nil, name[:min(len(name), 4*mostIgnoredBytes)])
	if err != nil { // it was cut
		text = name[1:min(len(name), 1+mostIgnoredBytes)]
	}
	if shown := ignoredName(string(text)); !slices.Contains(in.ignored, shown) {
		in.ignored = append(in.ignored, shown)
	}
}

// nameIgnored has the answer name the members of reports that were ignored.
func (in *intake) nameIgnored(header http.Header) {
	if len(in.ignored) > 0 {
		header.Set(ignoredFields, strings.Join(in.ignored, ", "))
	}
}

// nameIgnoredParameters has the answer name the parameters of the query that are not among those known to the route.
func nameIgnoredParameters(header http.Header, r *http.Request, known ...string) {
	if r.URL.RawQuery == "" {
		return
	}
	var names []string
	for name := range r.URL.Query() {
		if !strings.HasPrefix(name, "_") && !slices.Contains(known, name) {
			names = append(names, ignoredName(name))
		}
	}
	slices.Sort(names)
	if len(names) > 0 {
		header.Set(ignoredParameters, strings.Join(names[:min(len(names), mostIgnored)], ", "))
	}
}
