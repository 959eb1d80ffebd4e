//go:build !unix

package datadir

import "io/fs"

// KeepPrivate does nothing: on this system, files inherit their permissions from their directory.
func KeepPrivate() {}

// SurviveFileSizeLimit does nothing: only Unix has such a limit.
func SurviveFileSizeLimit() {}

// KeepsOthersOut is whether this package can deny other users access to the state. On this system, the directory that
// the operator names decides.
const KeepsOthersOut = false

func isPrivate(string) bool { return true }

func isMine(fs.FileInfo) bool { return true }

// SyncDir does nothing: this system has no way to sync a directory.
func SyncDir(string) error { return nil }
