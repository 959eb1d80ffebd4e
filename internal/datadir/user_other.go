//go:build !unix

package datadir

import "io/fs"

// KeepPrivate does nothing: here, directories pass on who may read what is in them.
func KeepPrivate() {}

// SurviveFileSizeLimit does nothing: only Unix has such a limit.
func SurviveFileSizeLimit() {}

func isMine(fs.FileInfo) bool { return true }
