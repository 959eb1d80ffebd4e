package store_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

var epoch = time.Date(2026, 11, 20, 7, 0, 0, 0, time.UTC)

// all is a limit that no list in these tests reaches.
const all = 1 << 20

// Reports are drawn from small sets of values, so that they collide often.
var (
	agentIDs = []string{"a", "A/b", "代理", "z%25"}
	sources  = []string{"", "", "cursor", "codex"}
	hosts    = []string{"", "", "laptop"}
	topics   = []string{"t", "t/2", "прогон", "..."}
	titles   = []string{"", "", "Fix", "Wartung"}
)

func drawReport(t *rapid.T, now time.Time) models.StatusReport {
	r := models.StatusReport{
		AgentID:      rapid.SampledFrom(agentIDs).Draw(t, "agent"),
		AgentName:    rapid.SampledFrom(titles).Draw(t, "name"),
		AgentSource:  rapid.SampledFrom(sources).Draw(t, "source"),
		AgentHost:    rapid.SampledFrom(hosts).Draw(t, "host"),
		SessionTopic: rapid.SampledFrom(topics).Draw(t, "topic"),
		SessionTitle: rapid.SampledFrom(titles).Draw(t, "title"),
		Status:       rapid.SampledFrom(models.Statuses[:]).Draw(t, "status"),
		Message:      rapid.SampledFrom([]string{"", "m", strings.Repeat("é", 200)}).Draw(t, "message"),
		Content:      rapid.SampledFrom([]string{"", "c"}).Draw(t, "content"),
		TTLMinutes:   rapid.SampledFrom([]int{0, 0, 1, 5, 60}).Draw(t, "ttl"),
		ReportID:     rapid.SampledFrom([]string{"", "", "", "r1", "r2", "r3"}).Draw(t, "report"),
		Renew:        rapid.IntRange(0, 2).Draw(t, "renew") == 0,
	}
	if rapid.Bool().Draw(t, "event") {
		r.Event = &models.Event{
			AppliesIn:        models.States(rapid.Uint8Range(0, uint8(models.Anywhere)).Draw(t, "counts")) &^ models.Waiting,
			IgnoreOtherwise:  rapid.Bool().Draw(t, "silent"),
			InterruptMessage: rapid.SampledFrom([]string{"", "Interrupted"}).Draw(t, "interrupts"),
			FirstTitle:       rapid.Bool().Draw(t, "first title"),
			FirstName:        rapid.Bool().Draw(t, "first name"),
		}
		r.Status = rapid.SampledFrom([]models.Status{0, models.Idle, models.Running, models.Success, models.Failed}).Draw(t, "status of an event")
	}
	if age := rapid.IntRange(-3, 20).Draw(t, "age"); age < 18 {
		r.Timestamp = now.Add(-time.Duration(age) * time.Minute)
	}
	return r
}

// TestStoreEqualsModel compares every answer of the store with one that the model computes from all records, after
// random sequences of reports, expiries and retention runs.
func TestStoreEqualsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		opts := store.Options{
			DefaultTTL:       3 * time.Minute,
			SessionRetention: 10 * time.Minute,
			HistoryLimit:     rapid.SampledFrom([]int{1, 2, 5, 1000}).Draw(t, "history limit"),
			HistoryMaxBytes:  1 << 30,
			MaxSessions:      rapid.SampledFrom([]int{3, 1000}).Draw(t, "max sessions"),
		}
		s, m := store.New(opts), newModel(opts)
		now := epoch
		teams := []team{{ids: agentIDs}}
		t.Repeat(map[string]func(*rapid.T){
			"report": func(t *rapid.T) {
				n := rapid.IntRange(1, 5).Draw(t, "reports")
				var reports []models.StatusReport
				var want []store.Outcome
				for range n {
					reports = append(reports, drawReport(t, now))
					want = append(want, m.accept(reports[len(reports)-1], now))
				}
				require.Equal(t, want, s.Accept(nil, reports, now, nil))
			},
			"time passes": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 400).Draw(t, "seconds")) * time.Second)
				m.expire(now)
				s.Expire(now)
			},
			"a person removes a session": func(t *rapid.T) {
				agentID, topic := rapid.SampledFrom(agentIDs).Draw(t, "agent"), rapid.SampledFrom(topics).Draw(t, "topic")
				removed := m.remove(func(se models.FleetSession) bool { return se.AgentID == agentID && se.Topic == topic })
				require.Equal(t, removed == 1, s.RemoveSession(store.SessionKey{AgentID: agentID, Topic: topic}, now))
			},
			"a person removes an agent": func(t *rapid.T) {
				agentID := rapid.SampledFrom(agentIDs).Draw(t, "agent")
				removed := m.remove(func(se models.FleetSession) bool { return se.AgentID == agentID })
				require.Equal(t, removed, s.RemoveAgent(agentID, now))
			},
			"teams change": func(t *rapid.T) {
				kept := teams[1:]
				if rapid.Bool().Draw(t, "remove teams") {
					kept = nil
				}
				teams = append(teams[:1:1], kept...)
				for range rapid.IntRange(0, 2).Draw(t, "new teams") {
					teams = append(teams, newTeam(rapid.SliceOf(rapid.SampledFrom(agentIDs)).Draw(t, "members")))
				}
				var known []*store.Team
				for _, of := range teams[1:] {
					known = append(known, of.Team)
				}
				s.SetTeams(known)
			},
			"": func(t *rapid.T) {
				require.NoError(t, s.CheckUsage())
				requireEqual(t, m, s, rapid.SampledFrom(teams).Draw(t, "team"))
			},
		})
	})
}

