package config

// SettingError is an error in what a setting names: a file that can't be read or whose content is invalid, an address
// that the machine doesn't have, a directory that the server may not use. A restart does not help until somebody
// changes that. Its message names the setting or says how to change it.
type SettingError struct{ Err error }

// Error implements error.
func (e *SettingError) Error() string { return e.Err.Error() }

// Unwrap returns the underlying error.
func (e *SettingError) Unwrap() error { return e.Err }
