//go:build !race

package notify_test

const underRace = false
