package models

// Code is the kind of an error, as it appears on the wire.
type Code string

// The codes of the wire contract.
const (
	CodeBadRequest           Code = "bad_request"
	CodeUnauthorized         Code = "unauthorized"
	CodeForbidden            Code = "forbidden"
	CodeNotFound             Code = "not_found"
	CodeMethodNotAllowed     Code = "method_not_allowed"
	CodeConflict             Code = "conflict"
	CodePayloadTooLarge      Code = "payload_too_large"
	CodeUnsupportedMediaType Code = "unsupported_media_type"
	CodeMisdirectedRequest   Code = "misdirected_request"
	CodeTooManyRequests      Code = "too_many_requests"
	CodeBadGateway           Code = "bad_gateway"
	CodeUnavailable          Code = "unavailable"
	CodeInternal             Code = "internal_error"
)

// Error is a failure that is reported to the client. Any other error is internal: its text goes to the log, and the
// client learns only that an internal error occurred.
type Error struct {
	Code    Code   `json:"error"`
	Message string `json:"message"`        // human-readable
	Field   string `json:"field,omitzero"` // field at fault, if there is one
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// BadRequest returns a bad_request error. The message says what the field must be, as in "must be a string"; if field
// is "", the message describes the request as a whole.
func BadRequest(field, message string) *Error {
	if field != "" {
		message = field + " " + message
	}
	return &Error{Code: CodeBadRequest, Message: message, Field: field}
}

// Unauthorized returns an unauthorized error, for a request without valid credentials.
func Unauthorized(message string) *Error {
	return &Error{Code: CodeUnauthorized, Message: message}
}

// Forbidden returns a forbidden error, for a client that is known but may not do what it asks.
func Forbidden(message string) *Error {
	return &Error{Code: CodeForbidden, Message: message}
}

// Misdirected returns a misdirected_request error. The message names the host that the server does not serve, and how
// to allow it.
func Misdirected(message string) *Error {
	return &Error{Code: CodeMisdirectedRequest, Message: message}
}

// TooManyRequests returns a too_many_requests error. The message names the rate limit that the client exceeded.
func TooManyRequests(message string) *Error {
	return &Error{Code: CodeTooManyRequests, Message: message}
}

// NotFound returns a not_found error: no such what.
func NotFound(what string) *Error {
	return &Error{Code: CodeNotFound, Message: "no such " + what}
}

// Conflict returns a conflict error. The message names what the request conflicts with.
func Conflict(message string) *Error {
	return &Error{Code: CodeConflict, Message: message}
}

// PayloadTooLarge returns a payload_too_large error. The message names the limit that the request exceeds.
func PayloadTooLarge(message string) *Error {
	return &Error{Code: CodePayloadTooLarge, Message: message}
}

// UnsupportedMediaType returns an unsupported_media_type error. The message says what the header named by field must
// be.
func UnsupportedMediaType(field, message string) *Error {
	return &Error{Code: CodeUnsupportedMediaType, Message: field + " " + message, Field: field}
}

// BadGateway returns a bad_gateway error, for another server that failed. The message is what that server said.
func BadGateway(message string) *Error {
	return &Error{Code: CodeBadGateway, Message: message}
}

// Unavailable returns an unavailable error, for what the server can't do now but may be able to do later.
func Unavailable(message string) *Error {
	return &Error{Code: CodeUnavailable, Message: message}
}
