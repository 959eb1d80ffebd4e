package handlers

import (
	_ "embed"
	"net/http"
)

// OpenAPISpec is the OpenAPI document of the API.
//
//go:embed openapi.yaml
var OpenAPISpec []byte

// OpenAPI serves the OpenAPI document: GET /openapi.yaml.
func (h *Handler) OpenAPI(w http.ResponseWriter, r *http.Request) error {
	if notModified(w, r, OpenAPISpec) {
		return nil
	}
	w.Header().Set("Content-Type", "application/yaml") // RFC 9512
	w.Write(OpenAPISpec)                               //nolint:errcheck // fails only if the client is gone
	return nil
}
