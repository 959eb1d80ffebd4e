package push_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/push"
	"github.com/kubeagents/kubeagents/internal/push/pushtest"
)

func openJournal(t *testing.T, fs vfs.FS) *journal.Journal {
	t.Helper()
	j, err := journal.Open(journal.Options{Dir: "data", FS: fs, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return j
}

// TestKeysAreMadeOnce checks that the keys survive restarts.
func TestKeysAreMadeOnce(t *testing.T) {
	fs := vfs.NewMem()
	var public string
	for range 3 {
		j := openJournal(t, fs)
		s, reason, err := push.Open(j, push.Settings{Subject: pushtest.Subject})
		require.NoError(t, err)
		require.Empty(t, reason)
		if public == "" {
			public = s.PublicKey()
		}
		require.Equal(t, public, s.PublicKey())
		require.NoError(t, j.WriteNotes([]journal.Note{{Key: "a", Value: []byte("x")}, {Key: "z", Value: []byte("x")}}))
		require.NoError(t, j.Close())
	}
}

// TestKeysOfTheSettings checks that they are used instead of kept ones, and not kept.
func TestKeysOfTheSettings(t *testing.T) {
	j := openJournal(t, vfs.NewMem())
	defer j.Close() //nolint:errcheck // a test
	keys, err := push.NewKeys()
	require.NoError(t, err)
	s, _, err := push.Open(j, push.Settings{Keys: keys, Subject: pushtest.Subject})
	require.NoError(t, err)
	require.Equal(t, keys.Public(), s.PublicKey())
	notes, err := j.Notes()
	require.NoError(t, err)
	require.Empty(t, notes)
	s, reason, err := push.Open(nil, push.Settings{Keys: keys, Subject: pushtest.Subject})
	require.NoError(t, err)
	require.Empty(t, reason)
	require.Equal(t, keys.Public(), s.PublicKey())
}

func TestWithoutKeysOrSubjectWebPushIsOff(t *testing.T) {
	j := openJournal(t, vfs.NewMem())
	defer j.Close() //nolint:errcheck // a test
	s, reason, err := push.Open(nil, push.Settings{Subject: pushtest.Subject})
	require.NoError(t, err)
	require.Nil(t, s)
	require.Equal(t, "set DATA_DIR on the server, so that it can keep its keys, or set VAPID_PRIVATE_KEY", reason)
	s, reason, err = push.Open(j, push.Settings{})
	require.NoError(t, err)
	require.Nil(t, s)
	require.Equal(t, "set PUBLIC_URL on the server to an address that begins with https://, or set VAPID_SUBJECT", reason)
	notes, err := j.Notes()
	require.NoError(t, err)
	require.Empty(t, notes)
}

// badBox fails, or contains what is no key.
type badBox struct {
	notes         []journal.Note
	reads, writes error
}

func (b badBox) Notes() ([]journal.Note, error)  { return b.notes, b.reads }
func (b badBox) WriteNotes([]journal.Note) error { return b.writes }

func TestKeysThatCantBeKept(t *testing.T) {
	full := errors.New("disk full")
	for want, box := range map[string]badBox{
		"read the keys of Web Push: disk full":                                                       {reads: full},
		"keep the keys of Web Push: disk full":                                                       {writes: full},
		"the kept key of Web Push is invalid: it must be the base64url of a private key of 32 bytes": {notes: []journal.Note{{Key: "vapid", Value: []byte("s3cret")}}},
	} {
		_, _, err := push.Open(box, push.Settings{Subject: pushtest.Subject})
		require.EqualError(t, err, want)
	}
}

// TestService checks that the service uses its settings.
func TestService(t *testing.T) {
	s := pushtest.NewService(t)
	subscription := s.Subscription()
	strict, _, err := push.Open(nil, push.Settings{Keys: s.Keys, Subject: pushtest.Subject})
	require.NoError(t, err)
	require.EqualError(t, strict.Check(subscription), "endpoint must not be at an address that is not public")
	_, err = strict.Sender(subscription).Send(t.Context(), waiting())
	require.ErrorContains(t, err, "its address is not public")

	lenient, _, err := push.Open(nil, push.Settings{Keys: s.Keys, Subject: pushtest.Subject, AllowPrivate: true})
	require.NoError(t, err)
	require.NoError(t, lenient.Check(subscription))
	_, err = lenient.Sender(subscription).Send(t.Context(), waiting())
	require.ErrorContains(t, err, "its certificate is signed by an unknown authority", "it connects, and checks the certificate")
}

func TestCheckSubject(t *testing.T) {
	for _, subject := range []string{"mailto:ops@example.com", "mailto:a+b@x.example", "https://hub.example.com", "https://hub.example.com:8443/team?x"} {
		assert.NoError(t, push.CheckSubject(subject), subject)
	}
	for _, subject := range []string{"", "mailto:", "mailto:a@b@c", "mailto:a@b.example?subject=x", "https://a.example/" + strings.Repeat("x", 255), "https://a.example/\n"} {
		assert.EqualError(t, push.CheckSubject(subject), "must be a mailto: or https: URL", subject)
	}
}
