package handlers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// Limits of one request to the webhook.
const (
	maxReports     = 10_000
	maxReportBytes = 1 << 20
)

// decodedAtATime is how many reports are decoded before others get the processor, which is within a millisecond: the scheduler by itself
// gives a request 10.
const decodedAtATime = 128

// intake is what one request to the webhook is decoded into. Its memory is used again by later requests;
// the reports' strings are theirs alone.
type intake struct {
	body    []byte
	source  bytes.Buffer // reads body
	decoder *jsontext.Decoder
	draft   draft // of the report being decoded
	reports []models.StatusReport
	faults  []error // what was wrong with each report, or nil

	outcomes []store.Outcome
}

var intakes = sync.Pool{New: func() any { return &intake{decoder: jsontext.NewDecoder(new(bytes.Buffer))} }}

// release gives in back for another request, which may take little: what has grown large is kept apart.
func (in *intake) release() {
	in.source = bytes.Buffer{}
	clear(in.reports) // lets go of their strings
	clear(in.faults)
	if !keepBody(in.body) {
		in.body = nil
	}
	if cap(in.reports) > largeReports {
		many := in.reports[:0]
		manyReports.Put(&many)
		in.reports = nil
	}
	intakes.Put(in)
}

// Buffers of large bodies, by their sizes, and slices of many reports, that are in no use.
var (
	bodySizes = [...]int{2 << 20, 4 << 20, maxBodyBytes + 1}
	bodies    [len(bodySizes)]sync.Pool

	manyReports = sync.Pool{New: func() any {
		reports := make([]models.StatusReport, 0, maxReports)
		return &reports
	}}
)

const (
	largeBody    = 1 << 20 // bytes, from which on a body is in one of those buffers
	largeReports = 1_000   // from which on they are in one of those slices
)

// bodyOf returns an empty buffer with room for size bytes of a large body.
func bodyOf(size int) []byte {
	i, _ := slices.BinarySearch(bodySizes[:], size)
	if kept, ok := bodies[i].Get().(*[]byte); ok {
		return *kept
	}
	return make([]byte, 0, bodySizes[i])
}

// keepBody keeps the buffer of a body for another large one. small is true where it is too small for that.
func keepBody(body []byte) (small bool) {
	if i := slices.Index(bodySizes[:], cap(body)); i >= 0 {
		body = body[:0]
		bodies[i].Put(&body)
	}
	return cap(body) <= largeBody
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

// firstRead is how many bytes of a body there is room for at first, at most.
const firstRead = 64 << 10

// read reads a body whose errors are for the client. length is its size in bytes, or negative if that is unknown.
func (in *intake) read(body io.Reader, length int64) error {
	in.body = in.body[:0]
	for {
		if len(in.body) == cap(in.body) { // it grows with what arrives, whatever was announced
			rest := max(512, length+1-int64(len(in.body)))
			in.grow(int(min(rest, max(firstRead, int64(len(in.body))))))
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

// grow makes room for n bytes more of the body.
func (in *intake) grow(n int) {
	size := len(in.body) + n
	if size <= largeBody {
		in.body = slices.Grow(in.body, n)
		return
	}
	larger := append(bodyOf(min(size, maxBodyBytes+1)), in.body...)
	keepBody(in.body)
	in.body = larger
}

// byteOrderMark is what some clients put before their JSON, and RFC 8259 lets a server ignore.
var byteOrderMark = []byte("\ufeff")

// lenient makes jsontext accept whatever the grammar allows. Anything else that is wrong is a fault of one report alone.
var lenient = []jsontext.Options{jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)}

// decode parses the body into reports and faults: a fault concerns one report alone. several says whether
// the client sent more than one, be it as an array or one after another. An error concerns the request:
// then nothing of it may be used.
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

// readArray reads an array, and makes sure that nothing follows. It calls read for each element.
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

// nextReport decodes the next value as a report. The error is one of syntax.
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

func noReport() error { return models.BadRequest("", "there is no report in the body") }

func tooManyReports() error {
	return models.PayloadTooLarge(fmt.Sprintf("a request must hold at most %d reports", maxReports))
}

func reportTooLarge() error {
	return models.PayloadTooLarge(fmt.Sprintf("one report must be at most %d MiB", maxReportBytes>>20))
}

// decodeObject decodes the next value, an object. The fault is that of the first invalid member; the error is one of syntax.
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
	fieldCount
)

var fieldNames = [fieldCount]string{"", "agent_id", "agent_name", "agent_source", "agent_host", "session_topic", "session_title",
	"status", "timestamp", "message", "content", "ttl_minutes", "report_id"}

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

// syntaxError says where the JSON of a request is not as it must be.
func syntaxError(err error) error {
	var syntactic *jsontext.SyntacticError
	if !errors.As(err, &syntactic) {
		return err
	}
	cause := strings.TrimPrefix(syntactic.Err.Error(), "jsontext: ")
	return models.BadRequest("", fmt.Sprintf("malformed JSON at byte %d: %s", syntactic.ByteOffset, cause))
}
