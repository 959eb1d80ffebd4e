package store

import "github.com/kubeagents/kubeagents/models"

// PageBytes is the default limit of the size of a page's items in bytes, as counted by [StatusBytes] and similar
// functions. A first item above the limit forms a page by itself, so that paging always advances.
const PageBytes = 1 << 20

// Page is a part of a list. Next is the position of its last item if more items follow, else nil.
type Page[V, P any] struct {
	Items []V
	Next  *P
	Bytes int // size of the items
}

// add adds an item if it fits into a page of at most limit items and maxBytes bytes; 0 means PageBytes. bytes returns
// the size of an item.
func (p *Page[V, P]) add(item V, limit, maxBytes int, bytes func(*V) int) (ok bool) {
	if len(p.Items) == limit {
		return false
	}
	if maxBytes == 0 {
		maxBytes = PageBytes
	}
	last := len(p.Items)
	items := append(p.Items, item)
	n := bytes(&items[last]) // measured in place, so that the item needs no separate allocation
	if last > 0 && p.Bytes+n > maxBytes {
		clear(items[last:])
		return false
	}
	p.Items, p.Bytes = items, p.Bytes+n
	return true
}

// HistoryPage is a part of a status history, as far as memory holds it.
type HistoryPage struct {
	Page[models.AgentStatus, StatusPosition]
	Positions []StatusPosition // of the items
	Complete  int              // number of items at the beginning that have no gap between them

	// Journaled is not 0 if the journal holds statuses that are missing between these or after them. None of them has a
	// greater sequence, except those that arrived since.
	Journaled uint64
}

// Add adds an item if it fits into a page of at most limit items and maxBytes bytes; 0 means PageBytes.
func (p *HistoryPage) Add(item models.AgentStatus, at StatusPosition, limit, maxBytes int) (ok bool) {
	if !p.add(item, limit, maxBytes, StatusBytes) {
		return false
	}
	p.Positions = append(p.Positions, at)
	return true
}

// MarkMore marks that more items follow after those on the page.
func (p *HistoryPage) MarkMore() { p.Next = &p.Positions[len(p.Positions)-1] }

// Truncate keeps the first n items, and clears Next.
func (p *HistoryPage) Truncate(n int) {
	p.Items, p.Positions, p.Next = p.Items[:n:n], p.Positions[:n:n], nil
	p.Bytes = 0
	for i := range p.Items {
		p.Bytes += StatusBytes(&p.Items[i])
	}
}

// TruncateTo ends the page before the item that brings it above maxBytes bytes, but never before the first one.
func (p *HistoryPage) TruncateTo(maxBytes int) {
	bytes := 0
	for i := range p.Items {
		if bytes += StatusBytes(&p.Items[i]); bytes > maxBytes && i > 0 {
			p.Truncate(i)
			p.MarkMore()
			return
		}
	}
}

// Approximate sizes without texts, in memory and as JSON.
const (
	agentBytes    = 512
	sessionBytes  = 512
	statusBytes   = 256
	questionBytes = 256
)

// AgentBytes returns the approximate size of an agent in a response, in bytes.
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
