//go:build unix && race

package e2e

// underRace reports whether the race detector is enabled. It takes several times as much memory.
const underRace = true
