package push_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/push"
	"github.com/kubeagents/kubeagents/internal/push/pushtest"
)

// sharedBox is the box of a cluster.
type sharedBox struct {
	notes    []journal.Note
	services []*push.Service
}

func (b *sharedBox) Notes() ([]journal.Note, error) { return b.notes, nil }

func (b *sharedBox) WriteNotes(notes []journal.Note) error {
	b.notes = append(b.notes, notes...)
	for _, s := range b.services {
		s.Applied(notes)
	}
	return nil
}

// TestKeysOfACluster are made once, by the server that acts, and known at all of them at once.
func TestKeysOfACluster(t *testing.T) {
	b := &sharedBox{}
	for range 3 {
		s, reason := push.New(push.Settings{Subject: pushtest.Subject})
		require.Empty(t, reason)
		require.NoError(t, s.Load(b))
		require.Empty(t, s.PublicKey())
		b.services = append(b.services, s)
	}
	sender := b.services[1].Sender(push.Subscription{Endpoint: "https://push.example.com/x"})
	_, err := sender.Send(t.Context(), waiting())
	require.ErrorContains(t, err, "not known yet")
	require.NoError(t, b.services[0].MakeKeys(b))
	require.NoError(t, b.services[1].MakeKeys(b), "of the next term")
	require.Len(t, b.notes, 1)
	_, err = sender.Send(t.Context(), waiting())
	require.ErrorContains(t, err, "can't be encrypted for this subscription", "it has the keys now")
	late, _ := push.New(push.Settings{Subject: pushtest.Subject})
	require.NoError(t, late.Load(b))
	for _, s := range append(b.services, late) {
		require.NotEmpty(t, s.PublicKey())
		require.Equal(t, b.services[0].PublicKey(), s.PublicKey())
	}

	mine, err := push.NewKeys()
	require.NoError(t, err)
	set, _ := push.New(push.Settings{Subject: pushtest.Subject, Keys: mine})
	set.Applied(b.notes)
	require.NoError(t, set.Load(b))
	require.Equal(t, mine.Public(), set.PublicKey(), "those of the settings stay")
	_, reason := push.New(push.Settings{})
	require.Contains(t, reason, "VAPID_SUBJECT")
}
