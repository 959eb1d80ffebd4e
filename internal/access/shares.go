package access

import (
	"cmp"
	"strings"

	"github.com/kubeagents/kubeagents/store"
)

// statedShares is what the lines of a tokens file say of shares, by the names of the teams that they are for.
type statedShares map[string]statedShare

type statedShare struct {
	share    float64
	diskFull DiskFull
}

// agree takes over what e says, and reports whether that contradicts no other line for the same agents.
func (s statedShares) agree(e *Entry) bool {
	name := teamName(e.patterns())
	said := s[name]
	if e.Share > 0 && said.share > 0 && e.Share != said.share || e.DiskFull != "" && said.diskFull != "" && e.DiskFull != said.diskFull {
		return false
	}
	s[name] = statedShare{cmp.Or(said.share, e.Share), cmp.Or(said.diskFull, e.DiskFull)}
	return true
}

// sharesOf returns what entries, which agree, say.
func sharesOf(entries []Entry) statedShares {
	s := statedShares{}
	for i := range entries {
		s.agree(&entries[i])
	}
	return s
}

// of returns the share of a team. A team of some agents may use up part where no line says; the team of all of them, everything.
func (s statedShares) of(name string, part float64) store.Share {
	said := s[name]
	if name == everyone {
		part = 1
	}
	return store.Share{Part: cmp.Or(said.share, part), DropHistory: said.diskFull == DropOldest}
}

// everyone is the name of the team of those who may see every agent.
const everyone = ""

// teamName returns what tells teams apart: the patterns of the agents that they are of.
func teamName(patterns []string) string { return strings.Join(patterns, "\n") }
