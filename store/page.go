package store

import "github.com/kubeagents/kubeagents/models"

// PageBytes is how many bytes the items of a page take at most, as [StatusBytes] and its like count them. A first item that takes
// more is a page of its own, so that every page gets on.
const PageBytes = 1 << 20

// Page is a part of a list. Next is the position of its last item where more items follow, else nil.
type Page[V, P any] struct {
	Items []V
	Next  *P
	Bytes int // that the items take
}

// add adds an item, if a page of at most limit items and most bytes, PageBytes for 0, has room for it. bytes says how many an
// item takes.
func (p *Page[V, P]) add(item V, limit, most int, bytes func(*V) int) (ok bool) {
	if len(p.Items) == limit {
		return false
	}
	if most == 0 {
		most = PageBytes
	}
	last := len(p.Items)
	items := append(p.Items, item)
	n := bytes(&items[last]) // there, so that the item needs no memory of its own
	if last > 0 && p.Bytes+n > most {
		clear(items[last:])
		return false
	}
	p.Items, p.Bytes = items, p.Bytes+n
	return true
}

// HistoryPage is a part of a status history, as far as memory holds it.
type HistoryPage struct {
	Page[models.AgentStatus, StatusPosition]
	Positions []StatusPosition // of its items
	Complete  int              // so many of its first items follow one another with none missing

	// Journaled is not 0 where statuses are missing after these, or at the end, that the journal has: none of them has a
	// greater sequence, but for those that came since.
	Journaled uint64
}

// Add adds an item, if the page, of at most limit items and most bytes, PageBytes for 0, has room for it.
func (p *HistoryPage) Add(item models.AgentStatus, at StatusPosition, limit, most int) (ok bool) {
	if !p.add(item, limit, most, StatusBytes) {
		return false
	}
	p.Positions = append(p.Positions, at)
	return true
}

// End says that more items follow those that the page has.
func (p *HistoryPage) End() { p.Next = &p.Positions[len(p.Positions)-1] }

// Truncate keeps the first n items, after which nothing more is known to follow.
func (p *HistoryPage) Truncate(n int) {
	p.Items, p.Positions, p.Next = p.Items[:n:n], p.Positions[:n:n], nil
	p.Bytes = 0
	for i := range p.Items {
		p.Bytes += StatusBytes(&p.Items[i])
	}
}

// Cut has the page end before an item that makes it take more than most bytes, but for the first.
func (p *HistoryPage) Cut(most int) {
	bytes := 0
	for i := range p.Items {
		if bytes += StatusBytes(&p.Items[i]); bytes > most && i > 0 {
			p.Truncate(i)
			p.End()
			return
		}
	}
}

// What items take beside their texts, about: in memory, and as JSON.
const (
	agentBytes    = 512
	sessionBytes  = 512
	statusBytes   = 256
	questionBytes = 256
)

// AgentBytes returns how many bytes an agent takes in an answer, about.
func AgentBytes(a *models.Agent) int {
	return agentBytes + len(a.ID) + len(a.Name) + len(a.Source) + len(a.Host) + len(a.LatestMessage)
}

// SessionBytes is [AgentBytes] for a session.
func SessionBytes(se *models.Session) int {
	n := sessionBytes + len(se.AgentID) + len(se.Topic) + len(se.Title) + len(se.CurrentMessage)
	if se.Question != nil {
		n += QuestionBytes(se.Question)
	}
	return n
}

// FleetSessionBytes is [AgentBytes] for a session in a list over the whole fleet.
func FleetSessionBytes(se *models.FleetSession) int {
	return SessionBytes(&se.Session) + len(se.AgentName) + len(se.AgentSource) + len(se.AgentHost)
}

// StatusBytes is [AgentBytes] for a status in a history.
func StatusBytes(st *models.AgentStatus) int {
	n := statusBytes + len(st.AgentID) + len(st.SessionTopic) + len(st.Message) + len(st.Content)
	for i := range st.ClosedQuestions {
		c := &st.ClosedQuestions[i]
		n += questionBytes + len(c.Text) + len(c.By) + len(c.Answer)
	}
	return n
}

// QuestionBytes is [AgentBytes] for a question.
func QuestionBytes(q *models.Question) int {
	return questionBytes + int(questionSize(q))
}
