package client_test

import (
	"io"
	"strings"
	"testing"

	"github.com/kubeagents/kubeagents/internal/client"
	"github.com/stretchr/testify/require"
)

func TestEventsAreReadAsTheStandardSays(t *testing.T) {
	r := client.NewEventReader(strings.NewReader(": connected\nretry: 2000\n\nid:7\r\nevent: change\r\ndata: a\r\ndata:  b\r\nunknown: x\r\n\r\ndata: cut"))
	for _, want := range []client.Event{{Comment: "connected", Retry: "2000"}, {ID: "7", Name: "change", Data: "a\n b"}} {
		e, err := r.Next()
		require.NoError(t, err)
		require.Equal(t, want, e)
	}
	_, err := r.Next()
	require.ErrorIs(t, err, io.EOF, "a block that isn't complete is not an event")
	require.Equal(t, "7", r.LastID)
}
