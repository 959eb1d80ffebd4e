package store_test

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// model is a simple version of the store that ignores speed: it keeps records, and computes every answer from them.
type model struct {
	opts     store.Options
	now      time.Time
	received time.Time
	records  []models.Record         // of the remembered sessions, in order of receipt
	known    map[string]models.Agent // attributes of agents that have a session
	sequence uint64
}

func newModel(opts store.Options) *model {
	return &model{opts: opts, now: epoch, known: map[string]models.Agent{}}
}

// accept does what Store.Accept does, for one report.
func (m *model) accept(r models.StatusReport, now time.Time) store.Outcome {
	m.expire(now)
	m.received = m.received.Add(1)
	if now.After(m.received) {
		m.received = now
	}
	history := m.history(r.AgentID, r.SessionTopic)
	if r.Event == nil && r.Renew && len(history) > 0 && history[0].Status == r.Status && history[0].Message == r.Message {
		return m.renew(r, history[0])
	}
	if r.ReportID != "" && slices.ContainsFunc(history, func(held models.Record) bool { return held.ReportID == r.ReportID }) {
		return store.Duplicate
	}
	outcome, base := store.Stored, models.RenewedRecord{}
	if r.Timestamp.After(m.received) {
		r.Timestamp = time.Time{}
	}
	event := r.Event != nil
	if event {
		if r, base, outcome = m.settle(r, history); outcome == store.Ignored {
			return outcome
		}
	}
	if len(history) == 0 && len(m.sessionIDs()) >= m.opts.MaxSessions {
		if !m.evict() {
			return store.OutOfSessions
		}
	}
	m.sequence++
	record := models.Record{StatusReport: r, Sequence: m.sequence, Received: m.received, Renews: base, ByEvent: event}
	if outcome == store.Renewed {
		record.ByEvent = history[0].ByEvent
	}
	m.records = append(m.records, record)
	m.known[r.AgentID] = updateAttributes(m.known[r.AgentID], record)
	return outcome
}

// renew records a status report that renews a session, whose current status is that of a record.
func (m *model) renew(r models.StatusReport, current models.Record) store.Outcome {
	a := m.known[r.AgentID]
	se := m.session(id{r.AgentID, r.SessionTopic}, a)
	for _, name := range []struct {
		reported *string
		known    string
	}{{&r.AgentName, a.Name}, {&r.AgentHost, a.Host}, {&r.AgentSource, se.AgentSource}, {&r.SessionTitle, se.Title}} {
		if name.known != "" {
			*name.reported = ""
		}
	}
	r.Timestamp, r.Content, r.ReportID, r.Renew = when(current), current.Content, current.ReportID, false
	m.sequence++
	m.records = append(m.records, models.Record{StatusReport: r, Sequence: m.sequence, Received: m.received, ByEvent: current.ByEvent,
		Renews: models.RenewedRecord{Sequence: current.Sequence, Received: current.Received}})
	m.known[r.AgentID] = updateAttributes(a, m.records[len(m.records)-1])
	return store.Renewed
}

// settle returns what is recorded of an event that involves no question.
func (m *model) settle(r models.StatusReport, history []models.Record) (models.StatusReport, models.RenewedRecord, store.Outcome) {
	e := r.Event
	r.Event = nil
	if len(history) == 0 {
		if e.AppliesIn&models.Unknown == 0 || r.Status == 0 {
			return r, models.RenewedRecord{}, store.Ignored
		}
		return r, models.RenewedRecord{}, store.Stored
	}
	current := history[0]
	if e.FirstTitle && m.session(id{r.AgentID, r.SessionTopic}, models.Agent{}).Title != "" {
		r.SessionTitle = ""
	}
	if e.FirstName && m.known[r.AgentID].Name != "" {
		r.AgentName = ""
	}
	counts := r.Status != 0 && e.AppliesIn&models.StateOf(current.Status) != 0
	if models.StateOf(current.Status)&models.AtWork != 0 && e.InterruptMessage != "" {
		counts, r.Status, r.Message, r.Content = true, models.Failed, e.InterruptMessage, ""
	}
	again := current.Status == r.Status && current.Message == r.Message && m.received.Sub(current.Received) < models.RepeatWindow
	switch {
	case counts && !again:
		if !r.Timestamp.After(when(current)) {
			r.Timestamp = m.received
		}
		return r, models.RenewedRecord{}, store.Stored
	case !counts && e.IgnoreOtherwise:
		return r, models.RenewedRecord{}, store.Ignored
	}
	r.Status, r.Timestamp, r.Message, r.Content, r.ReportID = current.Status, when(current), current.Message, current.Content, current.ReportID
	return r, models.RenewedRecord{Sequence: current.Sequence, Received: current.Received}, store.Renewed
}

