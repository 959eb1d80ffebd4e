package push

import (
	"errors"
	"fmt"
	"net/http"
	"net/mail"
	"net/url"
	"strings"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/notify"
)

// Settings are the settings of Web Push.
type Settings struct {
	Keys         *Keys  // nil to keep keys in the box
	Subject      string // as in [NewSender]; Web Push is off if it is ""
	AllowPrivate bool   // push services may be in private networks
}

// maxSubject is the maximum length of a subject, in bytes.
const maxSubject = 255

// CheckSubject returns an error if a subject is not a mailto: or https: URL.
func CheckSubject(subject string) error {
	invalid := errors.New("must be a mailto: or https: URL")
	if len(subject) > maxSubject || strings.ContainsFunc(subject, outsideURL) {
		return invalid
	}
	if address, ok := strings.CutPrefix(subject, "mailto:"); ok {
		if parsed, err := mail.ParseAddress(address); err != nil || parsed.Address != address || strings.Contains(address, "?") {
			return invalid
		}
		return nil
	}
	if u, err := url.Parse(subject); err != nil || !strings.HasPrefix(subject, "https://") || u.Hostname() == "" || u.User != nil {
		return invalid
	}
	return nil
}

// Service sends notifications to browsers. Its methods are safe for concurrent use.
type Service struct {
	keys     *Keys
	settings Settings
	client   *http.Client
}

// keysKey is the key of the private key in the box.
const keysKey = "vapid"

// Open returns the service for Web Push. If the settings have no keys, it makes them the first time, and keeps them in
// the box.
//
// Without a subject, or without both keys and a box, Web Push is off: Open returns no service, and a reason that says
// what to do about it. box is nil if state is kept in memory only.
func Open(box notify.Box, settings Settings) (s *Service, reason string, err error) {
	if settings.Subject == "" {
		return nil, "set PUBLIC_URL on the server to an address that begins with https://, or set VAPID_SUBJECT", nil
	}
	keys := settings.Keys
	if keys == nil && box == nil {
		return nil, "set DATA_DIR on the server, so that it can keep its keys, or set VAPID_PRIVATE_KEY", nil
	}
	if keys == nil {
		if keys, err = keptKeys(box); err != nil {
			return nil, "", err
		}
	}
	return &Service{keys, settings, NewClient(settings.AllowPrivate)}, "", nil
}

// keptKeys returns the keys in the box, after it has made some if there are none.
func keptKeys(box notify.Box) (*Keys, error) {
	notes, err := box.Notes()
	if err != nil {
		return nil, fmt.Errorf("read the keys of Web Push: %w", err)
	}
	for _, note := range notes {
		if note.Key != keysKey {
			continue
		}
		keys, err := ParseKeys(string(note.Value))
		if err != nil {
			return nil, fmt.Errorf("the kept key of Web Push is invalid: it %w", err)
		}
		return keys, nil
	}
	keys, err := NewKeys()
	if err != nil {
		return nil, err
	}
	if err := box.WriteNotes([]journal.Note{{Key: keysKey, Value: []byte(keys.text())}}); err != nil {
		return nil, fmt.Errorf("keep the keys of Web Push: %w", err)
	}
	return keys, nil
}

// PublicKey returns the key with which browsers subscribe, as applicationServerKey.
func (s *Service) PublicKey() string { return s.keys.Public() }

// Check is [Subscription.Check] with the service's settings.
func (s *Service) Check(subscription Subscription) error {
	return subscription.Check(s.settings.AllowPrivate)
}

// Sender returns a Sender for a subscription that has passed [Service.Check].
func (s *Service) Sender(subscription Subscription) notify.Sender {
	return NewSender(s.keys, s.settings.Subject, subscription, s.client)
}
