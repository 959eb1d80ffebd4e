// Package accesstest creates tokens and signatures for tests of servers that require them.
package accesstest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
)

// Secret is a value of the setting WEBHOOK_SECRET.
const Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// Holder is a client with a token, or without one if Token is "".
type Holder struct {
	Name, Token string
}

// Header returns the header line that carries the token, in the form "Name: value". It returns none if h has no token.
func (h Holder) Header() []string {
	if h.Token == "" {
		return nil
	}
	return []string{"Authorization: Bearer " + h.Token}
}

// TokensFile writes a tokens file with a new token for each name. It uses the Scopes, Agents and Expires of the
// entries, and sets their names and hashes. It returns the path of the file and the holder of each token, by name.
func TokensFile(t testing.TB, entries map[string]access.Entry) (path string, holders map[string]Holder) {
	t.Helper()
	holders = map[string]Holder{}
	var text strings.Builder
	for name, e := range entries {
		token, entry := access.NewToken(name)
		entry.Scopes, entry.Agents, entry.Expires = e.Scopes, e.Agents, e.Expires
		fmt.Fprintln(&text, entry)
		holders[name] = Holder{name, token}
	}
	path = filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(path, []byte(text.String()), 0o600))
	return path, holders
}

// EveryKind returns an entry for each kind of token: one for each scope, one that has expired, and two that are limited
// to some agents.
func EveryKind() map[string]access.Entry {
	return map[string]access.Entry{
		"reports":    {Scopes: []string{"report"}},
		"reads":      {Scopes: []string{"read"}},
		"admin":      {Scopes: []string{"admin"}},
		"expired":    {Scopes: []string{"report", "read", "admin"}, Expires: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)},
		"team":       {Scopes: []string{"report", "read", "acknowledge", "admin"}, Agents: []string{"team/*"}},
		"other team": {Scopes: []string{"report", "read", "acknowledge", "admin"}, Agents: []string{"other/*"}},

		"acknowledges": {Scopes: []string{"acknowledge"}},
	}
}

// Sign returns the header lines of a webhook with the given ID, time and body. They are signed with secret as Standard
// Webhooks specifies.
func Sign(t testing.TB, secret, id string, at time.Time, body string) []string {
	t.Helper()
	key, err := webhooks.NewWebhook(secret)
	require.NoError(t, err)
	signature, err := key.Sign(id, at, []byte(body))
	require.NoError(t, err)
	return []string{"webhook-id: " + id, fmt.Sprintf("webhook-timestamp: %d", at.Unix()), "webhook-signature: " + signature}
}