// expire forgets the sessions whose retention has ended.
func (m *model) expire(now time.Time) {
	if now.After(m.now) {
		m.now = now
	}
	for _, se := range m.sessions() {
		if se.Expired && !se.ExpiresAt.Add(m.opts.SessionRetention).After(m.now) {
			m.forget(se)
		}
	}
}

func (m *model) evict() bool {
	expired := slices.DeleteFunc(m.sessions(), func(se models.FleetSession) bool { return !se.Expired })
	if len(expired) == 0 {
		return false
	}
	m.forget(slices.MinFunc(expired, func(a, b models.FleetSession) int {
		return cmp.Or(a.ExpiresAt.Compare(b.ExpiresAt), strings.Compare(a.AgentID, b.AgentID), strings.Compare(a.Topic, b.Topic))
	}))
	return true
}

func (m *model) forget(se models.FleetSession) {
	m.records = slices.DeleteFunc(m.records, func(r models.Record) bool {
		return r.AgentID == se.AgentID && r.SessionTopic == se.Topic
	})
	if !slices.ContainsFunc(m.records, func(r models.Record) bool { return r.AgentID == se.AgentID }) {
		delete(m.known, se.AgentID)
	}
}

// remove forgets the sessions that match, and returns their number.
func (m *model) remove(matches func(models.FleetSession) bool) (removed int) {
	for _, se := range m.sessions() {
		if matches(se) {
			m.forget(se)
			removed++
		}
	}
	return removed
}

type id struct{ agent, topic string }

func (m *model) sessionIDs() []id {
	var ids []id
	for _, r := range m.records {
		if i := (id{r.AgentID, r.SessionTopic}); !slices.Contains(ids, i) {
			ids = append(ids, i)
		}
	}
	return ids
}

// history returns the kept records of a session, newest first.
func (m *model) history(agent, topic string) []models.Record {
	var held []models.Record
	for _, r := range m.records {
		if r.AgentID == agent && r.SessionTopic == topic && !r.Renewal() {
			held = append(held, r)
		}
	}
	slices.SortFunc(held, newestFirst)
	return held[:min(len(held), m.opts.HistoryLimit)]
}

func newestFirst(a, b models.Record) int {
	return cmp.Or(when(b).Compare(when(a)), cmp.Compare(b.Sequence, a.Sequence))
}

func when(r models.Record) time.Time {
	if r.Timestamp.IsZero() {
		return r.Received.UTC()
	}
	return r.Timestamp.UTC()
}

// sessions returns every session, newest update first.
func (m *model) sessions() []models.FleetSession {
	var list []models.FleetSession
	for _, i := range m.sessionIDs() {
		list = append(list, m.session(i, m.known[i.agent]))
	}
	slices.SortFunc(list, func(a, b models.FleetSession) int { return b.LastUpdated.Compare(a.LastUpdated) })
	return list
}

// updateAttributes returns a after r, which is the newest record so far.
func updateAttributes(a models.Agent, r models.Record) models.Agent {
	a.ID = r.AgentID
	a.Name = cmp.Or(r.AgentName, a.Name)
	a.Source = cmp.Or(r.AgentSource, a.Source)
	a.Host = cmp.Or(r.AgentHost, a.Host)
	if a.Registered.IsZero() {
		a.Registered = r.Received
	}
	a.LastSeen = r.Received
	return a
}

