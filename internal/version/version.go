// Package version reports which version of the program is running.
package version

import (
	"cmp"
	"runtime/debug"
)

// A release sets these through the linker (see .goreleaser.yaml and the Makefile). Without them, String and Commit use
// the build information, which Go adds to what it builds in a repository.
var release, commit string

// String returns the version of the release or of the main module or, if there is neither, the revision that the
// program was built from. It returns "devel" if nothing is known.
func String() string {
	info, _ := debug.ReadBuildInfo()
	return cmp.Or(release, of(info))
}

// Commit returns the revision that the program was built from, or "" if it is not known.
func Commit() string {
	info, _ := debug.ReadBuildInfo()
	return cmp.Or(commit, revisionOf(info))
}

func of(info *debug.BuildInfo) string {
	if info == nil {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision := revisionOf(info)
	return cmp.Or(revision[:min(12, len(revision))], "devel")
}

func revisionOf(info *debug.BuildInfo) string {
	if info == nil {
		return ""
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}
	return ""
}
