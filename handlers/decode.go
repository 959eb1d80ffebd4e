package handlers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/budget"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// Limits of one webhook request.
const (
	maxReports     = 10_000
	maxReportBytes = 1 << 20
)

// decodedAtATime is how many reports are decoded before other goroutines may run. This takes less than a millisecond.
// Go's scheduler alone would let a request run for 10 milliseconds.
const decodedAtATime = 128

// intake holds a decoded webhook request. Its memory is reused by later requests, except for the strings of the
// reports.
type intake struct {
	body    []byte
	source  bytes.Buffer // reads body
	decoder *jsontext.Decoder
	draft   draft // of the report being decoded
	reports []models.StatusReport
	faults  []error // the error of each report, or nil

	outcomes []store.Outcome
	ignored  []string // names of unknown members, encoded for a header

	room room // for the body
}

var intakes = sync.Pool{New: func() any { return &intake{decoder: jsontext.NewDecoder(new(bytes.Buffer))} }}

// release returns in to its pool. Large buffers go to separate pools, so that small requests don't tie them up.
func (in *intake) release() {
	taken := in.room
	in.room = room{}
	defer taken.leave() // after the buffer is back in its pool, since another request may take it at once
	in.source = bytes.Buffer{}
	clear(in.ignored)
	in.ignored = in.ignored[:0]
	clear(in.reports) // releases their strings
	clear(in.faults)
	if releaseBody(in.body) {
		in.body = nil
	}
	if cap(in.reports) > largeReports {
		many := in.reports[:0]
		manyReports.Put(&many)
		in.reports = nil
	}
	intakes.Put(in)
}

// largeReports is the number of reports above which they are kept in a slice from manyReports.
const largeReports = 1_000

var manyReports = sync.Pool{New: func() any {
	reports := make([]models.StatusReport, 0, maxReports)
	return &reports
}}

// receive reads the body of a request.
func (in *intake) receive(h *Handler, w http.ResponseWriter, r *http.Request) error {
	body, err := openPayload(w, r, maxBodyBytes)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // it never fails
	if signed, ok := r.Body.(*signedBody); ok && body.inflater == nil {
		releaseBody(in.body)
		in.body, in.room = signed.take()
		return nil
	}
	in.room = room{h: h, ctx: r.Context(), env: envelopeOf(w)}
	return in.read(body, body.length)
}

