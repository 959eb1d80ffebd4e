package recorder

// Unavailable is returned while nothing can be recorded because the stream of messages that several servers share can't
// be written.
type Unavailable struct {
	Cause   string // for clients; it contains no internals of the server
	Unknown bool   // what was to be recorded may have been, or may be later: nobody answered in time
	Err     error  // for the log; nil if the cause says it all
}

// Error implements error.
func (u *Unavailable) Error() string {
	if u.Err == nil {
		return u.Cause
	}
	return u.Cause + ": " + u.Err.Error()
}

// Unwrap returns the underlying error.
func (u *Unavailable) Unwrap() error { return u.Err }
