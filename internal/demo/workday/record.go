package workday

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/adapters"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
)

// Record records everything of the day that happens before the time until, as a server would have that was running all
// the time.
func (d *Day) Record(rec *recorder.Recorder, until time.Time) error {
	for d.upcoming().next[0].At.Before(until) {
		e := d.Next()
		if err := e.record(rec); err != nil {
			return fmt.Errorf("record %s %s: %w", e.Path, e.Body, err)
		}
	}
	rec.Expire(until)
	return nil
}

// record records one event at its time.
func (e Event) record(rec *recorder.Recorder) error {
	r, effect, err := e.decode()
	if err != nil || effect == adapters.Ignored {
		return err
	}
	if err := r.Validate(e.At); err != nil {
		return err
	}
	rec.Expire(e.At)
	outcomes, err := rec.Accept(nil, []models.StatusReport{r}, e.At, nil)
	if err == nil && !outcomes[0].Acknowledged() {
		err = fmt.Errorf("refused: outcome %d", outcomes[0])
	}
	return err
}

// decode returns the status report that a server makes of the event.
func (e Event) decode() (models.StatusReport, adapters.Effect, error) {
	name := strings.TrimPrefix(e.Path, "/webhook/")
	if client := adapters.Named(name); client != nil {
		return client.Report(bytes.NewReader(e.Body), adapters.Options{AgentHost: e.Host, Capture: adapters.CaptureFull, Now: e.At})
	}
	var r report
	if err := json.Unmarshal(e.Body, &r); err != nil {
		return models.StatusReport{}, adapters.Ignored, err
	}
	status, err := models.ParseStatus("status", r.Status)
	return models.StatusReport{AgentID: r.AgentID, AgentName: r.AgentName, AgentSource: r.AgentSource, AgentHost: r.AgentHost,
		SessionTopic: r.SessionTopic, SessionTitle: r.SessionTitle, Status: status, Message: r.Message, Content: r.Content,
		TTLMinutes: r.TTLMinutes}, adapters.Reports, err
}
