package handlers

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/go-json-experiment/json"

	"github.com/kubeagents/kubeagents/models"
)

// readObject reads the body of a request, a JSON object of at most limit bytes, into v. allowed says what the body must
// be. An empty body leaves v as it is.
func readObject(w http.ResponseWriter, r *http.Request, limit int64, v any, allowed string) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return models.PayloadTooLarge(fmt.Sprintf("the body must be at most %d KiB", limit>>10))
		}
		return models.BadRequest("", "the body could not be read")
	}
	if len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, v, json.RejectUnknownMembers(true)); err != nil {
		if known, ok := errors.AsType[*models.Error](err); ok { // of a value that says itself what is allowed
			return known
		}
		return models.BadRequest("", "the body must be "+allowed)
	}
	return nil
}
