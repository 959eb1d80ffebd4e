package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

func teamOf(prefix string, part float64) *store.Team {
	return store.NewTeam(store.Share{Fraction: part}, func(id string) bool { return strings.HasPrefix(id, prefix) })
}

// shown returns everything that a team sees of a store.
func shown(t require.TestingT, st *store.Store, team *store.Team) (all []any) {
	page, err := st.Sessions(context.Background(), store.SessionQuery{Team: team}, nil, 10_000)
	require.NoError(t, err)
	all = append(all, st.TeamSummary(team, time.Now()))
	for _, se := range page.Items {
		_, history, _ := st.Session(se.AgentID, se.Topic, nil, 1000)
		all = append(all, se, history.Items)
	}
	return all
}

// TestShareUses compares the use of shares with what the teams have.
func TestShareUses(t *testing.T) {
	st := newStore(func(o *store.Options) { o.MaxSessions, o.HistoryMaxBytes, o.DataMaxBytes = 40, 100_000, 1000 })
	half, whole := teamOf("half", 0.5), teamOf("whole", 1)
	st.SetTeams([]*store.Team{half, whole})
	require.Equal(t, []store.ShareUse{{Team: half}}, st.ShareUses(), "who may use everything has no share")
	for i := range 5 {
		accept(st, epoch, running("half", fmt.Sprint(i)), running("whole", fmt.Sprint(i)), running("nobody", fmt.Sprint(i)))
	}
	st.SetEveryone(store.Share{Fraction: 0.25})
	st.SetDiskUse(store.DiskUse{Total: 1000, Everyone: 25, Teams: map[*store.Team]int64{half: 500}})
	uses := st.ShareUses()
	require.Len(t, uses, 2)
	require.Nil(t, uses[0].Team)
	require.Equal(t, half, uses[1].Team)
	require.Equal(t, []float64{0.5, 0.25, 0.1, 1}, []float64{uses[0].Sessions, uses[1].Sessions, uses[0].Disk, uses[1].Disk})
	both := uses[0].Memory*25_000 + 2*uses[1].Memory*50_000 // the third team has as much as the second
	require.InEpsilon(t, float64(st.Stats().HistoryBytes), both, 0.1)
}

// TestACappedTeamTakesNothingFromOthers lets one team do anything, and checks that another team, which stays within its
// own share, sees what it would see in a separate store.
func TestACappedTeamTakesNothingFromOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bounds := func(o *store.Options) {
			o.MaxSessions, o.HistoryMaxBytes, o.HistoryLimit, o.SessionRetention = 12, 60_000, 4, time.Hour
		}
		loud, quiet, alone := teamOf("loud", 0.5), teamOf("quiet", 0.5), teamOf("quiet", 0.5)
		shared, own := newStore(bounds), newStore(bounds)
		shared.SetTeams([]*store.Team{loud, quiet})
		own.SetTeams([]*store.Team{alone})
		now := epoch
		draw := func(t *rapid.T, agents, sessions, content int) models.StatusReport {
			now = now.Add(time.Duration(rapid.IntRange(1, 300).Draw(t, "seconds")) * time.Second)
			r := running(fmt.Sprint(rapid.IntRange(1, agents).Draw(t, "agent")), fmt.Sprint(rapid.IntRange(1, sessions).Draw(t, "session")))
			r.Status, r.TTLMinutes = models.Statuses[rapid.IntRange(0, 3).Draw(t, "status")], rapid.IntRange(1, 30).Draw(t, "TTL")
			r.Content = strings.Repeat("x", rapid.IntRange(0, content).Draw(t, "content"))
			r.SessionTitle = strings.Repeat("t", rapid.IntRange(0, 200).Draw(t, "title"))
			return r
		}
		t.Repeat(map[string]func(*rapid.T){
			"loud": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "reports") {
					r := draw(t, 20, 20, 10_000)
					r.AgentID = "loud " + r.AgentID
					shared.Accept(loud, []models.StatusReport{r}, now, nil)
				}
			},
			"quiet": func(t *rapid.T) {
				r := draw(t, 2, 3, 500)
				r.AgentID = "quiet " + r.AgentID
				reports := []models.StatusReport{r}
				require.Equal(t, own.Accept(alone, reports, now, nil), shared.Accept(quiet, reports, now, nil))
			},
			"": func(t *rapid.T) {
				shared.Expire(now)
				own.Expire(now)
				require.Equal(t, shown(t, own, alone), shown(t, shared, quiet))
				stats := shared.Stats()
				require.LessOrEqual(t, stats.HistoryBytes, int64(60_000))
				require.LessOrEqual(t, shared.TeamSummary(loud, time.Now()).Sessions.Total, 6)
				require.NoError(t, shared.CheckUsage())
			},
		})
	})
}

