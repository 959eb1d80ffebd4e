package notify

import (
	"time"

	"github.com/kubeagents/kubeagents/store"
)

// maxPages is the maximum number of pages of one owner that count as being used at a time.
const maxPages = 50

// Page is a page of the dashboard that somebody looks at and uses.
type Page struct {
	ID string `json:"id"` // unique for the page

	// What it shows: one session, all sessions of an agent if Topic is "", or everything if AgentID is "" as well.
	AgentID string `json:"agent_id,omitzero"`
	Topic   string `json:"session_topic,omitzero"`
}

func (p *Page) shows(key store.SessionKey) bool {
	return (p.AgentID == "" || p.AgentID == key.AgentID) && (p.Topic == "" || p.Topic == key.Topic)
}

// presence is a page that is being used until a time.
type presence struct {
	page  Page
	until time.Time
}

// Use says how the owner of devices uses a page of the dashboard: until a time, or not any more.
type Use struct {
	Owner string    `json:"owner"`
	Page  Page      `json:"page"`
	Until time.Time `json:"until,omitzero"` // zero if the page was left
}

// Shared says how a page is used, as the notifier of another server was told. The same may be said more than once.
func (n *Notifier) Shared(u Use) {
	n.mu.Lock()
	newer := n.present[u.Owner][u.Page.ID].until.After(u.Until)
	n.mu.Unlock()
	switch {
	case u.Until.IsZero():
		n.absent(u.Owner, u.Page.ID)
	case !newer:
		n.use(u.Owner, u.Page, u.Until)
	}
}

// share tells the other notifiers how a page is used.
func (n *Notifier) share(u Use) {
	if n.Cluster != nil && n.Cluster.Share != nil {
		n.Cluster.Share(u)
	}
}

// Present says that the owner of devices uses a page of the dashboard until a time. Until then, the devices are not
// notified of what the page shows.
func (n *Notifier) Present(owner string, page Page, until time.Time) {
	n.use(owner, page, until)
	n.share(Use{owner, page, until.UTC()})
}

func (n *Notifier) use(owner string, page Page, until time.Time) {
	n.mu.Lock()
	before, known := n.present[owner][page.ID]
	n.noteUse(owner, presence{page, until})
	n.mu.Unlock()
	if known && before.page != page {
		n.release(heldPresent)
	}
}

// noteUse notes that a page is used, and forgets those that are not used any more. The caller holds n.mu.
func (n *Notifier) noteUse(owner string, used presence) {
	now := n.Now()
	for o, pages := range n.present {
		for id, p := range pages {
			if !now.Before(p.until) {
				delete(pages, id)
			}
		}
		if len(pages) == 0 {
			delete(n.present, o)
		}
	}
	pages := n.present[owner]
	if pages == nil {
		pages = map[string]presence{}
		n.present[owner] = pages
	}
	if _, known := pages[used.page.ID]; known || len(pages) < maxPages {
		pages[used.page.ID] = used
	}
}

// Absent says that the owner of devices does not use a page any more. What the devices were not notified of is sent now,
// if it still holds.
func (n *Notifier) Absent(owner, pageID string) {
	n.absent(owner, pageID)
	n.share(Use{Owner: owner, Page: Page{ID: pageID}})
}

func (n *Notifier) absent(owner, pageID string) {
	n.mu.Lock()
	_, known := n.present[owner][pageID]
	delete(n.present[owner], pageID)
	n.mu.Unlock()
	if known {
		n.release(heldPresent)
	}
}

// presentUntil returns until when the owner of devices uses a page that shows a session. It is in the past, or zero, if
// there is none. The caller holds n.mu.
func (n *Notifier) presentUntil(owner string, key store.SessionKey) (until time.Time) {
	for _, p := range n.present[owner] {
		if p.page.shows(key) {
			until = latest(until, p.until)
		}
	}
	return until
}
