package recorder_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// diskBound is large enough that what the engine takes for itself is little of it.
const diskBound = 160 << 20

// shareBytes is the share of a team that has a tenth of that.
const shareBytes = diskBound / 10

// crowd is teams on a disk of a bounded size.
type crowd struct {
	hub
	flood, quiet *store.Team
	share        store.Share // of flood
	sent         map[string]int
	rng          *rand.Rand
	noise        string // that hardly gets smaller by being compressed
}

func newCrowd(t *testing.T, share store.Share) *crowd {
	c := &crowd{share: share, sent: map[string]int{}, rng: rand.New(rand.NewPCG(1, 2))}
	noise := make([]byte, 8<<20)
	for i := range noise {
		noise[i] = byte(' ' + c.rng.Uint32()%95)
	}
	c.noise = string(noise)
	c.hub = hub{fs: vfs.NewMem(), now: epoch, opts: store.Options{
		DefaultTTL: time.Hour, SessionRetention: time.Hour, Journaled: true, HistoryLimit: 5, HistoryMaxBytes: 64 << 20, MaxSessions: 1000, DataMaxBytes: diskBound,
	}}
	c.begin(t)
	return c
}

func (c *crowd) begin(t *testing.T) {
	of := func(prefix string) func(string) bool {
		return func(id string) bool { return strings.HasPrefix(id, prefix) }
	}
	c.open(t)
	c.flood, c.quiet = store.NewTeam(c.share, of("flood")), store.NewTeam(store.Share{Part: 0.5}, of("quiet"))
	c.store.SetTeams([]*store.Team{c.flood, c.quiet})
	c.measure(t)
}

func (c *crowd) measure(t *testing.T) (dropped int) {
	dropped, err := c.recorder.MeasureSpace(background)
	require.NoError(t, err)
	return dropped
}

// report reports n statuses that can't be compressed much, and returns the first outcome other than that one is stored.
func (c *crowd) report(t *testing.T, team *store.Team, agentID string, n int) store.Outcome {
	t.Helper()
	for range n {
		from := c.rng.IntN(len(c.noise) - models.MaxContent)
		c.now = c.now.Add(time.Millisecond)
		outcomes, err := c.recorder.Accept(team, []models.StatusReport{{
			AgentID: agentID, SessionTopic: fmt.Sprint(c.sent[agentID] % 10), Status: models.Running, Message: fmt.Sprint(c.sent[agentID]), Content: c.noise[from : from+models.MaxContent],
		}}, c.now, nil)
		require.NoError(t, err)
		if outcomes[0] != store.Stored {
			return outcomes[0]
		}
		c.sent[agentID]++
	}
	return store.Stored
}

// requireKept requires that all is there of an agent from a number on.
func (c *crowd) requireKept(t *testing.T, agentID string, from int) {
	t.Helper()
	var messages []string
	for after, more := (*store.StatusPosition)(nil), true; more; {
		page, ok := c.page(t, agentID, "", after, 1000)
		require.True(t, ok)
		for _, st := range page.Items {
			messages = append(messages, st.Message)
		}
		after, more = page.Next, page.Next != nil
	}
	require.GreaterOrEqual(t, len(messages), c.sent[agentID]-from)
	for i := range c.sent[agentID] - from {
		require.Equal(t, fmt.Sprint(c.sent[agentID]-1-i), messages[i])
	}
}

// TestATeamAtItsShareOfTheDiskIsRefused has a team fill its share: it is refused by name, another one goes on, and so it is after a
// restart, until something is removed.
func TestATeamAtItsShareOfTheDiskIsRefused(t *testing.T) {
	c := newCrowd(t, store.Share{Part: 0.1})
	require.Equal(t, store.Stored, c.report(t, c.quiet, "quiet/a", 100))
	fill := func() (outcome store.Outcome) {
		for range 100 {
			if outcome = c.report(t, c.flood, "flood/a", 200); outcome != store.Stored {
				break
			}
			c.measure(t)
		}
		return outcome
	}
	require.Equal(t, store.OutOfDiskShare, fill())
	require.Greater(t, c.sent["flood/a"], shareBytes/models.MaxContent*3/4, "it had about its share")
	for range 2 {
		c.measure(t)
		fill()
		require.Equal(t, store.OutOfDiskShare, c.report(t, c.flood, "flood/b", 1000))
		space, err := c.journal.Space()
		require.NoError(t, err)
		require.Less(t, space, int64(diskBound*3/4), "about its share, the other team's reports, and the engine's logs")
		require.Equal(t, store.Stored, c.report(t, c.quiet, "quiet/a", 100))
		c.requireKept(t, "quiet/a", 0)
		c.requireKept(t, "flood/a", 0)
		require.NoError(t, c.journal.Close())
		c.begin(t)
	}
	_, err := c.recorder.RemoveAgent(background, "flood/a", c.now)
	require.NoError(t, err)
	require.NoError(t, c.journal.Reclaim())
	c.measure(t)
	require.Equal(t, store.Stored, c.report(t, c.flood, "flood/b", 100))
	require.NoError(t, c.journal.Close())
}

// TestATeamCanDropItsOldestHistory has a team report several times what its share of the disk holds: none of it is refused, the newest is
// there, and nothing of another team goes.
func TestATeamCanDropItsOldestHistory(t *testing.T) {
	c := newCrowd(t, store.Share{Part: 0.1, DropHistory: true})
	require.Equal(t, store.Stored, c.report(t, c.quiet, "quiet/a", 200))
	dropped := 0
	for range 15 {
		require.Equal(t, store.Stored, c.report(t, c.flood, "flood/a", 200))
		dropped += c.measure(t)
	}
	require.Greater(t, dropped, 700)
	require.Less(t, dropped, 3_000-shareBytes/2/models.MaxContent, "half of its share is kept at least")
	c.requireKept(t, "flood/a", 3_000-shareBytes/2/models.MaxContent)
	c.requireKept(t, "quiet/a", 0)
	space, err := c.journal.Space()
	require.NoError(t, err)
	require.Less(t, space, int64(diskBound*3/4))
	require.NoError(t, c.journal.Close())
	c.begin(t)
	c.requireKept(t, "quiet/a", 0)
	c.requireKept(t, "flood/a", 3_000-shareBytes/2/models.MaxContent)
	require.NoError(t, c.journal.Close())
}

// TestAFullDiskTakesReportsAgain fills all that the journal may take, and frees it.
func TestAFullDiskTakesReportsAgain(t *testing.T) {
	c := newCrowd(t, store.Share{})
	c.opts.DataMaxBytes = 96 << 20
	require.NoError(t, c.journal.Close())
	c.begin(t)
	outcome := store.Stored
	for range 100 {
		if outcome = c.report(t, nil, "other", 200); outcome != store.Stored {
			break
		}
		c.measure(t)
	}
	require.Equal(t, store.OutOfDisk, outcome)
	c.requireKept(t, "other", 0)
	_, err := c.recorder.TrimHistory(background, c.now)
	require.NoError(t, err)
	c.measure(t)
	require.Equal(t, store.Stored, c.report(t, nil, "other", 100))
	require.NoError(t, c.journal.Close())
}
