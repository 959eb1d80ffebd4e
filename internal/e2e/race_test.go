//go:build unix && race

package e2e

// underRace is whether the race detector watches, which takes several times as much memory.
const underRace = true
