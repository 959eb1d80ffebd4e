//go:build race

package main

// underRace is whether the race detector watches, which takes several times as much memory.
const underRace = true
