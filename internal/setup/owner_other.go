//go:build !unix

package setup

import "io/fs"

// chown does nothing: on this system, files inherit their permissions from their folder.
func chown(string, fs.FileInfo) {}