// team is a team and its agents.
type team struct {
	*store.Team
	ids []string
}

func newTeam(ids []string) team {
	return team{store.NewTeam(store.Share{}, func(id string) bool { return slices.Contains(ids, id) }), ids}
}

// TestApplyInAnyOrder checks that the same records lead to the same state in any order and any number of times, even if
// time passes in between.
func TestApplyInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		opts := store.Options{
			DefaultTTL:       3 * time.Minute,
			SessionRetention: 1000 * time.Hour,
			HistoryLimit:     rapid.SampledFrom([]int{1, 2, 5, 1000}).Draw(t, "history limit"),
			HistoryMaxBytes:  1 << 30,
			MaxSessions:      1000,
		}
		m := newModel(opts)
		now := epoch
		for range rapid.IntRange(1, 60).Draw(t, "reports") {
			now = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "seconds")) * time.Second)
			r := drawReport(t, now)
			r.ReportID = "" // retries are dropped before they become records
			if len(m.records) == 0 {
				r.Event, r.Status = nil, models.Running
			}
			m.accept(r, now)
		}
		records := slices.Clone(m.records)
		repeated := rapid.SliceOf(rapid.SampledFrom(m.records)).Draw(t, "repeated")
		records = append(records, repeated...)
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		rnd.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })

		s := store.New(opts)
		s.BeginLoading(m.received)
		for _, r := range records {
			s.Apply(r)
			if rnd.IntN(10) == 0 {
				now = now.Add(time.Duration(rnd.IntN(10)) * time.Second)
				s.Expire(now)
			}
		}
		m.expire(now)
		s.Expire(m.now)
		requireEqual(t, m, s, team{ids: agentIDs})
	})
}

// requireToolUse requires that the store knows for each tool how many agents of a team run in it, and when one of them
// reported last. An agent that no longer exists may have reported later.
func requireToolUse(t *rapid.T, agents []models.Agent, s *store.Store, of team) {
	uses := map[string]store.ToolUse{"none such": {}}
	for _, a := range agents {
		if use := uses[a.Source]; slices.Contains(of.ids, a.ID) {
			use.Agents++
			if a.LastSeen.After(use.Last) {
				use.Last = a.LastSeen
			}
			uses[a.Source] = use
		}
	}
	for tool, want := range uses {
		got := s.ToolUse(of.Team, tool)
		require.Equal(t, want.Agents, got.Agents, tool)
		require.False(t, got.Last.Before(want.Last), "%s: %v, want %v", tool, got.Last, want.Last)
		if of.Team == nil || want.Agents == 0 {
			require.Equal(t, want, got, tool)
		}
	}
}

