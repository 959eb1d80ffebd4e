package budget_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/budget"
	"github.com/kubeagents/kubeagents/store"
)

const mib = 1 << 20

func newTeam(part float64) *store.Team {
	return store.NewTeam(store.Share{Fraction: part}, func(string) bool { return true })
}

// hold returns a new holding of a team with this many bytes of an answer that is ready to be sent.
func hold(t testing.TB, b *budget.Budget, team *store.Team, bytes int64) *budget.Reservation {
	h := b.For(team, team.Share())
	require.NoError(t, h.Reserve(t.Context(), bytes))
	return h
}

func TestAClaimWithoutRoomWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(32 * mib)
		first := []*budget.Reservation{}
		for range 4 {
			first = append(first, hold(t, b, nil, 8*mib))
		}
		started := time.Now()
		require.ErrorIs(t, b.For(nil, store.Share{}).Reserve(t.Context(), 1), budget.ErrFull)
		require.Equal(t, budget.MaxWait, time.Since(started))

		go func() {
			time.Sleep(time.Second)
			first[0].Release()
		}()
		started = time.Now()
		late := hold(t, b, nil, 8*mib)
		require.Equal(t, time.Second, time.Since(started))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, b.For(nil, store.Share{}).ReserveToBuild(ctx, 1), context.DeadlineExceeded)
		late.ShrinkTo(mib)
		require.EqualValues(t, 25*mib, b.Held())
		for _, h := range append(first, late) {
			h.Release()
			h.Release()
		}
		require.Zero(t, b.Held())
	})
}

func TestATeamCannotExceedItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(64 * mib)
		half, tenth := newTeam(0.5), newTeam(0.1)
		for range 4 {
			hold(t, b, half, 8*mib)
		}
		require.ErrorIs(t, b.For(half, half.Share()).Reserve(t.Context(), 1), budget.ErrShare)
		hold(t, b, tenth, 8*mib)
		hold(t, b, tenth, 8*mib)
		require.ErrorIs(t, b.For(tenth, tenth.Share()).Reserve(t.Context(), 1), budget.ErrShare, "a share is at least 16 MiB")
		hold(t, b, nil, 8*mib)
		hold(t, b, nil, 8*mib)
		require.ErrorIs(t, b.For(nil, store.Share{}).Reserve(t.Context(), 1), budget.ErrFull)
		require.ErrorIs(t, b.For(nil, store.Share{Fraction: 0.25}).Reserve(t.Context(), 1), budget.ErrShare, "everyone may have a share, too")
	})
}

// TestATeamThatWaitsForItsShareHoldsUpNoOther has one team wait while others claim room and give it back.
func TestATeamThatWaitsForItsShareHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, half := budget.New(64*mib), newTeam(0.5)
		for range 4 {
			hold(t, b, half, 8*mib)
		}
		var waiting sync.WaitGroup
		for range 100 {
			waiting.Go(func() { b.For(half, half.Share()).Reserve(t.Context(), mib) }) //nolint:errcheck // always fails
		}
		synctest.Wait()
		started := time.Now()
		hold(t, b, nil, 8*mib).Release()
		hold(t, b, newTeam(0.5), 8*mib).Release()
		require.Zero(t, time.Since(started))
		waiting.Wait()
	})
}

// TestAnswersInTheMakingLeaveRoomForSending uses up the half that is for answers in the making.
func TestAnswersInTheMakingLeaveRoomForSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(32 * mib)
		made := []*budget.Reservation{}
		for range 4 {
			made = append(made, b.For(nil, store.Share{}))
			require.NoError(t, made[len(made)-1].ReserveToBuild(t.Context(), 4*mib))
		}
		require.ErrorIs(t, b.For(nil, store.Share{}).ReserveToBuild(t.Context(), 1), budget.ErrFull)
		for _, h := range made { // one at a time, as each answer is sent
			require.NoError(t, h.Reserve(t.Context(), 8*mib))
			h.ShrinkTo(mib)
			require.EqualValues(t, mib, h.Held())
		}
		require.NoError(t, b.For(nil, store.Share{}).ReserveToBuild(t.Context(), 4*mib))
	})
}

// TestBytesAreNeitherCountedTwiceNorLost has many goroutines claim and give back bytes at random. The bound is never
// exceeded, no goroutine waits forever, and in the end nothing is held.
func TestBytesAreNeitherCountedTwiceNorLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		synctest.Test(t, func(t *testing.T) {
			b := budget.New(16 * mib)
			teams := []*store.Team{nil, newTeam(0.5), newTeam(1)}
			var all sync.WaitGroup
			for i := range 40 {
				random := rand.New(rand.NewPCG(seed, uint64(i)))
				all.Go(func() {
					h := b.For(teams[i%3], teams[i%3].Share())
					defer h.Release()
					for range 5 {
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(5000))*time.Millisecond)
						err := h.ReserveToBuild(ctx, random.Int64N(4*mib))
						if err == nil {
							err = h.Reserve(ctx, random.Int64N(4*mib))
						}
						cancel()
						require.LessOrEqual(t, b.Held(), int64(16*mib))
						if err != nil && !errors.Is(err, budget.ErrFull) && !errors.Is(err, budget.ErrShare) {
							require.ErrorIs(t, err, context.DeadlineExceeded)
						}
						time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
						h.ShrinkTo(random.Int64N(mib))
						time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
						h.Release()
					}
				})
			}
			all.Wait()
			require.Zero(t, b.Held())
		})
	})
}

func BenchmarkHolding(b *testing.B) {
	shared := budget.New(64 * mib)
	team := newTeam(0.5)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h := shared.For(team, team.Share())
			if err := h.ReserveToBuild(context.Background(), 100<<10); err != nil {
				b.Error(err)
			}
			h.Release()
		}
	})
}
