package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tidwall/match"

	"github.com/kubeagents/kubeagents/store"
)

// maxToken is the maximum length of a token, in bytes. Longer ones are rejected without being hashed.
const maxToken = 512

// Keyring holds the known tokens. Its methods are safe for concurrent use.
type Keyring struct {
	store  *store.Store
	limits Limits

	current atomic.Pointer[map[uint64]*key]        // by the first eight bytes of their hashes
	labels  atomic.Pointer[map[*store.Team]string] // the name of the first token of each team; nil is all agents

	mu        sync.Mutex             // serializes Load; guards what follows
	teams     map[string]*store.Team // by name
	afterLoad func()                 // nil for nothing
}

// key is a known token.
type key struct {
	sum   [sha256.Size]byte
	entry Entry
	grant *Grant
	end   context.CancelFunc
}

// NewKeyring returns an empty keyring for the agents in st. The limits apply to each token separately.
func NewKeyring(st *store.Store, limits Limits) *Keyring {
	k := &Keyring{store: st, limits: limits, teams: map[string]*store.Team{}}
	k.current.Store(&map[uint64]*key{})
	k.labels.Store(&map[*store.Team]string{})
	return k
}

// Load replaces the keyring's tokens with those of a tokens file and returns how many there are. A token whose entry is
// unchanged keeps its grant; the grants of all other tokens end. If Load returns an error, nothing has changed.
func (k *Keyring) Load(text []byte) (int, error) {
	entries, err := ParseTokens(text)
	if err != nil {
		return 0, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	old, known := *k.current.Load(), make(map[uint64]*key, len(entries))
	teams, shares := map[string]*store.Team{}, sharesOf(entries)
	labels := map[*store.Team]string{}
	for _, e := range entries {
		sum := sumOf(e.SHA256)
		name := teamName(e.patterns())
		share := shares.of(name, k.limits.TeamShare)
		team := k.team(e.patterns(), share, teams)
		if _, named := labels[team]; !named {
			labels[team] = e.Name
		}
		prefix := binary.LittleEndian.Uint64(sum[:])
		if before := old[prefix]; before != nil && reflect.DeepEqual(before.entry, e) && before.grant.share == share {
			known[prefix] = before
			continue
		}
		known[prefix] = k.newKey(e, sum, team, share)
	}
	both := teamsOf(teams)
	for name, team := range k.teams {
		if teams[name] != team {
			both = append(both, team)
		}
	}
	k.store.SetTeams(both)
	k.store.SetEveryone(shares.of(everyone, 1))
	k.current.Store(&known)
	k.labels.Store(&labels)
	for prefix, before := range old {
		if known[prefix] != before {
			before.end()
		}
	}
	if len(both) > len(teams) {
		k.store.SetTeams(teamsOf(teams))
	}
	k.teams = teams
	if k.afterLoad != nil {
		k.afterLoad()
	}
	return len(known), nil
}

// AfterLoad makes f be called after each later Load that succeeds.
func (k *Keyring) AfterLoad(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.afterLoad = f
}

func sumOf(text string) (sum [sha256.Size]byte) {
	hex.Decode(sum[:], []byte(text)) //nolint:errcheck // validated by ParseTokens
	return sum
}

func teamsOf(teams map[string]*store.Team) (all []*store.Team) {
	for _, t := range teams {
		all = append(all, t)
	}
	return all
}

// team returns the team of the agents that patterns cover, nil if they cover every agent, and adds it to teams. Tokens
// with the same patterns have the same team. An existing team is reused if its share is unchanged. The caller holds
// k.mu.
func (k *Keyring) team(patterns []string, share store.Share, teams map[string]*store.Team) *store.Team {
	if len(patterns) == 0 {
		return nil
	}
	name := teamName(patterns)
	team := teams[name]
	if before := k.teams[name]; team == nil && before != nil && before.Share() == share {
		team = before
	}
	if team == nil {
		team = store.NewTeam(share, func(agentID string) bool { return Matches(patterns, agentID) })
		team.SetPatterns(patterns)
	}
	teams[name] = team
	return team
}

// maxSteps, times the length of the ID, limits the work of matching one pattern: a pattern with very many stars could
// take forever. A pattern that reaches the limit does not match.
const maxSteps = 100

// Matches reports whether one of patterns covers an ID: * stands for any characters, ? for any single one, and \
// escapes the character that follows it.
func Matches(patterns []string, agentID string) bool {
	for _, pattern := range patterns {
		if matched, _ := match.MatchLimit(agentID, pattern, maxSteps); matched {
			return true
		}
	}
	return false
}

// Exactly returns the pattern that covers one ID.
func Exactly(agentID string) string { return special.Replace(agentID) }

var special = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `\`, `\\`)

func (k *Keyring) newKey(e Entry, sum [sha256.Size]byte, team *store.Team, share store.Share) *key {
	ended, end := context.WithCancel(context.Background())
	if !e.Expires.IsZero() {
		ended, end = context.WithDeadline(context.Background(), e.Expires)
	}
	return &key{sum, e, &Grant{
		name: e.Name, token: e.prefix(), line: e.digest(), scopes: e.scopes(), team: team, share: share, expires: e.Expires, ended: ended,
		reports: k.limits.Reports.limiter(), reads: k.limits.Reads.limiter(),
		manages: team == nil && e.scopes()&Admin != 0,
	}, end}
}

// Known returns the grant of the token with this [Grant.Token], nil if there is no such token any more.
func (k *Keyring) Known(token string) *Grant {
	prefix, err := hex.DecodeString(token)
	if err != nil || len(prefix) != 8 {
		return nil
	}
	known := (*k.current.Load())[binary.LittleEndian.Uint64(prefix)]
	if known == nil || !known.grant.valid() {
		return nil
	}
	return known.grant
}

// The errors of [Keyring.Grant].
var (
	ErrUnknown = errors.New("unknown token")
	ErrExpired = errors.New("the token has expired")
)

// Grant returns what a token allows. The error is ErrUnknown or ErrExpired.
//
// The token is looked up by a prefix of its hash, which reveals nothing about other tokens. The full hash is compared
// in constant time.
func (k *Keyring) Grant(token string) (*Grant, error) {
	if len(token) > maxToken {
		return nil, ErrUnknown
	}
	sum := sha256.Sum256([]byte(token))
	known := (*k.current.Load())[binary.LittleEndian.Uint64(sum[:])]
	if known == nil || subtle.ConstantTimeCompare(known.sum[:], sum[:]) != 1 {
		return nil, ErrUnknown
	}
	switch {
	case known.grant.expired():
		return nil, ErrExpired
	case !known.grant.valid():
		return nil, ErrUnknown // removed just now
	}
	return known.grant, nil
}
