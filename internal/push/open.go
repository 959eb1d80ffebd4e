package push

import (
	"errors"
	"fmt"
	"net/http"
	"net/mail"
	"net/url"
	"strings"
	"sync/atomic"

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
	keys     atomic.Pointer[Keys] // nil while they are not known, as in a cluster that has made none yet
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
	s, reason = New(settings)
	switch {
	case s == nil || settings.Keys != nil:
		return s, reason, nil
	case box == nil:
		return nil, "set DATA_DIR on the server, so that it can keep its keys, or set VAPID_PRIVATE_KEY", nil
	}
	if err := s.MakeKeys(box); err != nil {
		return nil, "", err
	}
	return s, "", nil
}

// New is like [Open] for a server of a cluster, whose box can't be read yet. Without keys in the settings, the service has
// none until [Service.Load] or [Service.Applied] finds some, or [Service.MakeKeys] makes them.
func New(settings Settings) (s *Service, reason string) {
	if settings.Subject == "" {
		return nil, "set PUBLIC_URL on the server to an address that begins with https://, or set VAPID_SUBJECT"
	}
	s = &Service{settings: settings, client: NewClient(settings.AllowPrivate)}
	s.keys.Store(settings.Keys)
	return s, ""
}

// Load reads the keys, if the box has some and the settings have none.
func (s *Service) Load(box notify.Box) error {
	if s.settings.Keys != nil {
		return nil
	}
	notes, err := box.Notes()
	if err != nil {
		return fmt.Errorf("read the keys of Web Push: %w", err)
	}
	for _, note := range notes {
		if note.Key != keysKey {
			continue
		}
		keys, err := ParseKeys(string(note.Value))
		if err != nil {
			return fmt.Errorf("the kept key of Web Push is invalid: it %w", err)
		}
		s.keys.CompareAndSwap(nil, keys) // Applied may have found newer ones
	}
	return nil
}

// MakeKeys is like Load, and makes keys if there are none. In a cluster, the server that acts calls it, with the box of
// its term: so keys are made once.
func (s *Service) MakeKeys(box notify.Box) error {
	if err := s.Load(box); err != nil || s.keys.Load() != nil {
		return err
	}
	keys, err := NewKeys()
	if err != nil {
		return err
	}
	if err := box.WriteNotes([]journal.Note{{Key: keysKey, Value: []byte(keys.text())}}); err != nil {
		return fmt.Errorf("keep the keys of Web Push: %w", err)
	}
	s.keys.CompareAndSwap(nil, keys) // in a cluster, they have been applied
	return nil
}

// Applied takes over keys that were written to the box of a cluster, by any server. It must be called for all that is
// written, in order, before WriteNotes returns. Keys of the settings stay.
func (s *Service) Applied(notes []journal.Note) {
	if s.settings.Keys != nil {
		return
	}
	for _, note := range notes {
		if note.Key != keysKey || note.Value == nil {
			continue
		}
		if keys, err := ParseKeys(string(note.Value)); err == nil {
			s.keys.Store(keys)
		}
	}
}

// PublicKey returns the key with which browsers subscribe, as applicationServerKey; "" while it is not known.
func (s *Service) PublicKey() string {
	if keys := s.keys.Load(); keys != nil {
		return keys.Public()
	}
	return ""
}

// Check is [Subscription.Check] with the service's settings.
func (s *Service) Check(subscription Subscription) error {
	return subscription.Check(s.settings.AllowPrivate)
}

// Sender returns a Sender for a subscription that has passed [Service.Check].
func (s *Service) Sender(subscription Subscription) notify.Sender {
	return NewSender(s.keys.Load, s.settings.Subject, subscription, s.client)
}
