package handlers

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"strings"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/kubeagents/kubeagents/models"
)

// isCloudEvent reports whether a request brings a CloudEvent: as a whole, or in headers and the body.
func isCloudEvent(header http.Header) bool {
	return header["Ce-Specversion"] != nil || len(header["Content-Type"]) > 0 && strings.HasPrefix(strings.ToLower(header["Content-Type"][0]), "application/cloudevents")
}

// unwrap takes a CloudEvent (CloudEvents 1.0, HTTP protocol binding) out of a request whose body was read: the body is its data from
// now on. It returns a key that is the same for every retry of the event, because source and id tell events apart.
func (in *intake) unwrap(r *http.Request) (key string, err error) {
	if strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), "application/cloudevents-batch") {
		return "", models.BadRequest("Content-Type", "must not be that of a batch: send CloudEvents one by one, or reports as an array")
	}
	r.Body = io.NopCloser(bytes.NewReader(in.body))
	event, err := cehttp.NewEventFromHTTPRequest(r)
	if err == nil {
		err = event.Validate()
	}
	if err != nil {
		return "", models.BadRequest("", "malformed CloudEvent: "+strings.Join(strings.Fields(err.Error()), " "))
	}
	in.body = append(in.body[:0], event.Data()...)
	sum := sha256.Sum256([]byte(event.Source() + "\x00" + event.ID()))
	return "ce:" + base64.RawURLEncoding.EncodeToString(sum[:]), nil
}
