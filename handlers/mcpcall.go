package handlers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/models"
)

// Limits of one MCP request, in bytes.
const (
	maxCallBytes   = 256 << 10
	maxCallIDBytes = 256
)

// Codes of JSON-RPC 2.0, section 5.1.
const (
	rpcInvalidRequest = -32600
	rpcMethodNotFound = -32601
)

// rpcError is the JSON-RPC error for a request that is not a valid call.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) Error() string { return e.Message }

// mcpCall is the part of a call that determines how it counts against the rate limits.
type mcpCall struct{ method, tool string }

// readCall reads the body of a request into in, parses it as a call, and puts the body back. The error is a
// *models.Error or an *rpcError.
func readCall(in *intake, r *http.Request) (call mcpCall, err error) {
	sent, err := sentBody(r, "a call", maxCallBytes)
	if err != nil {
		return call, err
	}
	if err := in.read(&sent, r.ContentLength); err != nil {
		return call, err
	}
	r.Body = io.NopCloser(bytes.NewReader(in.body))
	call, err = decodeCall(in.body)
	var known *models.Error
	var refused *rpcError
	if err != nil && !errors.As(err, &known) && !errors.As(err, &refused) {
		err = syntaxError(err)
	}
	return call, err
}

// decodeCall parses the method and the tool of a call.
func decodeCall(body []byte) (call mcpCall, err error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(body))
	switch d.PeekKind() {
	case jsontext.KindBeginArray:
		return call, &rpcError{rpcInvalidRequest, "a request must contain one call: send several calls one at a time, not as an array"}
	case jsontext.KindBeginObject, jsontext.KindInvalid:
	default:
		return call, &rpcError{rpcInvalidRequest, "a call must be an object"}
	}
	err = eachMember(d, func(name string) error {
		switch name {
		case "id":
			return checkCallID(d)
		case "method":
			call.method, err = readText(d)
			return err
		case "params":
			call.tool, err = readTool(d)
			return err
		}
		return d.SkipValue()
	})
	if err != nil {
		return call, err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return call, &rpcError{rpcInvalidRequest, "nothing may follow the call"}
	}
	if call.method == "subscriptions/listen" {
		return call, &rpcError{rpcMethodNotFound, "this server has no subscriptions: GET /api/events streams changes of sessions"}
	}
	return call, nil
}

// eachMember calls read for the value of each member of an object.
func eachMember(d *jsontext.Decoder, read func(name string) error) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() == jsontext.KindString {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		if err := read(name.String()); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// readText reads a string. Any other value counts as "".
func readText(d *jsontext.Decoder) (string, error) {
	if d.PeekKind() != jsontext.KindString {
		return "", d.SkipValue()
	}
	text, err := d.ReadToken()
	return text.String(), err
}

// readTool reads the name of the tool from the parameters of a call, "" if there is none.
func readTool(d *jsontext.Decoder) (tool string, err error) {
	if d.PeekKind() != jsontext.KindBeginObject {
		return "", d.SkipValue()
	}
	err = eachMember(d, func(name string) error {
		if name != "name" {
			return d.SkipValue()
		}
		tool, err = readText(d)
		return err
	})
	return tool, err
}

// checkCallID reads the ID of a call and checks its length, since the response repeats it.
func checkCallID(d *jsontext.Decoder) error {
	id, err := d.ReadValue()
	if err == nil && len(id) > maxCallIDBytes {
		return &rpcError{rpcInvalidRequest, fmt.Sprintf("id must be at most %d bytes", maxCallIDBytes)}
	}
	return err
}

// countCall counts a call as a read or as a report. If a report exceeds the limit, countCall sets c.excess, which the
// tool returns.
func (h *Handler) countCall(w http.ResponseWriter, c *caller, call mcpCall) error {
	if call.method != "tools/call" || !reportTools[call.tool] {
		return h.count(w.Header(), envelopeOf(w), access.Read)
	}
	env := envelopeOf(w)
	if h.Access.Limits == nil || env == nil {
		return nil
	}
	if excess := h.Access.Limits.Reports(env.grant, env.client, 1, time.Now()); excess != nil {
		after := max(excess.After, time.Second).Round(time.Second)
		c.excess = models.TooManyRequests(fmt.Sprintf("more than %d reports per second: try again in %s", excess.Rate, after))
	}
	return nil
}

// refuseCall responds to a request that is not a valid call: https://modelcontextprotocol.io/specification,
// "Transports".
func refuseCall(w http.ResponseWriter, why *rpcError) {
	writeJSON(w, http.StatusBadRequest, struct {
		Version string    `json:"jsonrpc"`
		ID      *string   `json:"id"`
		Error   *rpcError `json:"error"`
	}{"2.0", nil, why})
}