// requireEqual requires that every read of s equals that of m, with lists and counts for a team.
func requireEqual(t *rapid.T, m *model, s *store.Store, of team) {
	agents := m.agents()
	sessions := m.sessions()
	ofTeam := slices.DeleteFunc(slices.Clone(sessions), func(se models.FleetSession) bool { return !slices.Contains(of.ids, se.AgentID) })
	at := m.now.Add(time.Duration(rapid.IntRange(0, 30*60).Draw(t, "minutes later")) * time.Minute)
	summary := summaryOf(ofTeam)
	for _, se := range ofTeam {
		if needOf(&se) == models.NeedLost && se.ExpiredAt.Before(at.Add(-24*time.Hour)) {
			summary.Needs.LostOverADay++
		}
	}
	require.Equal(t, summary, s.TeamSummary(of.Team, at))
	requireToolUse(t, agents, s, of)
	limit := rapid.SampledFrom([]int{1, 3, all}).Draw(t, "limit")

	q := drawAgentQuery(t)
	q.Team = of.Team
	wanted := slices.DeleteFunc(slices.Clone(agents), func(a models.Agent) bool { return !slices.Contains(of.ids, a.ID) || !agentMatches(q, a) })
	if q.BySeen {
		slices.SortFunc(wanted, func(a, b models.Agent) int { return b.LastSeen.Compare(a.LastSeen) })
	}
	require.Equal(t, orEmpty(wanted), allAgents(t, s, q, limit), "agents of %+v", q)

	sq := drawSessionQuery(t)
	sq.Team = of.Team
	wantedSessions := slices.DeleteFunc(ofTeam, func(se models.FleetSession) bool { return !sessionMatches(sq, se) })
	got := allSessions(t, s, sq, limit)
	switch {
	case sq.Need != 0:
		requireNeeds(t, sq.Need, orEmpty(wantedSessions), got)
	case sq.Oldest:
		slices.Reverse(wantedSessions)
		fallthrough
	default:
		require.Equal(t, orEmpty(wantedSessions), got, "sessions of %+v", sq)
	}

	for _, a := range agents {
		got, ok := s.Agent(a.ID)
		require.True(t, ok)
		require.Equal(t, a, got)
		requireHistory(t, views(m.agentHistory(a.ID)), limit, func(after *store.StatusPosition) store.Page[models.AgentStatus, store.StatusPosition] {
			latest, page, ok := s.AgentStatus(a.ID, after, limit)
			require.True(t, ok)
			require.Equal(t, view(m.agentHistory(a.ID)[0]), latest)
			return page.Page
		})
	}
	statuses := 0
	for _, se := range sessions {
		held := m.history(se.AgentID, se.Topic)
		statuses += len(held)
		requireHistory(t, views(held), limit, func(after *store.StatusPosition) store.Page[models.AgentStatus, store.StatusPosition] {
			got, page, ok := s.Session(se.AgentID, se.Topic, after, limit)
			require.True(t, ok)
			require.Equal(t, se.Session, got)
			return page.Page
		})
	}
	stats := s.Stats()
	require.Equal(t, statuses, stats.Statuses)
	if statuses == 0 {
		require.Zero(t, stats.HistoryBytes)
	}
}

// requireNeeds requires that got are the sessions of want, in the order of those that need attention for a reason.
// Sessions at the same time may be in any order.
func requireNeeds(t require.TestingT, need models.Need, want, got []models.FleetSession) {
	byTime := func(a, b models.FleetSession) int { return timeOfNeed(need, &a).Compare(timeOfNeed(need, &b)) }
	if need != models.NeedWaiting { // the latest first
		earliest := byTime
		byTime = func(a, b models.FleetSession) int { return earliest(b, a) }
	}
	require.True(t, slices.IsSortedFunc(got, byTime), "%+v", got)
	require.ElementsMatch(t, want, got)
}

// timeOfNeed returns since when a session needs attention.
func timeOfNeed(need models.Need, se *models.FleetSession) time.Time {
	switch {
	case need == models.NeedLost:
		return se.ExpiredAt
	case need == models.NeedWaiting && se.Question != nil:
		return se.Question.AskedAt
	}
	return se.StatusSince
}

// needOf returns why a session needs attention, 0 if it does not.
func needOf(se *models.FleetSession) models.Need {
	switch {
	case se.Acknowledged != nil:
		return 0
	case se.Lost:
		return models.NeedLost
	case se.Expired:
		return 0
	case se.CurrentStatus == models.Pending:
		return models.NeedWaiting
	case se.CurrentStatus == models.Failed:
		return models.NeedFailed
	}
	return 0
}

// acknowledgedOf counts the sessions that would need attention if nobody had acknowledged them.
func acknowledgedOf(sessions []models.FleetSession) (counts models.NeedCounts) {
	for _, se := range sessions {
		if se.Acknowledged == nil {
			continue
		}
		se.Acknowledged = nil
		switch needOf(&se) {
		case models.NeedWaiting:
			counts.Waiting++
		case models.NeedLost:
			counts.Lost++
		case models.NeedFailed:
			counts.Failed++
		}
	}
	return counts
}

