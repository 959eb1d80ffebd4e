package config

// FileError is an error in a file that a setting names: the file can't be read, or its content is invalid. Its message
// names the setting and the file.
type FileError struct{ Err error }

// Error implements error.
func (e *FileError) Error() string { return e.Err.Error() }

// Unwrap returns the underlying error.
func (e *FileError) Unwrap() error { return e.Err }
