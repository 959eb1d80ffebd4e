package access_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/store"
)

func newKeyring() *access.Keyring {
	return access.NewKeyring(store.New(store.Options{EventWindow: 1}), access.Limits{})
}

// entryFor returns a token and its line of a tokens file.
func entryFor(name string, change func(*access.Entry)) (token, line string) {
	token, e := access.NewToken(name)
	e.Scopes = []string{"read"}
	if change != nil {
		change(&e)
	}
	return token, e.String() + "\n"
}

func TestATokensFileIsReadLineByLine(t *testing.T) {
	one, first := entryFor("one", func(e *access.Entry) { e.SHA256 = strings.ToUpper(e.SHA256) })
	_, second := entryFor("two", func(e *access.Entry) {
		e.Scopes, e.Agents, e.Expires = []string{"report", "admin"}, []string{"team-a/*"}, time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	})
	text := "# who\n\n  " + first + "\t\n#" + second + second
	entries, err := access.ParseTokens([]byte(text))
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.Equal(t, second, entries[1].String()+"\n", "a parsed line is written back unchanged")
	k := newKeyring()
	n, err := k.Load([]byte(text))
	require.NoError(t, err)
	require.Equal(t, 2, n)
	grant, err := k.Grant(one)
	require.NoError(t, err)
	require.Equal(t, "one", grant.Name())
	require.True(t, grant.Allows(access.Read))
	require.False(t, grant.Allows(access.Report))
	require.Nil(t, grant.Team())
}

// TestInvalidTokensFiles checks that each error names its line, that no part of a secret is repeated, and that the
// previous tokens remain valid.
func TestInvalidTokensFiles(t *testing.T) {
	known, good := entryFor("good", nil)
	k := newKeyring()
	_, err := k.Load([]byte(good))
	require.NoError(t, err)
	sum := strings.Repeat("a", 64)
	for line, want := range map[string]string{
		"":          "the file has no tokens",
		"# nothing": "the file has no tokens",
		"ka_SECRET": "line 1: must be a JSON object such as",
		`{"name":"x","sha256":"ka_SECRET","scopes":["read"]}`: "line 1: sha256 must be the SHA-256 of the token",
		`{"name":"x","token":"ka_SECRET","scopes":["read"]}`:  `line 1: unknown field "token": the fields are name, sha256,`,
		`{"name":"x","agnts":["a"],"scopes":["read"]}`:        `line 1: unknown field "agnts": the fields are name, sha256,`,
		`{"name":"x","ka_SECRET":"","scopes":["read"]}`:       "line 1: must be a JSON object such as",
		`{"name":["x"]}`:                             "line 1: name must be a string",
		`{"name":"x","scopes":"read"}`:               "line 1: scopes must be a list of strings",
		`{"name":"x","share":"half"}`:                "line 1: share must be a number",
		`["x"]`:                                      "line 1: must be a JSON object such as",
		`{"sha256":"` + sum + `","scopes":["read"]}`: "line 1: name is required",
		`{"name":"x","sha256":"` + sum + `"}`:        "line 1: scopes must be one or more",
		`{"name":"x","sha256":"` + sum + `","scopes":["ka_SECRET"]}`:                 "line 1: scopes must be one or more of report, read, acknowledge and admin",
		`{"name":"x","sha256":"` + sum + `","scopes":["read"],"agents":[]}`:          "line 1: agents must be 1 to 100 patterns",
		`{"name":"x","sha256":"` + sum + `","scopes":["read"],"agents":["a\n"]}`:     "line 1: agents must not contain control characters",
		`{"name":"x","sha256":"` + sum + `","scopes":["read"],"expires":"tomorrow"}`: "line 1: expires must be RFC 3339, such as",
		`{"name":"x","sha256":"` + sum + `","scopes":["read"],"agents":["a",""]}`:    "line 1: agents: pattern 2 is empty",
		good + good: "line 2: name is the same as on line 1",
		good + strings.Replace(good, `"good"`, `"other"`, 1):          "line 2: sha256 is the same as on line 1",
		"\n" + good + "{}\n" + `{"name":"x","sha256":"","scopes":[]}`: "line 3: name is required: 1 to 100 characters\nline 4: sha256 must be",
	} {
		_, err := k.Load([]byte(line))
		require.ErrorContains(t, err, want, line)
		require.NotContains(t, err.Error(), "SECRET", line)
		_, err = k.Grant(known)
		require.NoError(t, err, "after %s", line)
	}
}

func TestPatternsOfAgents(t *testing.T) {
	for pattern, ids := range map[string]map[string]bool{
		"team-a/*":                   {"team-a/x": true, "team-a/": true, "team-a/x/y": true, "team-a": false, "Team-a/x": false, "x/team-a/y": false},
		"*":                          {"": true, "anything at/all": true},
		"*:claude":                   {"laptop:claude": true, "claude": false, "laptop:claude2": false},
		"?":                          {"a": true, "代": true, "ab": false},
		`a\*`:                        {"a*": true, "ab": false},
		"exact":                      {"exact": true, "exactly": false},
		"a*b*c":                      {"abc": true, "axbxc": true, "acb": false},
		"ü/*":                        {"ü/1": true, "u/1": false},
		"*a*a*a*a*a*a*a*a*a*a*a*a*b": {strings.Repeat("a", 100): false}, // it must not take forever
	} {
		tok, line := entryFor("x", func(e *access.Entry) { e.Agents = []string{"nothing", pattern} })
		k := newKeyring()
		_, err := k.Load([]byte(line))
		require.NoError(t, err)
		grant, err := k.Grant(tok)
		require.NoError(t, err)
		for id, want := range ids {
			require.Equal(t, want, grant.Covers(id), "%q of %q", id, pattern)
		}
		require.Equal(t, pattern == "*", grant.Team() == nil)
	}
}