// read reads a body, whose errors are for the client. length is its size in bytes, or negative if unknown.
func (in *intake) read(body io.Reader, length int64) error {
	in.body = in.body[:0]
	for {
		if len(in.body) == cap(in.body) { // grow with the data received, whatever length was announced
			rest := max(512, length+1-int64(len(in.body)))
			if err := in.grow(int(min(rest, max(firstRead, int64(len(in.body)))))); err != nil {
				return err
			}
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

// grow makes room for n more bytes of the body. A large body moves to a buffer of the next size. The error is for the
// client.
func (in *intake) grow(n int) error {
	if len(in.body)+n <= firstRead {
		in.body = slices.Grow(in.body, n)
		return nil
	}
	if err := in.room.hold(sizeOfBody(classAfter(len(in.body)))); err != nil {
		return err
	}
	in.body = enlarge(in.body)
	return nil
}

// DefaultBodyBytes is the default limit for the memory of request bodies, in bytes. Bodies of at most firstRead bytes
// are not counted: MaxInFlight limits them.
const DefaultBodyBytes = 64 << 20

// room is the memory reserved for a request body. The zero value is not limited.
type room struct {
	h    *Handler
	ctx  context.Context
	env  *envelope           // nil if the client is unknown
	held *budget.Reservation // nil while nothing is reserved
}

// hold changes the reserved memory to size bytes. It waits a short time if none is available. The error is for the
// client.
func (o *room) hold(size int) error {
	if o.h == nil {
		return nil
	}
	if o.held == nil {
		var grant *access.Grant
		if o.env != nil {
			grant = o.env.grant
		}
		o.held = o.h.Bodies.For(grant.Team(), grant.Share())
	}
	switch err := o.held.Reserve(o.ctx, int64(size)-o.held.Held()); {
	case errors.Is(err, budget.ErrShare):
		return o.h.full(o.env, metrics.BoundBodiesShare)
	case errors.Is(err, budget.ErrFull):
		return o.h.full(o.env, metrics.BoundBodies)
	case err != nil: // the client is gone
		return incompleteBody(err)
	}
	return nil
}

// leave releases the reserved memory.
func (o *room) leave() {
	if o.held != nil {
		o.held.Release()
	}
	*o = room{}
}

// byteOrderMark is sent by some clients before their JSON. RFC 8259 allows a server to ignore it.
var byteOrderMark = []byte("\ufeff")

// lenient makes jsontext accept everything that the grammar allows. Any other error then affects only one report.
var lenient = []jsontext.Options{jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)}

// decode parses the body into reports and faults. A fault affects only one report. several reports whether the client
// sent more than one report, or an array. An error affects the whole request: then none of the reports may be used.
func (in *intake) decode() (several bool, err error) {
	in.reports, in.faults = in.reports[:0], in.faults[:0]
	in.decodeFrom(bytes.TrimPrefix(in.body, byteOrderMark))
	switch in.decoder.PeekKind() {
	case jsontext.KindBeginArray:
		several, err = true, readArray(in.decoder, in.decodeReport)
	default:
		err = in.decodeSequence()
		several = len(in.reports) > 1
	}
	switch {
	case err != nil:
		return several, syntaxError(err)
	case len(in.reports) == 0:
		return several, noReport()
	case !several && in.faults[0] == nil && in.decoder.InputOffset() > maxReportBytes:
		return several, reportTooLarge()
	}
	return several, nil
}

func (in *intake) decodeFrom(text []byte) {
	in.source = *bytes.NewBuffer(text)
	in.decoder.Reset(&in.source, lenient...)
}

// readArray calls read for each element of an array, and checks that nothing follows the array.
func readArray(d *jsontext.Decoder, read func() error) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != jsontext.KindEndArray {
		if err := read(); err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	if _, err := d.ReadToken(); err == nil {
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
		return tooManyReports()
	}
	report, fault, err := in.nextReport()
	if err != nil {
		return err
	}
	if len(in.reports) == largeReports && cap(in.reports) < maxReports {
		many := *manyReports.Get().(*[]models.StatusReport)
		many = append(many, in.reports...)
		clear(in.reports)
		in.reports = many
	}
	in.reports = append(in.reports, report)
	in.faults = append(in.faults, fault)
	if len(in.reports)%decodedAtATime == 0 {
		runtime.Gosched()
	}
	return nil
}

// nextReport decodes the next value as a report. The error is a syntax error.
func (in *intake) nextReport() (report models.StatusReport, fault, err error) {
	start := in.decoder.InputOffset()
	if kind := in.decoder.PeekKind(); kind == jsontext.KindBeginObject {
		report, fault, err = in.decodeObject()
	} else if err = in.decoder.SkipValue(); err == nil {
		fault = models.BadRequest("", "a report must be an object, not "+nameOfKind(kind))
	}
	if err == nil && fault == nil && in.decoder.InputOffset()-start > maxReportBytes {
		fault = reportTooLarge()
	}
	return report, fault, err
}

func noReport() error { return models.BadRequest("", "the body has no report") }

func tooManyReports() error {
	return models.PayloadTooLarge(fmt.Sprintf("a request must hold at most %d reports", maxReports))
}

func reportTooLarge() error {
	return models.PayloadTooLarge(fmt.Sprintf("one report must be at most %d MiB", maxReportBytes>>20))
}

// decodeObject decodes the next value, an object. The fault is that of the first invalid member. The error is a syntax
// error.
func (in *intake) decodeObject() (report models.StatusReport, fault, err error) {
	if _, err := in.decoder.ReadToken(); err != nil {
		return report, nil, err
	}
	in.draft.begin()
	for in.decoder.PeekKind() == jsontext.KindString {
		wrong, err := in.decodeMember()
		if err != nil {
			return report, nil, err
		}
		if fault == nil {
			fault = wrong
		}
	}
	if _, err := in.decoder.ReadToken(); err != nil {
		return report, nil, err
	}
	return in.draft.end(), fault, nil
}

// decodeMember decodes the next member of an object.
func (in *intake) decodeMember() (fault, err error) {
	name, err := in.decoder.ReadValue()
	if err != nil {
		return nil, err
	}
	f := fieldNamed(name)
	if f == unknownField {
		in.ignore(name)
		return nil, in.decoder.SkipValue()
	}
	value, err := in.decoder.ReadValue()
	if err != nil {
		return nil, err
	}
	return in.draft.set(f, value), nil
}

// field is a field of a status report.
type field uint8

const (
	unknownField field = iota
	fieldAgentID
	fieldAgentName
	fieldAgentSource
	fieldAgentHost
	fieldSessionTopic
	fieldSessionTitle
	fieldStatus
	fieldTimestamp
	fieldMessage
	fieldContent
	fieldTTLMinutes
	fieldReportID
	fieldRenew
	fieldCount
)

var fieldNames = [fieldCount]string{"", "agent_id", "agent_name", "agent_source", "agent_host", "session_topic", "session_title",
	"status", "timestamp", "message", "content", "ttl_minutes", "report_id", "renew"}

// fieldNamed returns the field that a JSON string names.
func fieldNamed(name jsontext.Value) field {
	var unescaped [16]byte
	if bytes.IndexByte(name, '\\') >= 0 {
		name, _ = jsontext.AppendUnquote(unescaped[:0], name)
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

// syntaxError turns a JSON syntax error into an error for the client that states its position.
func syntaxError(err error) error {
	var syntactic *jsontext.SyntacticError
	if !errors.As(err, &syntactic) {
		return err
	}
	cause := strings.TrimPrefix(syntactic.Err.Error(), "jsontext: ")
	return models.BadRequest("", fmt.Sprintf("malformed JSON at byte %d: %s", syntactic.ByteOffset, cause))
}
