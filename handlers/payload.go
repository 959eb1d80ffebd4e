package handlers

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/dustin/go-humanize"
	"github.com/klauspost/compress/gzip"

	"github.com/kubeagents/kubeagents/models"
)

// Size limits of a body, in bytes. They apply both to the body as sent and to the decompressed body.
const (
	maxBodyBytes  = 8 << 20  // for reports
	maxEventBytes = 64 << 20 // for a tool's event
)

// payload reads the body of a webhook. If it is compressed, payload decompresses it while reading, with only the memory
// of one gzip reader. Its errors, except io.EOF, are *models.Error.
type payload struct {
	sent     limited
	inflated limited      // the decompressed body, read from sent
	inflater *gzip.Reader // nil if the body is not compressed
	length   int64        // in bytes; negative if unknown
}

// openPayload returns the body of a request, of at most limit bytes. The caller closes it.
func openPayload(w http.ResponseWriter, r *http.Request, limit int64) (*payload, error) {
	compressed, err := isCompressed(r.Header["Content-Encoding"])
	if err != nil {
		w.Header().Set("Accept-Encoding", "gzip, identity") // RFC 9110, section 15.5.16
		return nil, err
	}
	p := &payload{length: r.ContentLength}
	if p.sent, err = sentBody(r, "the body", limit); err != nil {
		return nil, err
	}
	if compressed {
		err = p.inflate(limit)
	}
	return p, err
}

// inflate makes p decompress the body.
func (p *payload) inflate(limit int64) error {
	p.length = -1
	p.inflater = inflaters.Get().(*gzip.Reader)
	p.inflated = limited{source: p.inflater, what: "the decompressed body", limit: limit, left: limit, explain: inflateError}
	if err := p.inflater.Reset(&p.sent); err != nil {
		p.Close() //nolint:errcheck // it never fails
		return inflateError(err)
	}
	return nil
}

// Read implements io.Reader.
func (p *payload) Read(b []byte) (int, error) {
	if p.inflater != nil {
		return p.inflated.Read(b)
	}
	return p.sent.Read(b)
}

// Close returns the gzip reader to its pool. It never fails.
func (p *payload) Close() error {
	if p.inflater != nil {
		p.inflater.Reset(http.NoBody) //nolint:errcheck // releases the body
		inflaters.Put(p.inflater)
		p.inflater = nil
	}
	return nil
}

var inflaters = sync.Pool{New: func() any { return new(gzip.Reader) }}

// isCompressed reports whether the values of the Content-Encoding header are gzip. Any other encoding is an error (RFC
// 9110, section 8.4).
func isCompressed(values []string) (compressed bool, err error) {
	for name := range strings.SplitSeq(strings.ToLower(strings.Join(values, ",")), ",") {
		switch name = strings.TrimSpace(name); {
		case name == "" || name == "identity":
		case (name == "gzip" || name == "x-gzip") && !compressed:
			compressed = true
		default:
			return false, models.UnsupportedMediaType("Content-Encoding", "must be gzip (once) or identity")
		}
	}
	return compressed, nil
}

// sentBody returns the body of a request as sent, of at most limit bytes. what names it in errors.
func sentBody(r *http.Request, what string, limit int64) (body limited, err error) {
	body = limited{source: r.Body, what: what, limit: limit, left: limit, explain: incompleteBody}
	if r.ContentLength > limit {
		return body, body.tooLarge()
	}
	return body, nil
}

func incompleteBody(error) error {
	return models.BadRequest("", "the body ended early or came too slowly")
}

// inflateError turns an error of a gzip reader into one for the client.
func inflateError(err error) error {
	var known *models.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return models.BadRequest("", "the gzip body is incomplete: it was cut off before its end")
	}
	return models.BadRequest("", "the gzip body is corrupt, or is not gzip")
}

// limited reads a source up to a limit, in bytes.
type limited struct {
	source  io.Reader
	what    string // names it in errors
	limit   int64
	left    int64             // remaining bytes; negative once limit is exceeded
	explain func(error) error // turns an error of source into one for the client
}

func (l *limited) tooLarge() error {
	return models.PayloadTooLarge(fmt.Sprintf("%s must be at most %s", l.what, strings.ReplaceAll(humanize.IBytes(uint64(l.limit)), ".0 ", " ")))
}

// Read implements io.Reader.
func (l *limited) Read(b []byte) (int, error) {
	if l.left < 0 {
		return 0, l.tooLarge()
	}
	if int64(len(b)) > l.left {
		b = b[:l.left+1] // one byte more, to notice that the limit is exceeded
	}
	n, err := l.source.Read(b)
	if l.left -= int64(n); l.left < 0 {
		return n - 1, l.tooLarge()
	}
	if err != nil && err != io.EOF {
		err = l.explain(err)
	}
	return n, err
}