func requireHistory(t *rapid.T, want []models.AgentStatus, limit int, page func(*store.StatusPosition) store.Page[models.AgentStatus, store.StatusPosition]) {
	got := []models.AgentStatus{}
	var after *store.StatusPosition
	for {
		p := page(after)
		require.LessOrEqual(t, len(p.Items), limit)
		got = append(got, p.Items...)
		if after = p.Next; after == nil {
			break
		}
	}
	require.Equal(t, want, got)
}

func allAgents(t require.TestingT, s *store.Store, q store.AgentQuery, limit int) []models.Agent {
	list := []models.Agent{}
	var after *store.AgentPosition
	for {
		page, err := s.Agents(context.Background(), q, after, limit)
		require.NoError(t, err)
		assert.LessOrEqual(t, len(page.Items), limit)
		list = append(list, page.Items...)
		if after = page.Next; after == nil {
			return list
		}
	}
}

func allSessions(t require.TestingT, s *store.Store, q store.SessionQuery, limit int) []models.FleetSession {
	list := []models.FleetSession{}
	var after *store.SessionPosition
	for {
		page, err := s.Sessions(context.Background(), q, after, limit)
		require.NoError(t, err)
		assert.LessOrEqual(t, len(page.Items), limit)
		list = append(list, page.Items...)
		if after = page.Next; after == nil {
			return list
		}
	}
}

func drawAgentQuery(t *rapid.T) store.AgentQuery {
	return store.AgentQuery{
		Status:  models.Status(rapid.IntRange(0, 4).Draw(t, "status")),
		Source:  rapid.SampledFrom(append(sources, "nowhere")).Draw(t, "source"),
		Active:  drawBool(t, "active"),
		Waiting: drawBool(t, "waiting"),
		Search:  rapid.SampledFrom([]string{"", "", "a", "F", "理"}).Draw(t, "search"),
		BySeen:  rapid.Bool().Draw(t, "by seen"),
	}
}

func agentMatches(q store.AgentQuery, a models.Agent) bool {
	return (q.Status == 0 || a.LatestStatus.OnWire() == q.Status) &&
		(q.Source == "" || a.Source == q.Source) &&
		(q.Active == nil || (a.ActiveSessionCount > 0) == *q.Active) &&
		(q.Waiting == nil || (a.WaitingSessionCount > 0) == *q.Waiting) &&
		contains(q.Search, a.ID, a.Name)
}

func drawSessionQuery(t *rapid.T) store.SessionQuery {
	return store.SessionQuery{
		AgentID: rapid.SampledFrom([]string{"", "", "a", "代理", "nobody"}).Draw(t, "agent"),
		Source:  rapid.SampledFrom(append(sources, "nowhere")).Draw(t, "source"),
		Status:  models.Status(rapid.IntRange(0, 4).Draw(t, "status")),
		Expired: drawBool(t, "expired"),
		Lost:    drawBool(t, "lost"),
		Idle:    drawBool(t, "idle"),
		Search:  rapid.SampledFrom([]string{"", "", "T", "fIx", "ПРО"}).Draw(t, "search"),
		Oldest:  rapid.Bool().Draw(t, "oldest first"),
		Need:    rapid.SampledFrom([]models.Need{0, 0, 0, models.NeedWaiting, models.NeedLost, models.NeedFailed}).Draw(t, "need"),
	}
}

func sessionMatches(q store.SessionQuery, se models.FleetSession) bool {
	return (q.AgentID == "" || se.AgentID == q.AgentID) &&
		(q.Source == "" || se.AgentSource == q.Source) &&
		(q.Status == 0 || se.CurrentStatus.OnWire() == q.Status) &&
		(q.Idle == nil || se.Idle == *q.Idle) &&
		(q.Expired == nil || se.Expired == *q.Expired) &&
		(q.Lost == nil || se.Lost == *q.Lost) &&
		(q.Need == 0 || needOf(&se) == q.Need) &&
		contains(q.Search, se.AgentID, se.AgentName, se.Topic, se.Title)
}

func contains(part string, texts ...string) bool {
	return slices.ContainsFunc(texts, func(text string) bool {
		return strings.Contains(strings.ToLower(text), strings.ToLower(part))
	})
}

func drawBool(t *rapid.T, label string) *bool {
	return rapid.SampledFrom([]*bool{nil, nil, new(true), new(false)}).Draw(t, label)
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
