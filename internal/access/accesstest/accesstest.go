// Package accesstest makes tokens and signatures for tests of servers that ask for them.
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

// Holder is somebody who has a token, or none if Token is "".
type Holder struct {
	Name, Token string
}

// Header returns the header line that brings the token, as "Name: value".
func (h Holder) Header() []string {
	if h.Token == "" {
		return nil
	}
	return []string{"Authorization: Bearer " + h.Token}
}

// TokensFile writes a tokens file with one new token for each name. Scopes, Agents and Expires of an entry apply; its
// name and hash are set. It returns the path of the file, and who holds each token, by name.
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

// EveryKind returns entries for tokens that differ in everything that the server tells tokens apart by.
func EveryKind() map[string]access.Entry {
	return map[string]access.Entry{
		"reports":   {Scopes: []string{"report"}},
		"reads":     {Scopes: []string{"read"}},
		"admin":     {Scopes: []string{"admin"}},
		"expired":   {Scopes: []string{"report", "read", "admin"}, Expires: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)},
		"of team":   {Scopes: []string{"report", "read", "admin"}, Agents: []string{"team/*"}},
		"of others": {Scopes: []string{"report", "read", "admin"}, Agents: []string{"other/*"}},
	}
}

// Sign returns the header lines of a webhook with that ID, time and body, signed with secret as Standard Webhooks says.
func Sign(t testing.TB, secret, id string, at time.Time, body string) []string {
	t.Helper()
	key, err := webhooks.NewWebhook(secret)
	require.NoError(t, err)
	signature, err := key.Sign(id, at, []byte(body))
	require.NoError(t, err)
	return []string{"webhook-id: " + id, fmt.Sprintf("webhook-timestamp: %d", at.Unix()), "webhook-signature: " + signature}
}
