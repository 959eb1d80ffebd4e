package handlers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// Limits of one request to the webhook.
const (
	maxReports     = 10_000
	maxReportBytes = 1 << 20
)

// intake is what one request to the webhook is decoded into. Its memory is used again by later requests;
// the reports' strings are theirs alone.
type intake struct {
	body    []byte
	source  bytes.Buffer // reads body
	decoder *jsontext.Decoder
	text    []byte // the strings of the report being decoded
	reports []models.StatusReport
	faults  []error // what was wrong with each report, or nil

	outcomes []store.Outcome
}

var intakes = sync.Pool{New: func() any { return &intake{decoder: jsontext.NewDecoder(new(bytes.Buffer))} }}

// release gives in back for another request.
func (in *intake) release() {
	if cap(in.body) > maxPooled {
		return
	}
	in.source = bytes.Buffer{}
	clear(in.reports) // lets go of their strings
	clear(in.faults)
	intakes.Put(in)
}

// receive reads the body of a request.
func (in *intake) receive(w http.ResponseWriter, r *http.Request) error {
	body, err := openPayload(w, r, maxBodyBytes)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // it never fails
	return in.read(body, body.length)
}

// read reads a body whose errors are for the client. length is its size in bytes, or negative if that is unknown.
func (in *intake) read(body io.Reader, length int64) error {
	in.body = in.body[:0]
	for {
		if len(in.body) == cap(in.body) {
			in.body = append(in.body, make([]byte, max(512, length+1-int64(len(in.body))))...)[:len(in.body)]
		}
		n, err := body.Read(in.body[len(in.body):cap(in.body)])
		in.body = in.body[:len(in.body)+n]
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// byteOrderMark is what some clients put before their JSON, and RFC 8259 lets a server ignore.
var byteOrderMark = []byte("\ufeff")

// decode parses the body into reports and faults: a fault concerns one report alone. several says whether
// the client sent more than one, be it as an array or one after another. An error concerns the request:
// then nothing of it may be used.
func (in *intake) decode() (several bool, err error) {
	in.reports, in.faults = in.reports[:0], in.faults[:0]
	in.source = *bytes.NewBuffer(bytes.TrimPrefix(in.body, byteOrderMark))
	in.decoder.Reset(&in.source)
	switch in.decoder.PeekKind() {
	case jsontext.KindBeginArray:
		several, err = true, in.decodeArray()
	default:
		err = in.decodeSequence()
		several = len(in.reports) > 1
	}
	switch {
	case err != nil:
		return several, syntaxError(err)
	case len(in.reports) == 0:
		return several, models.BadRequest("", "there is no report in the body")
	case !several && in.faults[0] == nil && in.decoder.InputOffset() > maxReportBytes:
		return several, reportTooLarge()
	}
	return several, nil
}

func (in *intake) decodeArray() error {
	if _, err := in.decoder.ReadToken(); err != nil {
		return err
	}
	for in.decoder.PeekKind() != jsontext.KindEndArray {
		if err := in.decodeReport(); err != nil {
			return err
		}
	}
	if _, err := in.decoder.ReadToken(); err != nil {
		return err
	}
	if _, err := in.decoder.ReadToken(); err == nil {
		return models.BadRequest("", "nothing may follow the array of reports")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (in *intake) decodeSequence() error {
	for {
		if in.decoder.PeekKind() == jsontext.KindInvalid {
			if _, err := in.decoder.ReadToken(); !errors.Is(err, io.EOF) {
				return err
			}
			return nil
		}
		if err := in.decodeReport(); err != nil {
			return err
		}
	}
}

// decodeReport decodes the next value as a report.
func (in *intake) decodeReport() error {
	if len(in.reports) == maxReports {
		return models.PayloadTooLarge(fmt.Sprintf("a request must hold at most %d reports", maxReports))
	}
	start := in.decoder.InputOffset()
	var report models.StatusReport
	var fault, err error
	if kind := in.decoder.PeekKind(); kind == jsontext.KindBeginObject {
		fault, err = in.decodeObject(&report)
	} else if err = in.decoder.SkipValue(); err == nil {
		fault = models.BadRequest("", "a report must be an object, not "+nameOfKind(kind))
	}
	if err != nil {
		return err
	}
	if fault == nil && in.decoder.InputOffset()-start > maxReportBytes {
		fault = reportTooLarge()
	}
	in.reports = append(in.reports, report)
	in.faults = append(in.faults, fault)
	return nil
}

func reportTooLarge() error {
	return models.PayloadTooLarge(fmt.Sprintf("one report must be at most %d MiB", maxReportBytes>>20))
}

// decodeObject decodes the next value, an object. The fault is the first value that is not of its field's
// type; the error is one of syntax.
func (in *intake) decodeObject(r *models.StatusReport) (fault, err error) {
	if _, err := in.decoder.ReadToken(); err != nil {
		return nil, err
	}
	in.text = in.text[:0]
	var ends [fieldCount]struct{ from, to int }
	for in.decoder.PeekKind() == jsontext.KindString {
		name, err := in.decoder.ReadValue()
		if err != nil {
			return nil, err
		}
		f := fieldNamed(name)
		if f == unknownField {
			if err := in.decoder.SkipValue(); err != nil {
				return nil, err
			}
			continue
		}
		value, err := in.decoder.ReadValue()
		if err != nil {
			return nil, err
		}
		if fault != nil || value.Kind() == jsontext.KindNull {
			continue
		}
		if f == fieldTTLMinutes {
			r.TTLMinutes, fault = parseTTL(value)
			continue
		}
		if value.Kind() != jsontext.KindString {
			fault = models.BadRequest(fieldNames[f], "must be a string, not "+nameOfKind(value.Kind()))
			continue
		}
		from := len(in.text)
		in.text = unquote(in.text, value)
		switch f {
		case fieldStatus:
			r.Status, fault = models.ParseStatus("status", in.text[from:])
			in.text = in.text[:from]
		case fieldTimestamp:
			r.Timestamp, fault = parseTimestamp(in.text[from:])
			in.text = in.text[:from]
		default:
			ends[f].from, ends[f].to = from, len(in.text)
		}
	}
	if _, err := in.decoder.ReadToken(); err != nil {
		return nil, err
	}

	text := string(in.text) // one allocation for all strings of a report
	part := func(f field) string { return text[ends[f].from:ends[f].to] }
	r.AgentID, r.AgentName, r.AgentSource = part(fieldAgentID), part(fieldAgentName), part(fieldAgentSource)
	r.SessionTopic, r.SessionTitle = part(fieldSessionTopic), part(fieldSessionTitle)
	r.Message, r.Content, r.ReportID = part(fieldMessage), part(fieldContent), part(fieldReportID)
	return fault, nil
}

// field is a field of a status report.
type field uint8

const (
	unknownField field = iota
	fieldAgentID
	fieldAgentName
	fieldAgentSource
	fieldSessionTopic
	fieldSessionTitle
	fieldStatus
	fieldTimestamp
	fieldMessage
	fieldContent
	fieldTTLMinutes
	fieldReportID
	fieldCount
)

var fieldNames = [fieldCount]string{"", "agent_id", "agent_name", "agent_source", "session_topic", "session_title",
	"status", "timestamp", "message", "content", "ttl_minutes", "report_id"}

// fieldNamed returns the field that a JSON string names.
func fieldNamed(name jsontext.Value) field {
	var unescaped [16]byte
	if bytes.IndexByte(name, '\\') >= 0 {
		name = unquote(unescaped[:0], name)
	} else {
		name = name[1 : len(name)-1]
	}
	for f := unknownField + 1; f < fieldCount; f++ {
		if string(name) == fieldNames[f] {
			return f
		}
	}
	return unknownField
}

// unquote appends what a JSON string, which the decoder has checked, stands for.
func unquote(dst []byte, value jsontext.Value) []byte {
	if bytes.IndexByte(value, '\\') < 0 {
		return append(dst, value[1:len(value)-1]...)
	}
	dst, _ = jsontext.AppendUnquote(dst, value)
	return dst
}

// parseTimestamp parses a time by RFC 3339, which lets "T" and "Z" be small as well.
func parseTimestamp(text []byte) (t time.Time, err error) {
	if err = t.UnmarshalText(text); err != nil {
		err = t.UnmarshalText(bytes.ToUpper(text))
	}
	if err != nil {
		return time.Time{}, models.BadRequest("timestamp", "must be a time in RFC 3339, such as 2026-11-20T07:01:18Z")
	}
	return t, nil
}

// parseTTL parses a number of minutes. It may be out of range, but is whole.
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

func nameOfKind(k jsontext.Kind) string {
	switch k {
	case jsontext.KindNull:
		return "null"
	case jsontext.KindFalse, jsontext.KindTrue:
		return "a boolean"
	case jsontext.KindString:
		return "a string"
	case jsontext.KindNumber:
		return "a number"
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "an array"
	}
	return "that"
}

// syntaxError says where the JSON of a request is not as it must be.
func syntaxError(err error) error {
	var syntactic *jsontext.SyntacticError
	if !errors.As(err, &syntactic) {
		return err
	}
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return models.BadRequest(syntactic.JSONPointer.LastToken(), "must not be there twice in one object")
	}
	cause := strings.TrimPrefix(syntactic.Err.Error(), "jsontext: ")
	return models.BadRequest("", fmt.Sprintf("malformed JSON at byte %d: %s", syntactic.ByteOffset, cause))
}
