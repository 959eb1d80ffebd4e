//go:build race

package notify_test

// underRace reports whether the race detector is enabled. With it, everything takes many times as long.
const underRace = true
