package push

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"sort"
	"strings"

	"github.com/kubeagents/kubeagents/internal/notify"
)

// payload is what the dashboard's service worker gets (internal/dashboard/web/sw.js), as JSON. Members without a value
// are left out:
//
//	{
//	  "id": "ntf_2lg6ox",                      // the same when the payload is sent again
//	  "tag": "ntf_2lg6ox",                     // a notification replaces an earlier one with the same tag
//	  "kind": "waits",                         // or "lost", "failed", "finished", "summary"
//	  "title": "payments@laptop asks for permission",
//	  "body": "Bash: make migrate",
//	  "url": "./?agent=payments&session=t1",   // to open, relative to the dashboard's address
//	  "timestamp": 1767323040000,              // when the change happened, in milliseconds since 1970
//	  "renotify": true,                        // sounds and vibrates again when it replaces a notification
//	  "withdrawn": true                        // it takes back the notification with this tag
//	}
type payload struct {
	ID        string `json:"id"`
	Tag       string `json:"tag"`
	Kind      string `json:"kind"`
	Title     string `json:"title"`
	Body      string `json:"body,omitzero"`
	URL       string `json:"url"`
	Timestamp int64  `json:"timestamp"`
	Renotify  bool   `json:"renotify,omitzero"`
	Withdrawn bool   `json:"withdrawn,omitzero"`
}

const (
	kindSummary = "summary"
	maxTag      = 64   // length of a tag, in bytes
	maxURL      = 1024 // length of a URL in a payload, in bytes
)

// payloadOf returns what a message is sent as.
func payloadOf(m *notify.Message) *payload {
	p := &payload{ID: m.ID, Tag: m.Thread, Kind: kindSummary, URL: urlOf(m), Timestamp: m.SentAt.UnixMilli(), Renotify: true}
	if len(p.Tag) > maxTag {
		p.Tag = topicOf(m)
	}
	p.Title, p.Body = m.Words()
	if m.Summary == nil {
		p.Kind, p.Timestamp = m.Change.String(), m.Since.UnixMilli()
	}
	return p
}

// withdrawalOf returns what the withdrawal of a message is sent as. A browser has to show something for everything that
// it gets, so this replaces the notification for a moment.
func withdrawalOf(m *notify.Message) *payload {
	p := payloadOf(m)
	p.ID, p.Title, p.Body, p.Renotify, p.Withdrawn = m.ID+"-withdrawn", m.Resolution(), "", false, true
	return p
}

// urlOf returns the address of what a message is about, relative to the dashboard: the browser knows at which address
// it reaches the dashboard. The query is left out as far as it is too long.
func urlOf(m *notify.Message) string {
	if m.Session == nil {
		return "./"
	}
	for _, query := range []url.Values{{"agent": {m.Session.AgentID}, "session": {m.Session.Topic}}, {"agent": {m.Session.AgentID}}} {
		if address := "./?" + query.Encode(); len(address) <= maxURL {
			return address
		}
	}
	return "./"
}

// encode returns p as JSON of at most limit bytes. To fit, it cuts the body.
func (p *payload) encode(limit int) ([]byte, error) {
	b, err := p.json()
	if err != nil || len(b) <= limit || p.Body == "" {
		return b, err
	}
	runes, cut := []rune(p.Body), *p
	fits := func(n int) bool {
		cut.Body = cutAt(runes, n)
		b, err = cut.json()
		return err == nil && len(b) <= limit
	}
	fits(max(0, sort.Search(len(runes), func(n int) bool { return !fits(n) })-1))
	return b, err
}

// cutAt returns the first n runes with an ellipsis, and without a joiner at their end.
func cutAt(runes []rune, n int) string {
	return strings.TrimRight(string(runes[:n]), " \n\u200c\u200d") + "…"
}

func (p *payload) json() ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // the text is not put into a page
	err := encoder.Encode(p)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// topicOf returns the topic of a message: 32 characters of base64url, the same for all messages of a thread, which does
// not tell the push service what they are about.
func topicOf(m *notify.Message) string {
	sum := sha256.Sum256([]byte(m.Thread))
	return base64.RawURLEncoding.EncodeToString(sum[:24])
}
