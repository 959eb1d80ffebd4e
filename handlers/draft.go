package handlers

import (
	"bytes"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/kubeagents/kubeagents/models"
)

// draft is a report being decoded member by member. Its memory is reused, but the finished report has its own strings.
type draft struct {
	report models.StatusReport
	text   []byte // all strings, one after another
	spans  [fieldCount]struct{ from, to int }
	seen   [fieldCount]bool
}

func (d *draft) begin() { *d = draft{text: d.text[:0]} }

// set sets a field from a member of the object. The fault names the field.
func (d *draft) set(f field, value jsontext.Value) (fault error) {
	if d.seen[f] {
		return models.BadRequest(fieldNames[f], "must not occur twice in one object")
	}
	d.seen[f] = true
	kind := value.Kind()
	switch {
	case kind == jsontext.KindNull:
		return nil
	case f == fieldTTLMinutes:
		d.report.TTLMinutes, fault = parseTTL(value)
		return fault
	case f == fieldRenew:
		d.report.Renew, fault = parseRenew(kind)
		return fault
	case kind != jsontext.KindString:
		return models.BadRequest(fieldNames[f], "must be a string, not "+nameOfKind(kind))
	}
	return d.setString(f, value)
}

func (d *draft) setString(f field, value jsontext.Value) (fault error) {
	from := len(d.text)
	text, valid := unquote(d.text, value)
	switch f {
	case fieldStatus:
		d.report.Status, fault = models.ParseStatus("status", text[from:])
		return fault
	case fieldTimestamp:
		d.report.Timestamp, fault = parseTimestamp(text[from:])
		return fault
	case fieldMessage, fieldContent, fieldSessionTitle: // text for people may contain U+FFFD
	default:
		if !valid {
			return models.BadRequest(fieldNames[f], "must be valid Unicode: no lone surrogates, no invalid UTF-8")
		}
	}
	d.text = text
	d.spans[f].from, d.spans[f].to = from, len(text)
	return nil
}

// end returns the report.
func (d *draft) end() (r models.StatusReport) {
	text := string(d.text) // one allocation for all of its strings
	part := func(f field) string { return text[d.spans[f].from:d.spans[f].to] }
	r = d.report
	r.AgentID, r.AgentName, r.AgentSource = part(fieldAgentID), part(fieldAgentName), part(fieldAgentSource)
	r.AgentHost = part(fieldAgentHost)
	r.SessionTopic, r.SessionTitle = part(fieldSessionTopic), part(fieldSessionTitle)
	r.Message, r.Content, r.ReportID = part(fieldMessage), part(fieldContent), part(fieldReportID)
	return r
}

// unquote appends the value of a JSON string that the decoder has checked. It replaces lone surrogates and invalid
// UTF-8 with U+FFFD. valid reports whether there were none.
func unquote(dst []byte, value jsontext.Value) (text []byte, valid bool) {
	if inner := value[1 : len(value)-1]; bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return append(dst, inner...), true
	}
	text, err := jsontext.AppendUnquote(dst, value)
	return text, err == nil
}

// parseTimestamp parses an RFC 3339 time. It accepts a lowercase "t" and "z", as the RFC allows.
func parseTimestamp(text []byte) (t time.Time, err error) {
	if err = t.UnmarshalText(text); err != nil {
		err = t.UnmarshalText(bytes.ToUpper(text))
	}
	if err != nil {
		return time.Time{}, models.BadRequest("timestamp", "must be a time in RFC 3339, such as 2026-11-20T07:01:18Z")
	}
	return t, nil
}

// parseRenew parses true or false.
func parseRenew(kind jsontext.Kind) (bool, error) {
	if kind != jsontext.KindTrue && kind != jsontext.KindFalse {
		return false, models.BadRequest("renew", "must be true or false, not "+nameOfKind(kind))
	}
	return kind == jsontext.KindTrue, nil
}

// parseTTL parses a whole number of minutes. It does not check the range.
func parseTTL(value jsontext.Value) (int, error) {
	if value.Kind() != jsontext.KindNumber {
		return 0, models.BadRequest("ttl_minutes", "must be a number, not "+nameOfKind(value.Kind()))
	}
	n, err := strconv.ParseFloat(string(value), 64)
	if err == nil && n != math.Trunc(n) {
		return 0, models.BadRequest("ttl_minutes", "must be a whole number")
	}
	return int(max(-1, min(n, models.MaxTTLMinutes+1))), nil
}
