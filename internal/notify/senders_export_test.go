package notify

import (
	"crypto/x509"
	"net/http"
	"net/url"
)

// TextOf is what tests use of the senders.
var TextOf = textOf

// UseClient makes a sender use another HTTP client. A sender of mail uses only what connects it.
func UseClient(sender Sender, client *http.Client) {
	switch s := sender.(type) {
	case *webhook:
		s.client = client
	case *ntfy:
		s.client = client
	case *slack:
		s.client = client
	case *discord:
		s.client = client
	case *telegram:
		s.client = client
	case *alertmanager:
		s.client = client
	case *shoutrrr:
		s.client = client
	case *email:
		s.dial = client.Transport.(*http.Transport).DialContext
	}
}

// UseAuthority makes a sender of mail trust an authority.
func UseAuthority(sender Sender, authority *x509.CertPool) {
	sender.(*email).tls.RootCAs = authority
}

// UseAPI makes a sender use a stand-in for the API of its service.
func UseAPI(sender Sender, root *url.URL) {
	switch s := sender.(type) {
	case *slack:
		s.root = root
	case *telegram:
		s.root = root
	}
}

// BreakLibrary makes the library that a sender uses panic.
func BreakLibrary(sender Sender) {
	sender.(*shoutrrr).service.create = func() librarySender { panic("a fault of the library") }
}

// Planned returns the number of notifications that are not due yet.
func (n *Notifier) Planned() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.schedule.items)
}

// Unsaved returns the number of changes that are to be written to the box.
func (n *Notifier) Unsaved() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.unsaved)
}
