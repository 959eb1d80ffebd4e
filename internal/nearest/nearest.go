// Package nearest finds the name that a person probably meant.
package nearest

import "github.com/agnivade/levenshtein"

// maxEdits is the maximum number of characters that are missing, added or replaced.
const maxEdits = 2

// To returns the known name that is nearest to name. The name may differ by at most two edits, and by at most a third
// of the characters of the known name. If several are equally near, To returns the first of them. ok is false if there
// is none.
func To(name string, known []string) (found string, ok bool) {
	least := maxEdits + 1
	for _, other := range known {
		if longer, shorter := max(len(name), len(other)), min(len(name), len(other)); longer-shorter > maxEdits {
			continue
		}
		if edits := levenshtein.ComputeDistance(name, other); edits < least && 3*edits <= len(other) {
			found, least = other, edits
		}
	}
	return found, least <= maxEdits
}
