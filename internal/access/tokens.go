package access

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/kubeagents/kubeagents/models"
)

// Entry is a token's entry in a tokens file, one JSON object per line. It does not contain the token itself.
type Entry struct {
	Name    string    `json:"name"`             // shown to people and logged
	SHA256  string    `json:"sha256"`           // of the token, in hexadecimal
	Scopes  []string  `json:"scopes"`           // report, read, acknowledge, admin
	Agents  []string  `json:"agents,omitempty"` // patterns of the agent IDs that it covers; none for every agent
	Expires time.Time `json:"expires,omitzero"` // the token is rejected from then on; zero for never

	// Share is the fraction of each limit that the token's agents may use together, at most 1; 0 means the server's
	// default. DiskFull is what happens when they reach their share of the disk. Both are common to all tokens for the
	// same agents.
	Share    float64  `json:"share,omitzero"`
	DiskFull DiskFull `json:"disk_full,omitempty"`
}

// DiskFull is what happens when a token's agents reach their share of the disk. "" is the same as RefuseReports.
type DiskFull string

// The values of DiskFull.
const (
	RefuseReports DiskFull = "refuse"      // their reports are refused
	DropOldest    DiskFull = "drop_oldest" // their oldest history is deleted
)

// maxPatterns is the maximum number of patterns of a token or a rule.
const maxPatterns = 100

// minShare is the smallest share that an entry may state.
const minShare = 0.001

// NewToken returns a new token and its entry for a tokens file. The caller fills in what the token allows.
func NewToken(name string) (token string, e Entry) {
	token = "ka_" + rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(token))
	return token, Entry{Name: name, SHA256: hex.EncodeToString(sum[:])}
}

// String returns the entry as a line of a tokens file, without a newline.
func (e Entry) String() string {
	line, err := json.Marshal(e)
	if err != nil {
		panic("encode token: " + err.Error()) // can't happen: all fields are plain values
	}
	return string(line)
}

// digest identifies what the entry says. It reveals nothing about the token.
func (e Entry) digest() string {
	sum := sha256.Sum256([]byte(e.String()))
	return hex.EncodeToString(sum[:16])
}

// ParseTokens parses a tokens file. Empty lines and lines that begin with # are ignored. The error names each invalid
// line and what is allowed, and repeats nothing from the line that could be a token.
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
			err = malformed(err)
		} else {
			err = e.Validate()
		}
		switch {
		case err != nil:
		case names[e.Name] > 0:
			err = fmt.Errorf("name is the same as on line %d", names[e.Name])
		case !shares.add(&e):
			err = errors.New("share and disk_full must be the same as on other lines for the same agents, or left out")
		case sums[e.prefix()] > 0:
			err = fmt.Errorf("sha256 is the same as on line %d", sums[e.prefix()])
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("line %d: %w", number, err))
			continue
		}
		names[e.Name], sums[e.prefix()] = number, number
		entries = append(entries, e)
	}
	if len(faults) == 0 && len(entries) == 0 {
		return nil, errors.New("the file has no tokens, so nobody would have access")
	}
	return entries, errors.Join(faults...)
}

// fieldName matches names of fields that an error may repeat, because no token looks like one.
var fieldName = regexp.MustCompile(`^[a-z_]{1,20}$`)

// malformed returns the error for a line that is not the JSON of an entry: it names the field at fault, if there is one.
func malformed(err error) error {
	var invalid *json.SemanticError
	field := ""
	if errors.As(err, &invalid) {
		field, _, _ = strings.Cut(strings.TrimPrefix(string(invalid.JSONPointer), "/"), "/")
	}
	switch {
	case field == "expires":
		return errors.New("expires must be RFC 3339, such as 2027-01-31T00:00:00Z")
	case field == "share":
		return errors.New("share must be a number")
	case field == "scopes", field == "agents":
		return fmt.Errorf("%s must be a list of strings", field)
	case field == "name", field == "sha256", field == "disk_full":
		return fmt.Errorf("%s must be a string", field)
	case fieldName.MatchString(field):
		return fmt.Errorf("unknown field %q: the fields are name, sha256, scopes, agents, expires, share and disk_full", field)
	}
	return errors.New(`must be a JSON object such as {"name":"ci","sha256":"…","scopes":["report"]}, and optionally "agents", "expires" (RFC 3339), "share" and "disk_full"`)
}

// Validate returns an error that names the first invalid field and what is allowed. It converts the hash to lower case.
func (e *Entry) Validate() error {
	if err := models.ValidateName("name", e.Name, true, 100); err != nil {
		return err
	}
	if !utf8.ValidString(e.Name + strings.Join(e.Agents, "")) {
		return errors.New("name and agents must be UTF-8")
	}
	sum, err := hex.DecodeString(e.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return errors.New("sha256 must be the SHA-256 of the token, in 64 hexadecimal digits")
	}
	e.SHA256 = strings.ToLower(e.SHA256)
	if len(e.Scopes) == 0 {
		return errors.New("scopes must be one or more of report, read, acknowledge and admin")
	}
	for _, name := range e.Scopes {
		if _, ok := parseScope(name); !ok {
			return errors.New("scopes must be one or more of report, read, acknowledge and admin")
		}
	}
	if e.Share < 0 || e.Share > 1 || e.Share > 0 && e.Share < minShare {
		return fmt.Errorf("share must be a fraction of each limit, from %v to 1, or left out for TEAM_SHARE", minShare)
	}
	switch e.DiskFull {
	case "", RefuseReports, DropOldest:
	default:
		return fmt.Errorf("disk_full must be %s or %s", RefuseReports, DropOldest)
	}
	if e.Agents == nil {
		return nil
	}
	return ValidatePatterns("agents", e.Agents)
}

// ValidatePatterns returns an error that names the field unless patterns are patterns of agent IDs, as [Matches] takes
// them: at least one, and none of them empty.
func ValidatePatterns(field string, patterns []string) error {
	if len(patterns) == 0 || len(patterns) > maxPatterns {
		return fmt.Errorf("%s must be 1 to %d patterns of agent IDs, or left out for every agent", field, maxPatterns)
	}
	for i, pattern := range patterns {
		if pattern == "" {
			return fmt.Errorf("%s: pattern %d is empty", field, i+1)
		}
		if err := models.ValidateName(field, pattern, true, models.MaxAgentID); err != nil {
			return err
		}
	}
	return nil
}

// prefix returns the part of the hash by which a keyring looks up tokens. It must be unique in a tokens file.
func (e *Entry) prefix() string { return e.SHA256[:16] }

func (e *Entry) scopes() (scopes Scope) {
	for _, name := range e.Scopes {
		scope, _ := parseScope(name)
		scopes |= scope
	}
	return scopes
}

// patterns returns the patterns sorted and without duplicates, none if they cover every agent.
func (e *Entry) patterns() []string {
	if slices.Contains(e.Agents, "*") {
		return nil
	}
	sorted := slices.Clone(e.Agents)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}
