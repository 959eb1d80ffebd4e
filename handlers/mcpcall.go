package handlers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
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
	rpcParseError     = -32700
	rpcInvalidRequest = -32600
	rpcMethodNotFound = -32601
	rpcInternalError  = -32603
)

// rpcError is the JSON-RPC error for a request that is not a valid call.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) Error() string { return e.Message }

// mcpCall is a call as far as the server needs to know it: the ID that its response repeats, and what determines how it
// counts against the rate limits and whether it changes anything.
type mcpCall struct {
	id           jsontext.Value // nil if there is no valid one
	method, tool string
}

// changes reports whether the call may change something.
func (c mcpCall) changes() bool { return c.method == "tools/call" && !readTools[c.tool] }

// readCall reads the body of a request into in, parses it as a call, and puts the body back. The error is a
// *models.Error or an *rpcError.
func readCall(in *intake, r *http.Request) (call mcpCall, err error) {
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return call, models.UnsupportedMediaType("Content-Type", "must be application/json")
	}
	sent, err := sentBody(r, "a call", maxCallBytes)
	if err != nil {
		return call, err
	}
	if err := in.read(&sent, r.ContentLength); err != nil {
		return call, err
	}
	r.Body = io.NopCloser(bytes.NewReader(in.body))
	call, err = decodeCall(in.body)
	var refused *rpcError
	if err != nil && !errors.As(err, &refused) {
		call.id, err = nil, &rpcError{rpcParseError, syntaxError(err).Error()}
	}
	return call, err
}

// decodeCall parses a call, and checks that it is a message of JSON-RPC 2.0.
func decodeCall(body []byte) (call mcpCall, err error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return call, &rpcError{rpcParseError, "the body is empty"}
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(body))
	switch d.PeekKind() {
	case jsontext.KindBeginArray:
		return call, &rpcError{rpcInvalidRequest, "a request must contain one call: send several calls one at a time, not as an array"}
	case jsontext.KindBeginObject, jsontext.KindInvalid:
	default:
		return call, &rpcError{rpcInvalidRequest, "a call must be an object"}
	}
	version, response := "", false
	err = eachMember(d, func(name string) error {
		switch name {
		case "jsonrpc":
			version, err = readText(d)
			return err
		case "id":
			call.id, err = readCallID(d)
			return err
		case "method":
			call.method, err = readText(d)
			return err
		case "result", "error":
			response = true
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
	if version != "2.0" {
		return call, &rpcError{rpcInvalidRequest, `jsonrpc must be "2.0": a request is a JSON-RPC message, such as {"jsonrpc":"2.0","id":1,"method":"tools/list"}`}
	}
	if call.method == "" && !response {
		return call, &rpcError{rpcInvalidRequest, "method is required, as a string"}
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

// readCallID reads the ID of a call and checks it, since the response repeats it.
func readCallID(d *jsontext.Decoder) (jsontext.Value, error) {
	id, err := d.ReadValue()
	if err != nil {
		return nil, err
	}
	switch id.Kind() {
	case jsontext.KindString, jsontext.KindNumber, jsontext.KindNull:
	default:
		return nil, &rpcError{rpcInvalidRequest, "id must be a string or a number"}
	}
	if len(id) > maxCallIDBytes {
		return nil, &rpcError{rpcInvalidRequest, fmt.Sprintf("id must be at most %d bytes", maxCallIDBytes)}
	}
	return id.Clone(), nil
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
// "Transports". id is that of the call, nil if it is not known.
func refuseCall(w http.ResponseWriter, status int, id jsontext.Value, why *rpcError) {
	writeJSON(w, status, struct {
		Version string         `json:"jsonrpc"`
		ID      jsontext.Value `json:"id"`
		Error   *rpcError      `json:"error"`
	}{"2.0", id, why})
}

// callResponse is the response to a call. It turns an error that the SDK writes as plain text into one of JSON-RPC.
type callResponse struct {
	http.ResponseWriter
	status int    // of an error in plain text; 0 if the response is none
	text   []byte // of that error
	before func() // called when the response begins; nil for nothing, or if it has begun
}

// Unwrap lets http.ResponseController reach the connection.
func (c *callResponse) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// begin calls c.before once.
func (c *callResponse) begin() {
	if c.before != nil {
		c.before()
		c.before = nil
	}
}

// WriteHeader implements http.ResponseWriter.
func (c *callResponse) WriteHeader(status int) {
	c.begin()
	if status >= http.StatusBadRequest && strings.HasPrefix(c.Header().Get("Content-Type"), "text/plain") {
		c.status = status
		return
	}
	c.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (c *callResponse) Write(b []byte) (int, error) {
	c.begin()
	if c.status != 0 {
		c.text = append(c.text, b...)
		return len(b), nil
	}
	return c.ResponseWriter.Write(b)
}

// finish sends the error, if the response is one in plain text.
func (c *callResponse) finish(call mcpCall) {
	if c.status == 0 {
		return
	}
	why := &rpcError{rpcInvalidRequest, strings.TrimSpace(string(c.text))}
	switch {
	case c.status >= http.StatusInternalServerError:
		why.Code = rpcInternalError
	case strings.Contains(why.Message, jsonrpcNotHandled):
		why.Code, why.Message = rpcMethodNotFound, fmt.Sprintf("unknown method %q", call.method)
	}
	refuseCall(c.ResponseWriter, c.status, call.id, why)
}

// jsonrpcNotHandled is part of the SDK's error for a method that it does not support. The SDK does not export it.
const jsonrpcNotHandled = "JSON RPC not handled"