// TestCurrentStatusesStayWithinMemory starts many small sessions that then all send large statuses, which are all
// current.
func TestCurrentStatusesStayWithinMemory(t *testing.T) {
	const bound = 4 << 20
	st := newStore(func(o *store.Options) { o.HistoryMaxBytes = bound })
	for i := range 1500 {
		require.Equal(t, store.Stored, accept(st, epoch, running("a", fmt.Sprint(i)))[0])
	}
	for i := range 1500 {
		r := running("a", fmt.Sprint(i))
		r.Content = strings.Repeat("x", 10_000)
		require.Equal(t, store.Stored, accept(st, epoch, r)[0], "known sessions continue")
		require.LessOrEqual(t, st.Stats().HistoryBytes, int64(bound))
	}
	require.Positive(t, st.Stats().Bounds.Contents)
	status := func(i int) models.AgentStatus {
		_, page, ok := st.Session("a", fmt.Sprint(i), nil, 1)
		require.True(t, ok)
		return page.Items[0]
	}
	require.True(t, status(0).ContentDropped, "the session silent for the longest loses its content first, and says so")
	require.Len(t, status(1499).Content, 10_000, "the newest is whole")
	require.Equal(t, 1500, st.Summary().Sessions.Total)

	refused := 0
	for i := range 1500 { // messages are never dropped
		r := running("a", fmt.Sprint(i))
		r.Message = strings.Repeat("m", 4000)
		if accept(st, epoch, r)[0] == store.OutOfMemory {
			refused++
		}
		require.LessOrEqual(t, st.Stats().HistoryBytes, int64(bound))
	}
	require.Positive(t, refused)
	require.EqualValues(t, refused, st.Stats().Bounds.Refused)
	require.NoError(t, st.CheckUsage())
}

// TestSharesAreNamed lets teams reach each bound, and changes shares while they are in use.
func TestSharesAreNamed(t *testing.T) {
	st := newStore(func(o *store.Options) { o.MaxSessions, o.HistoryMaxBytes = 10, 40_000 })
	half, other := teamOf("half", 0.5), teamOf("other", 0.5)
	st.SetTeams([]*store.Team{half, other})
	now := epoch
	report := func(team *store.Team, agent string, i int) store.Outcome {
		return st.Accept(team, []models.StatusReport{running(agent, fmt.Sprint(i))}, now, nil)[0]
	}
	for i := range 5 {
		require.Equal(t, store.Stored, report(half, "half", i))
	}
	require.Equal(t, store.OutOfSessionShare, report(half, "half", 5))
	require.EqualValues(t, 1, st.Stats().Bounds.RefusedShare)
	require.Equal(t, store.Stored, report(half, "half", 4), "known sessions continue")
	for i := range 5 {
		require.Equal(t, store.Stored, report(other, "other", i), "another team continues")
	}
	require.Equal(t, store.OutOfSessions, report(nil, "whole", 0), "the shares add up to the whole")

	less := teamOf("half", 0.2)
	now = epoch.Add(time.Hour)
	st.Expire(now)
	st.SetTeams([]*store.Team{less, other})
	require.Equal(t, 2, st.TeamSummary(less, time.Now()).Sessions.Total, "expired sessions are evicted when the share shrinks")
	require.Equal(t, 5, st.TeamSummary(other, time.Now()).Sessions.Total)
	require.NoError(t, st.CheckUsage())
	st.SetEveryone(store.Share{Fraction: 0.1})
	require.Equal(t, store.Stored, report(nil, "whole", 0))
	require.Equal(t, store.OutOfSessionShare, report(nil, "whole", 1))
	require.NoError(t, st.CheckUsage())
}

// TestApplyMakesRoom applies records that were not admitted, for more sessions than allowed. Expired sessions make
// room.
func TestApplyMakesRoom(t *testing.T) {
	const most = 10
	st := newStore(func(o *store.Options) { o.MaxSessions, o.DefaultTTL = most, time.Minute })
	now, sequence := epoch, uint64(0)
	begin := func(topic int) {
		sequence++
		st.Apply(models.Record{Sequence: sequence, Received: now.Add(time.Duration(sequence)),
			StatusReport: models.StatusReport{AgentID: fmt.Sprint("a", topic), SessionTopic: "t", Status: models.Success}})
	}
	for topic := range most {
		begin(topic)
	}
	now = now.Add(2 * time.Minute)
	require.Equal(t, most, st.Expire(now).Expired)
	for topic := range most {
		begin(most + topic)
		require.Equal(t, most, st.Summary().Sessions.Total)
		require.Equal(t, topic+1, st.Summary().Sessions.Active)
	}
	begin(2 * most)
	require.Equal(t, most+1, st.Summary().Sessions.Total, "an acknowledged record is applied even without room")
}
