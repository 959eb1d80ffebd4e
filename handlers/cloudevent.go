package handlers

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/kubeagents/kubeagents/models"
)

// batchPrefix is the prefix of the media types of CloudEvents batches.
const batchPrefix = "application/cloudevents-batch"

// isCloudEvent reports whether a request contains a CloudEvent, in binary or structured mode.
func isCloudEvent(header http.Header) bool {
	return header["Ce-Specversion"] != nil || isStructured(header)
}

// isStructured reports whether the body is a CloudEvent in structured mode.
func isStructured(header http.Header) bool {
	return strings.HasPrefix(contentType(header), "application/cloudevents")
}

// isCloudEventBatch reports whether a request contains a batch of CloudEvents.
func isCloudEventBatch(header http.Header) bool {
	return strings.HasPrefix(contentType(header), batchPrefix)
}

// contentType returns the Content-Type header in lower case.
func contentType(header http.Header) string {
	if values := header["Content-Type"]; len(values) > 0 {
		return strings.ToLower(values[0])
	}
	return ""
}

// unwrap parses a CloudEvent (CloudEvents 1.0, HTTP protocol binding) from a request whose body was read, and replaces
// the body with the event's data. It returns the event's key.
func (in *intake) unwrap(r *http.Request) (key string, err error) {
	if isStructured(r.Header) {
		in.body = compact(in.body)
	}
	r.Body = io.NopCloser(bytes.NewReader(in.body))
	e, err := parseEvent(func() (*event.Event, error) { return cehttp.NewEventFromHTTPRequest(r) })
	if err != nil {
		return "", err
	}
	in.body = append(in.body[:0], e.Data()...)
	return keyOfEvent(e), nil
}

// parseEvent decodes a CloudEvent with parse and validates it. It recovers from panics, because the SDK panics on some
// members of the wrong type.
func parseEvent(parse func() (*event.Event, error)) (e *event.Event, err error) {
	defer func() {
		if recover() != nil {
			e, err = nil, malformedEvent(errors.New("a member has the wrong type"))
		}
	}()
	if e, err = parse(); err == nil {
		err = e.Validate()
	}
	if err != nil {
		return nil, malformedEvent(err)
	}
	return e, nil
}

// compact removes white space and a byte order mark from JSON, in place: the SDK treats white space before data_base64
// as part of it. It returns invalid JSON unchanged.
func compact(text jsontext.Value) jsontext.Value {
	text = bytes.TrimPrefix(text, byteOrderMark)
	text.Compact(lenient...) //nolint:errcheck // parsing it reports the error
	return text
}

func malformedEvent(err error) error {
	problem := err.Error()
	if invalid := (event.ValidationError)(nil); errors.As(err, &invalid) {
		problem = problemOf(invalid)
	}
	return models.BadRequest("", "malformed CloudEvent: "+models.WithoutInvisible(strings.Join(strings.Fields(problem), " ")))
}

// problemOf describes invalid attributes in the order of their names, as in "source and type are required".
func problemOf(invalid event.ValidationError) string {
	var missing, others []string
	for _, name := range slices.Sorted(maps.Keys(invalid)) {
		switch text := invalid[name].Error(); text {
		case "no specversion", "REQUIRED", "MUST be a non-empty string": // the SDK's words for a required attribute that is absent
			missing = append(missing, name)
		default:
			others = append(others, name+": "+text)
		}
	}
	switch last := len(missing) - 1; {
	case last == 0:
		others = append(others, missing[0]+" is required")
	case last > 0:
		others = append(others, strings.Join(missing[:last], ", ")+" and "+missing[last]+" are required")
	}
	return strings.Join(others, "; ")
}

// keyOfEvent returns a key that is the same for every retry of an event, derived from its source and id.
func keyOfEvent(e *event.Event) string {
	sum := sha256.Sum256([]byte(e.Source() + "\x00" + e.ID()))
	return "ce:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// decodeEvents parses the body as a batch of CloudEvents (CloudEvents 1.0, JSON event format). The data of each event
// is a report. A report without an ID gets the event's key. Errors and faults are as for decode.
func (in *intake) decodeEvents(header http.Header) error {
	if name, _, _ := strings.Cut(contentType(header), ";"); strings.TrimSpace(name) != batchPrefix+"+json" {
		return models.UnsupportedMediaType("Content-Type", "of a batch of CloudEvents must be "+batchPrefix+"+json")
	}
	in.reports, in.faults = in.reports[:0], in.faults[:0]
	events := jsontext.NewDecoder(bytes.NewBuffer(bytes.TrimPrefix(in.body, byteOrderMark)), lenient...)
	if kind := events.PeekKind(); kind != jsontext.KindBeginArray && kind != jsontext.KindInvalid {
		return models.BadRequest("", "a batch of CloudEvents must be an array, not "+nameOfKind(kind))
	}
	err := readArray(events, func() error {
		e, err := events.ReadValue()
		if err == nil {
			err = in.decodeEvent(e)
		}
		return err
	})
	switch {
	case errors.Is(err, io.EOF), err == nil && len(in.reports) == 0:
		return noReport()
	case err != nil:
		return syntaxError(err)
	}
	return nil
}

func (in *intake) decodeEvent(text jsontext.Value) error {
	if len(in.reports) == maxReports {
		return tooManyReports()
	}
	report, fault := in.reportOfEvent(text)
	in.reports = append(in.reports, report)
	in.faults = append(in.faults, fault)
	return nil
}

// reportOfEvent returns the report in an event's data.
func (in *intake) reportOfEvent(text jsontext.Value) (report models.StatusReport, fault error) {
	if kind := text.Kind(); kind != jsontext.KindBeginObject {
		return report, models.BadRequest("", "a CloudEvent must be an object, not "+nameOfKind(kind))
	}
	e, err := parseEvent(func() (*event.Event, error) {
		e := new(event.Event)
		return e, e.UnmarshalJSON(compact(text.Clone()))
	})
	if err != nil {
		return report, err
	}
	report, fault = in.decodeSingle(e.Data())
	if report.ReportID == "" {
		report.ReportID = keyOfEvent(e)
	}
	return report, fault
}

// decodeSingle decodes a text that must contain exactly one report.
func (in *intake) decodeSingle(text []byte) (report models.StatusReport, fault error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return report, models.BadRequest("data", "is required: a status report")
	}
	in.decodeFrom(text)
	report, fault, err := in.nextReport()
	if err == nil {
		if _, err = in.decoder.ReadToken(); errors.Is(err, io.EOF) {
			return report, fault
		}
	}
	if err == nil {
		return report, models.BadRequest("data", "must be one status report")
	}
	return report, syntaxError(err)
}
