package handlers

import (
	"fmt"
	"io"
	"net/http"

	"github.com/kubeagents/kubeagents/models"
)

// Size limits of a body, in bytes.
const (
	maxBodyBytes  = 8 << 20  // of reports
	maxEventBytes = 64 << 20 // of a tool's event
)

// sentBody returns the body of a request as sent, of at most limit bytes; what names it in the error.
func sentBody(r *http.Request, what string, limit int64) (body limited, err error) {
	body = limited{source: r.Body, what: what, limit: limit, left: limit, explain: brokenOff}
	if r.ContentLength > limit {
		return body, body.tooLarge()
	}
	return body, nil
}

func brokenOff(error) error {
	return models.BadRequest("", "the body ended early or came too slowly")
}

// limited reads a source up to a limit, in bytes.
type limited struct {
	source  io.Reader
	what    string // names it in the error
	limit   int64
	left    int64             // until limit; negative once it is exceeded
	explain func(error) error // turns an error of source into one for the client
}

func (l *limited) tooLarge() error {
	return models.PayloadTooLarge(fmt.Sprintf("%s must be at most %d MiB", l.what, l.limit>>20))
}

// Read implements io.Reader.
func (l *limited) Read(b []byte) (int, error) {
	if l.left < 0 {
		return 0, l.tooLarge()
	}
	if int64(len(b)) > l.left {
		b = b[:l.left+1] // one more, to find out whether there is more
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
