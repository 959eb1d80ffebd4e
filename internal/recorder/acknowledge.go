package recorder

import (
	"sync"
	"time"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// acknowledging is how many sessions are acknowledged at the same time, so that they share group commits.
const acknowledging = 64

// Seen names a session that a person has seen, and the time up to which they have: if something new happened to it later,
// it is left as it is. A zero AsOf means that nothing can be new to them.
type Seen struct {
	store.SessionKey
	AsOf time.Time
}

// Acknowledge records that a person has seen sessions of a team that need attention. A nil team is the whole fleet. It
// returns the number of sessions that needed attention until now; others are left as they are. If refused is not 0, there
// was no room for some of the acknowledgements. If it returns an error, some could not be made durable, and were not
// recorded.
func (r *Recorder) Acknowledge(team *store.Team, sessions []Seen, ack models.Acknowledgement, now time.Time) (acknowledged int, refused store.Outcome, err error) {
	var running sync.WaitGroup
	var mu sync.Mutex // protects the results
	slots := make(chan struct{}, acknowledging)
	for _, seen := range sessions {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			report := models.StatusReport{AgentID: seen.AgentID, SessionTopic: seen.Topic, Event: &models.Event{Acknowledge: &ack, AsOf: seen.AsOf}}
			outcomes, failed := r.Accept(team, []models.StatusReport{report}, now, nil)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case failed != nil:
				err = failed
			case outcomes[0] == store.Renewed:
				acknowledged++
			case outcomes[0].Refused():
				refused = outcomes[0]
			}
		})
	}
	running.Wait()
	return acknowledged, refused, err
}
