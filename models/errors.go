package models

// Code names a kind of failure, as it stands on the wire.
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
	CodeUnavailable          Code = "unavailable"
	CodeInternal             Code = "internal_error"
)

// Error is a failure that a client may be told of. Any other error is internal: it goes to the log, and
// the client learns no more than that it happened.
type Error struct {
	Code    Code   `json:"error"`
	Message string `json:"message"`        // for a person
	Field   string `json:"field,omitzero"` // what is at fault, where one thing is
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// BadRequest says what field must be, as in "must be a string"; or, where field is "", what the request
// must be.
func BadRequest(field, message string) *Error {
	if field != "" {
		message = field + " " + message
	}
	return &Error{Code: CodeBadRequest, Message: message, Field: field}
}

// Unauthorized says why nobody is let in who does not say who they are.
func Unauthorized(message string) *Error {
	return &Error{Code: CodeUnauthorized, Message: message}
}

// Forbidden says what somebody who is known may not do.
func Forbidden(message string) *Error {
	return &Error{Code: CodeForbidden, Message: message}
}

// Misdirected says under which name the server does not answer, and what would have it do so.
func Misdirected(message string) *Error {
	return &Error{Code: CodeMisdirectedRequest, Message: message}
}

// TooManyRequests says which rate a client is over.
func TooManyRequests(message string) *Error {
	return &Error{Code: CodeTooManyRequests, Message: message}
}

// NotFound says that there is no such thing.
func NotFound(what string) *Error {
	return &Error{Code: CodeNotFound, Message: "no such " + what}
}

// Conflict says with which other request one is at odds.
func Conflict(message string) *Error {
	return &Error{Code: CodeConflict, Message: message}
}

// PayloadTooLarge says which limit a request is over.
func PayloadTooLarge(message string) *Error {
	return &Error{Code: CodePayloadTooLarge, Message: message}
}

// UnsupportedMediaType says what a header that describes the body must be.
func UnsupportedMediaType(field, message string) *Error {
	return &Error{Code: CodeUnsupportedMediaType, Message: field + " " + message, Field: field}
}

// Unavailable says what the server can't do now, but may be able to later.
func Unavailable(message string) *Error {
	return &Error{Code: CodeUnavailable, Message: message}
}