// TestUnchangedTokensKeepTheirGrants checks that reading the file again changes nothing for tokens whose lines are
// unchanged.
func TestUnchangedTokensKeepTheirGrants(t *testing.T) {
	stays, line := entryFor("stays", func(e *access.Entry) { e.Agents = []string{"b", "a"} })
	changes, before := entryFor("changes", nil)
	same, sameTeam := entryFor("same", func(e *access.Entry) { e.Agents = []string{"a", "b", "a"} })
	k := newKeyring()
	_, err := k.Load([]byte(line + before + sameTeam))
	require.NoError(t, err)
	first, err := k.Grant(stays)
	require.NoError(t, err)
	old, err := k.Grant(changes)
	require.NoError(t, err)
	other, err := k.Grant(same)
	require.NoError(t, err)
	require.Same(t, first.Team(), other.Team(), "tokens for the same agents have the same team")
	_, err = k.Load([]byte(line + strings.Replace(before, `"read"`, `"read","report"`, 1)))
	require.NoError(t, err)
	again, err := k.Grant(stays)
	require.NoError(t, err)
	require.Same(t, first, again)
	require.NoError(t, first.Ended().Err())
	require.Error(t, old.Ended().Err())
	changed, err := k.Grant(changes)
	require.NoError(t, err)
	require.True(t, changed.Allows(access.Report))
	_, err = k.Grant(same)
	require.ErrorIs(t, err, access.ErrUnknown)
}

func TestATokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tok, line := entryFor("x", func(e *access.Entry) { e.Expires = time.Now().Add(time.Minute) })
		k := newKeyring()
		_, err := k.Load([]byte(line))
		require.NoError(t, err)
		time.Sleep(time.Minute - time.Nanosecond)
		grant, err := k.Grant(tok)
		require.NoError(t, err)
		time.Sleep(time.Nanosecond)
		_, err = k.Grant(tok)
		require.ErrorIs(t, err, access.ErrExpired)
		synctest.Wait()
		require.Error(t, grant.Ended().Err())
	})
}

// TestSignInsAreBounded checks that a token's oldest sign-ins end when there are too many.
func TestSignInsAreBounded(t *testing.T) {
	tok, line := entryFor("x", nil)
	k := newKeyring()
	_, err := k.Load([]byte(line))
	require.NoError(t, err)
	grant, err := k.Grant(tok)
	require.NoError(t, err)
	s := access.NewSignIns()
	var secrets []string
	for range 1000 {
		secrets = append(secrets, s.Add(grant))
	}
	require.Eventually(t, func() bool { return s.Count() == 100 }, 10*time.Second, time.Millisecond)
	require.NotNil(t, s.Grant(secrets[999]))
	require.Nil(t, s.Grant(secrets[0]), "the oldest made room")
	require.Nil(t, s.Grant(""))
	_, err = k.Load([]byte(strings.Replace(line, `"x"`, `"y"`, 1)))
	require.NoError(t, err)
	require.Nil(t, s.Grant(secrets[999]), "the token's entry changed")
	require.Eventually(t, func() bool { return s.Count() == 0 }, 10*time.Second, time.Millisecond)
}

// TestSecretsAreComparedInConstantTime checks that tokens are compared with crypto/subtle and not with an operator. The
// time that a comparison takes can't be tested on a busy machine.
func TestSecretsAreComparedInConstantTime(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "keyring.go", nil, 0)
	require.NoError(t, err)
	uses := map[string]int{}
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Name.Name != "Grant" {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok {
					uses[x.Name+"."+n.Sel.Name]++
				}
			case *ast.BinaryExpr:
				if n.Op == token.EQL || n.Op == token.NEQ {
					require.NotRegexp(t, `\b(token|sum)\b`, fmt.Sprint(n.X, " ", n.Y))
				}
			}
			return true
		})
	}
	require.Equal(t, 1, uses["subtle.ConstantTimeCompare"])
	require.Zero(t, uses["bytes.Equal"])
}

// FuzzTokens checks that a tokens file is accepted as a whole or refused, and that accepted entries survive being
// written and parsed again.
func FuzzTokens(f *testing.F) {
	_, line := entryFor("a", func(e *access.Entry) {
		e.Agents, e.Expires = []string{"*"}, time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	})
	f.Add([]byte(line + "# x\n" + line))
	f.Add([]byte(`{"name":"x","sha256":"","scopes":["read"],"agents":["["],"expires":"2027-01-01T00:00:00+25:00"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := access.ParseTokens(text)
		if err != nil {
			return
		}
		require.NotEmpty(t, entries)
		var again strings.Builder
		for _, e := range entries {
			fmt.Fprintln(&again, e)
		}
		same, err := access.ParseTokens([]byte(again.String()))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(entries), fmt.Sprint(same))
		_, err = newKeyring().Load(text)
		require.NoError(t, err)
	})
}
