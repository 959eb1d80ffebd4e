package cluster

import (
	"errors"
	"fmt"
	"slices"
)

// minimumVersion is the oldest version of NATS that this package is tried against.
var minimumVersion = []int{2, 15, 2}

// errTooOld is the error of a node whose version is not known to be at least minimumVersion.
var errTooOld = errors.New("2.15.2 or later is needed")

// checkVersion fails if the version of a node is too old. A pre-release counts as the release before it.
func checkVersion(text string) error {
	var major, minor, patch int
	var rest string
	n, _ := fmt.Sscanf(text, "%d.%d.%d%s", &major, &minor, &patch, &rest)
	version := []int{major, minor, patch}
	order := slices.Compare(version, minimumVersion)
	if n < 3 || order < 0 || order == 0 && rest != "" && rest[0] == '-' {
		return fmt.Errorf("it runs version %q of NATS, but %w", text, errTooOld)
	}
	return nil
}
