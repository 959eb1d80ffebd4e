package recorder_test

import (
	"context"
	"math/rand/v2"

	"pgregory.net/rapid"
)

var background = context.Background()

func rng(t *rapid.T) *rand.Rand {
	return rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
}
