package access

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/kubeagents/kubeagents/models"
)

// Entry is a token as a tokens file has it, one JSON object a line. It does not hold the token itself.
type Entry struct {
	Name    string    `json:"name"`             // for people: it is logged
	SHA256  string    `json:"sha256"`           // of the token, in hexadecimal
	Scopes  []string  `json:"scopes"`           // report, read, admin
	Agents  []string  `json:"agents,omitempty"` // patterns of the IDs that it is for; none for every agent
	Expires time.Time `json:"expires,omitzero"` // from when on it is good for nothing; zero for never

	// What its agents may use up together, which tokens for the same agents share: a fraction of each bound, from above 0 to 1, 0 for the
	// server's default; and what happens at their share of the disk.
	Share    float64  `json:"share,omitzero"`
	DiskFull DiskFull `json:"disk_full,omitempty"`
}

// DiskFull is what happens once a token's agents have used up their share of the disk; "" is the same as RefuseReports.
type DiskFull string

// What may happen at a share of the disk.
const (
	RefuseReports DiskFull = "refuse"      // their reports are refused
	DropOldest    DiskFull = "drop_oldest" // their oldest history is deleted
)

// maxPatterns bounds the patterns of one token.
const maxPatterns = 100

// minShare is the least part of the bounds that a token's agents may be held to.
const minShare = 0.001

// NewToken returns a new token, and the entry of a tokens file that lets it in, but for what it allows.
func NewToken(name string) (token string, e Entry) {
	token = "ka_" + rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(token))
	return token, Entry{Name: name, SHA256: hex.EncodeToString(sum[:])}
}

// String returns the entry as the line of a tokens file.
func (e Entry) String() string {
	line, err := json.Marshal(e)
	if err != nil {
		panic("encode token: " + err.Error()) // all that is encoded is plain values
	}
	return string(line)
}

// ParseTokens reads a tokens file. Empty lines and those that begin with # say nothing. The error names each line at
// fault and what is allowed, and repeats nothing of it that could be a token.
func ParseTokens(text []byte) ([]Entry, error) {
	var entries []Entry
	var faults []error
	names, sums, shares := map[string]int{}, map[string]int{}, statedShares{}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		var e Entry
		err := json.Unmarshal(line, &e, json.RejectUnknownMembers(true))
		if err != nil {
			err = errors.New(`must be a JSON object such as {"name":"ci","sha256":"…","scopes":["report"]}, with "agents", "expires" (RFC 3339), "share" and "disk_full" where wanted`)
		} else {
			err = e.Validate()
		}
		switch {
		case err != nil:
		case names[e.Name] > 0:
			err = fmt.Errorf("name is that of line %d as well", names[e.Name])
		case !shares.agree(&e):
			err = errors.New("share and disk_full must be the same as on other lines for the same agents, or left out")
		case sums[e.prefix()] > 0:
			err = fmt.Errorf("sha256 is that of line %d as well", sums[e.prefix()])
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("line %d: %w", number, err))
			continue
		}
		names[e.Name], sums[e.prefix()] = number, number
		entries = append(entries, e)
	}
	if len(faults) == 0 && len(entries) == 0 {
		return nil, errors.New("it has no token, so nobody could get in")
	}
	return entries, errors.Join(faults...)
}

// Validate returns an error that names the first field at fault and what is allowed. It brings the hash into lower case.
func (e *Entry) Validate() error {
	if err := models.ValidateName("name", e.Name, true, 100); err != nil {
		return err
	}
	sum, err := hex.DecodeString(e.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return errors.New("sha256 must be the SHA-256 of the token, in 64 hexadecimal digits")
	}
	e.SHA256 = strings.ToLower(e.SHA256)
	if len(e.Scopes) == 0 {
		return errors.New("scopes must be one or more of report, read and admin")
	}
	for _, name := range e.Scopes {
		if _, ok := parseScope(name); !ok {
			return errors.New("scopes must be of report, read and admin")
		}
	}
	if e.Agents != nil && len(e.Agents) == 0 || len(e.Agents) > maxPatterns {
		return fmt.Errorf("agents must be 1 to %d patterns of agent IDs, or left out for every agent", maxPatterns)
	}
	if e.Share < 0 || e.Share > 1 || e.Share > 0 && e.Share < minShare {
		return fmt.Errorf("share must be a fraction of each bound, from %v to 1, or left out for TEAM_SHARE", minShare)
	}
	switch e.DiskFull {
	case "", RefuseReports, DropOldest:
	default:
		return fmt.Errorf("disk_full must be %s or %s", RefuseReports, DropOldest)
	}
	for _, pattern := range e.Agents {
		if err := models.ValidateName("agents", pattern, true, models.MaxAgentID); err != nil {
			return err
		}
	}
	return nil
}

// prefix returns what a keyring looks up, which no two tokens share.
func (e *Entry) prefix() string { return e.SHA256[:16] }

func (e *Entry) scopes() (scopes Scope) {
	for _, name := range e.Scopes {
		scope, _ := parseScope(name)
		scopes |= scope
	}
	return scopes
}

// patterns returns the patterns in an order that does not matter, none where they cover every agent.
func (e *Entry) patterns() []string {
	if slices.Contains(e.Agents, "*") {
		return nil
	}
	sorted := slices.Clone(e.Agents)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}
