//go:build !unix

package datadir

import "io/fs"

// KeepPrivate does nothing: on this system, files inherit their permissions from their directory.
func KeepPrivate() {}

// SurviveFileSizeLimit does nothing: only Unix has such a limit.
func SurviveFileSizeLimit() {}

func isMine(fs.FileInfo) bool { return true }
