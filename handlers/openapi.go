package handlers

import (
	_ "embed"
	"net/http"
)

// OpenAPISpec is the wire contract.
//
//go:embed openapi.yaml
var OpenAPISpec []byte

// OpenAPI serves the wire contract: GET /openapi.yaml.
func (h *Handler) OpenAPI(w http.ResponseWriter, r *http.Request) error {
	if fresh(w, r, OpenAPISpec) {
		return nil
	}
	w.Header().Set("Content-Type", "application/yaml") // RFC 9512
	w.Write(OpenAPISpec)                               //nolint:errcheck // the client is gone
	return nil
}
