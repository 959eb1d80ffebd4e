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

// diskBound is large compared with what the engine needs for itself.
const diskBound = 160 << 20

// shareBytes is the share of a team that may use a tenth of the disk.
const shareBytes = diskBound / 10

// boundedDisk is a hub with two teams and a bound on its disk space.
type boundedDisk struct {
	hub
	flood, quiet *store.Team
	share        store.Share    // the share of the team flood
	sent         map[string]int // number of reports by agent ID
	rng          *rand.Rand
	noise        string // barely compressible
}

func newBoundedDisk(t *testing.T, share store.Share) *boundedDisk {
	c := &boundedDisk{share: share, sent: map[string]int{}, rng: rand.New(rand.NewPCG(1, 2))}
	noise := make([]byte, 8<<20)
	for i := range noise {
		noise[i] = byte(' ' + c.rng.Uint32()%95)
	}
	c.noise = string(noise)
	c.hub = hub{fs: vfs.NewMem(), now: epoch, opts: store.Options{
		DefaultTTL: time.Hour, SessionRetention: time.Hour, Journaled: true, HistoryLimit: 5, HistoryMaxBytes: 64 << 20, MaxSessions: 1000, DataMaxBytes: diskBound,
	}}
	c.start(t)
	return c
}

func (c *boundedDisk) start(t *testing.T) {
	of := func(prefix string) func(string) bool {
		return func(id string) bool { return strings.HasPrefix(id, prefix) }
	}
	c.open(t)
	c.flood, c.quiet = store.NewTeam(c.share, of("flood")), store.NewTeam(store.Share{Fraction: 0.5}, of("quiet"))
	c.store.SetTeams([]*store.Team{c.flood, c.quiet})
	c.measure(t)
}

func (c *boundedDisk) measure(t *testing.T) (dropped int) {
	dropped, err := c.recorder.MeasureSpace(background)
	require.NoError(t, err)
	return dropped
}

// report reports n barely compressible statuses. It stops at the first outcome other than Stored, and returns it.
func (c *boundedDisk) report(t *testing.T, team *store.Team, agentID string, n int) store.Outcome {
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

// requireKept requires that all reports of an agent from the given number on are kept.
func (c *boundedDisk) requireKept(t *testing.T, agentID string, from int) {
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

// TestATeamAtItsShareOfTheDiskIsRefused fills the share of a team. Its reports are refused with an outcome of their
// own, those of another team are accepted, and a restart changes nothing, until something is removed.
func TestATeamAtItsShareOfTheDiskIsRefused(t *testing.T) {
	c := newBoundedDisk(t, store.Share{Fraction: 0.1})
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
	require.Greater(t, c.sent["flood/a"], shareBytes/models.MaxContent*3/4, "it could use about its share")
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
		c.start(t)
	}
	_, err := c.recorder.RemoveAgent(background, "flood/a", c.now)
	require.NoError(t, err)
	require.NoError(t, c.journal.Reclaim())
	c.measure(t)
	require.Equal(t, store.Stored, c.report(t, c.flood, "flood/b", 100))
	require.NoError(t, c.journal.Close())
}

// TestATeamCanDropItsOldestHistory has a team report several times as much as its share of the disk. No report is
// refused, the newest ones are kept, and no history of another team is dropped.
func TestATeamCanDropItsOldestHistory(t *testing.T) {
	c := newBoundedDisk(t, store.Share{Fraction: 0.1, DropHistory: true})
	require.Equal(t, store.Stored, c.report(t, c.quiet, "quiet/a", 200))
	dropped := 0
	for range 15 {
		require.Equal(t, store.Stored, c.report(t, c.flood, "flood/a", 200))
		dropped += c.measure(t)
	}
	require.Greater(t, dropped, 700)
	require.Less(t, dropped, 3_000-shareBytes/2/models.MaxContent, "at least half of its share is kept")
	c.requireKept(t, "flood/a", 3_000-shareBytes/2/models.MaxContent)
	c.requireKept(t, "quiet/a", 0)
	space, err := c.journal.Space()
	require.NoError(t, err)
	require.Less(t, space, int64(diskBound*3/4))
	require.NoError(t, c.journal.Close())
	c.start(t)
	c.requireKept(t, "quiet/a", 0)
	c.requireKept(t, "flood/a", 3_000-shareBytes/2/models.MaxContent)
	require.NoError(t, c.journal.Close())
}

// TestReportsAreAcceptedAgainAfterAFullDisk uses up all space that the journal may take, and frees it.
func TestReportsAreAcceptedAgainAfterAFullDisk(t *testing.T) {
	c := newBoundedDisk(t, store.Share{})
	c.opts.DataMaxBytes = 96 << 20
	require.NoError(t, c.journal.Close())
	c.start(t)
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