func (m *model) session(i id, a models.Agent) models.FleetSession {
	history := m.history(i.agent, i.topic)
	current := history[0]
	se := models.FleetSession{
		Session: models.Session{
			AgentID:        i.agent,
			Topic:          i.topic,
			TTLMinutes:     int(m.opts.DefaultTTL.Minutes()),
			CurrentStatus:  current.Status,
			CurrentMessage: current.Message,
		},
		AgentName: a.Name,
		AgentHost: a.Host,
	}
	se.Idle = current.Status == models.Idle
	for _, r := range history {
		if r.Status != current.Status {
			break
		}
		se.StatusSince = when(r)
	}
	for _, r := range m.records {
		if r.AgentID != i.agent || r.SessionTopic != i.topic {
			continue
		}
		if se.Created.IsZero() {
			se.Created = r.Received
		}
		se.LastUpdated = r.Received
		se.Title = cmp.Or(r.SessionTitle, se.Title)
		se.TTLMinutes = cmp.Or(r.TTLMinutes, se.TTLMinutes)
		se.AgentSource = cmp.Or(r.AgentSource, se.AgentSource)
	}
	se.AgentSource = cmp.Or(se.AgentSource, a.Source)
	se.ExpiresAt = se.LastUpdated.Add(time.Duration(se.TTLMinutes) * time.Minute)
	if se.Expired = !se.ExpiresAt.After(m.now); se.Expired {
		se.ExpiredAt = se.ExpiresAt
		se.Lost = se.CurrentStatus == models.Running || se.CurrentStatus == models.Pending
	}
	return se
}

// agents returns every agent by ID.
func (m *model) agents() []models.Agent {
	sessions := m.sessions()
	var list []models.Agent
	for _, a := range m.known {
		for _, se := range sessions {
			if se.AgentID == a.ID {
				a.SessionCount++
				if !se.Expired {
					a.ActiveSessionCount++
					if se.CurrentStatus == models.Pending {
						a.WaitingSessionCount++
					}
				}
				if se.Lost {
					a.LostSessionCount++
				}
			}
		}
		latest := m.agentHistory(a.ID)[0]
		a.LatestStatus, a.LatestMessage, a.LatestIdle = latest.Status, latest.Message, latest.Status == models.Idle
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b models.Agent) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// agentHistory returns the kept records of all sessions of an agent, newest first.
func (m *model) agentHistory(agent string) []models.Record {
	var held []models.Record
	for _, i := range m.sessionIDs() {
		if i.agent == agent {
			held = append(held, m.history(i.agent, i.topic)...)
		}
	}
	slices.SortFunc(held, newestFirst)
	return held
}

func summaryOf(sessions []models.FleetSession) models.Summary {
	var sum models.Summary
	agents := map[string]bool{}
	for _, se := range sessions {
		agents[se.AgentID] = true
		switch needOf(&se) {
		case models.NeedWaiting:
			sum.Needs.Waiting++
		case models.NeedLost:
			sum.Needs.Lost++
		case models.NeedFailed:
			sum.Needs.Failed++
		}
		sum.Sessions.Total++
		if se.Expired {
			sum.Sessions.Expired++
			if se.Lost {
				sum.Sessions.Lost++
			}
			continue
		}
		sum.Sessions.Active++
		switch se.CurrentStatus {
		case models.Running:
			sum.Sessions.ByStatus.Running++
		case models.Pending:
			sum.Sessions.ByStatus.Pending++
		case models.Success:
			sum.Sessions.ByStatus.Success++
		case models.Failed:
			sum.Sessions.ByStatus.Failed++
		case models.Idle:
			sum.Sessions.Idle++
		}
	}
	sum.Agents = len(agents)
	return sum
}

func view(r models.Record) models.AgentStatus {
	return models.AgentStatus{
		AgentID: r.AgentID, SessionTopic: r.SessionTopic, Status: r.Status, Timestamp: when(r),
		ReceivedAt: r.Received.UTC(), Message: r.Message, Content: r.Content, Idle: r.Status == models.Idle,
	}
}

func views(records []models.Record) []models.AgentStatus {
	list := []models.AgentStatus{}
	for _, r := range records {
		list = append(list, view(r))
	}
	return list
}
