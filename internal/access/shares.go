package access

import (
	"cmp"
	"strings"

	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/store"
)

// statedShares holds the shares that the lines of a tokens file state, by the name of the team.
type statedShares map[string]statedShare

type statedShare struct {
	share    float64
	diskFull DiskFull
}

// add adds the share that e states. It returns false, and adds nothing, if e contradicts another line for the same
// agents.
func (s statedShares) add(e *Entry) bool {
	name := teamName(e.patterns())
	stated := s[name]
	if e.Share > 0 && stated.share > 0 && e.Share != stated.share || e.DiskFull != "" && stated.diskFull != "" && e.DiskFull != stated.diskFull {
		return false
	}
	s[name] = statedShare{cmp.Or(stated.share, e.Share), cmp.Or(stated.diskFull, e.DiskFull)}
	return true
}

// sharesOf returns the shares that entries state. The entries must not contradict each other.
func sharesOf(entries []Entry) statedShares {
	s := statedShares{}
	for i := range entries {
		s.add(&entries[i])
	}
	return s
}

// of returns the share of a team. If no line states one, it is part, or everything for the team of all agents.
func (s statedShares) of(name string, part float64) store.Share {
	stated := s[name]
	if name == everyone {
		part = 1
	}
	return store.Share{Fraction: cmp.Or(stated.share, part), DropHistory: stated.diskFull == DropOldest}
}

// Shares returns the shares of limits that teams use at least to a part of 1, for the metrics.
func (k *Keyring) Shares(atLeast float64) (all []metrics.Share) {
	labels := *k.labels.Load()
	for _, use := range k.store.ShareUses() {
		label, known := labels[use.Team]
		if !known { // the tokens are being replaced
			continue
		}
		for _, share := range []metrics.Share{{Team: label, Setting: "MAX_SESSIONS", Used: use.Sessions},
			{Team: label, Setting: "HISTORY_MAX_BYTES", Used: use.Memory}, {Team: label, Setting: "DATA_MAX_BYTES", Used: use.Disk}} {
			if share.Used >= atLeast {
				all = append(all, share)
			}
		}
	}
	return all
}

// everyone is the name of the team that covers every agent.
const everyone = ""

// teamName returns the name that identifies a team: the patterns of its agents.
func teamName(patterns []string) string { return strings.Join(patterns, "\n") }
