// Package nearest finds the name that somebody probably meant.
package nearest

import "github.com/agnivade/levenshtein"

// mostEdits is how many characters may be missing, added or replaced.
const mostEdits = 2

// To returns the known name that is nearest to name: at most two edits, and at most a third of its characters, away. ok is false if
// there is none. Of several, the first counts.
func To(name string, known []string) (found string, ok bool) {
	least := mostEdits + 1
	for _, other := range known {
		if longer, shorter := max(len(name), len(other)), min(len(name), len(other)); longer-shorter > mostEdits {
			continue
		}
		if edits := levenshtein.ComputeDistance(name, other); edits < least && 3*edits <= len(other) {
			found, least = other, edits
		}
	}
	return found, least <= mostEdits
}
