package metrics

import (
	"cmp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// AddLimits adds the gauges of the values of settings that limit something, by the setting's name. A limit of 0 is none.
func (m *Metrics) AddLimits(limits map[string]int64) {
	gauges := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "limit",
		Help: "Value of a setting that limits something: bytes if its name ends with BYTES, otherwise a number. Settings without a limit are left out.",
	}, []string{"setting"})
	for setting, limit := range limits {
		if limit > 0 {
			gauges.WithLabelValues(setting).Set(float64(limit))
		}
	}
	m.registry.MustRegister(gauges)
}

// Share is how much of its share of a limit a team uses.
type Share struct {
	Team    string // a name that the tokens file defines, unique among the teams
	Setting string // that sets the limit
	Used    float64
}

// Teams that use less of their share than minShare are not exposed, and no more than maxShares shares.
const (
	minShare  = 0.5
	maxShares = 50
)

var shareDesc = desc("team_share_used_ratio", "How much of its share of a limit a team uses, where 1 is all of it. A team is named after its first token. "+
	"Left out: shares of which less than half is used, and all but the 50 shares that are used the most.", "team", "setting")

// shares collects the metrics of the shares of teams.
type shares struct {
	used func(atLeast float64) []Share
}

// AddShares adds the gauges of how much of their shares teams use. used returns the shares that are used at least to a
// part of 1, and must be safe for concurrent use.
func (m *Metrics) AddShares(used func(atLeast float64) []Share) {
	m.registry.MustRegister(shares{used})
}

// Describe implements prometheus.Collector.
func (shares) Describe(ch chan<- *prometheus.Desc) { ch <- shareDesc }

// Collect implements prometheus.Collector.
func (s shares) Collect(ch chan<- prometheus.Metric) {
	all := s.used(minShare)
	slices.SortFunc(all, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Used, a.Used), cmp.Compare(a.Team, b.Team), cmp.Compare(a.Setting, b.Setting))
	})
	for _, share := range all[:min(len(all), maxShares)] {
		ch <- prometheus.MustNewConstMetric(shareDesc, prometheus.GaugeValue, share.Used, share.Team, share.Setting)
	}
}
