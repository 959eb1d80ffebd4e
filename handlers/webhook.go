package handlers

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// maxBatchErrors is how many errors the response to a batch lists.
const maxBatchErrors = 100

// reported is the response to one report.
var reported = []byte(`{"success":true,"message":"Status reported successfully"}` + "\n")

// batchResult is the response to several reports.
type batchResult struct {
	Success  bool         `json:"success"`
	Message  string       `json:"message"`
	Accepted int          `json:"accepted"`
	Rejected int          `json:"rejected"`
	Errors   []batchError `json:"errors"`
}

type batchError struct {
	Index int `json:"index"` // of the report in the request, starting at 0
	*models.Error
}

// Webhook accepts status reports: POST /webhook/status.
func (h *Handler) Webhook(w http.ResponseWriter, r *http.Request) error {
	if err := setIgnoredParameters(w.Header(), r, "access_token"); err != nil {
		return err
	}
	in := intakes.Get().(*intake)
	defer in.release()
	if err := in.receive(h, w, r); err != nil {
		return err
	}
	several, err := in.decodeRequest(r)
	in.setIgnoredFields(w.Header())
	if err != nil {
		return err
	}
	env := envelopeOf(w)
	if err := h.countReports(w.Header(), env, len(in.reports)-1); err != nil { // the first was counted when the request arrived
		return err
	}
	h.take(w, in)
	h.setPosition(w)
	if several {
		answerBatch(w, in)
		return nil
	}
	if in.faults[0] != nil {
		return in.faults[0]
	}
	w.Header()["Content-Type"] = jsonType // net/http sets the Content-Length of short responses
	w.Write(reported)                     //nolint:errcheck // fails only if the client is gone
	return nil
}

// decodeRequest decodes the body of a request, which has been read; see [intake.decode].
func (in *intake) decodeRequest(r *http.Request) (several bool, err error) {
	key := r.Header.Get(idempotencyKey)
	switch {
	case isCloudEventBatch(r.Header):
		several, err = true, in.decodeEvents(r.Header)
	case isCloudEvent(r.Header):
		var eventKey string
		if eventKey, err = in.unwrap(r); err != nil {
			return false, err
		}
		key = cmp.Or(key, eventKey)
		several, err = in.decode()
	default:
		several, err = in.decode()
	}
	if err != nil {
		return several, err
	}
	return several, in.addKey(key, several)
}

// accept validates the reports of in, and records the valid ones of agents that the grant covers. Afterwards, the
// faults hold the outcome of each report, and the reports must not be used any more.
//
// It notes in steps, unless that is nil, when they reached each step.
func (h *Handler) accept(in *intake, grant *access.Grant, steps *recorder.Steps) {
	now := h.now()
	valid := in.reports[:0]
	for i := range in.reports {
		if in.faults[i] == nil {
			in.faults[i] = in.reports[i].Validate(now)
		}
		if in.faults[i] == nil {
			valid = append(valid, in.reports[i])
		}
	}
	count := metrics.Reports{Invalid: len(in.reports) - len(valid)}
	var err error
	if in.outcomes, err = h.Recorder.AcceptInSteps(grant.Team(), valid, now, in.outcomes[:0], steps); err != nil {
		count.Unavailable = len(valid)
		h.Metrics.CountReports(count)
		in.refuse(recordingError(err))
		return
	}
	next := 0
	for i := range in.faults {
		if in.faults[i] != nil {
			continue
		}
		switch in.outcomes[next] {
		case store.Stored:
			count.Stored++
		case store.Duplicate:
			count.Duplicate++
		case store.Renewed:
			count.Renewed++
		case store.Ignored:
			count.Ignored++
		case store.OutOfSessions, store.OutOfSessionShare, store.OutOfMemory, store.OutOfMemoryShare, store.OutOfDisk, store.OutOfDiskShare:
			count.Refused++
			in.faults[i] = noRoom(in.outcomes[next])
		case store.OutsideTeam:
			count.Invalid++
			in.faults[i] = notCovered(&valid[next])
		}
		next++
	}
	h.Metrics.CountReports(count)
}

// noRoom returns the fault of a report that was refused because a limit is reached.
func noRoom(outcome store.Outcome) error {
	message := "there are MAX_SESSIONS sessions and none has expired, so a new one can't start; existing sessions still accept reports"
	switch outcome {
	case store.OutOfSessionShare:
		message = "a team of this agent has reached its share of MAX_SESSIONS and none of its sessions has expired, so a new one can't start (TEAM_SHARE, or share on the token's line); existing sessions still accept reports"
	case store.OutOfMemory:
		message = "there is no memory left for this within HISTORY_MAX_BYTES"
	case store.OutOfMemoryShare:
		message = "a team of this agent has reached its share of HISTORY_MAX_BYTES (TEAM_SHARE, or share on the token's line)"
	case store.OutOfDisk:
		message = "the journal has reached DATA_MAX_BYTES"
	case store.OutOfDiskShare:
		message = "a team of this agent has reached its share of DATA_MAX_BYTES (TEAM_SHARE, or share on the token's line)"
	}
	return models.Unavailable(message)
}

// notCovered returns the fault of a report of an agent that the token does not cover.
func notCovered(r *models.StatusReport) error {
	message := fmt.Sprintf("this token does not cover agent %q", r.AgentID)
	if r.Event != nil && r.Event.FindByToolID { // the client sent no agent_id
		folder, _, _ := strings.Cut(r.AgentID, "@")
		message += fmt.Sprintf("; it needs that ID among its agents or, for any host, %q", folder+"@*")
	}
	return &models.Error{Code: models.CodeForbidden, Field: "agent_id", Message: message}
}

// recordingError returns the error for reports that could not be made durable.
func recordingError(err error) *models.Error {
	var unavailable *recorder.Unavailable
	if errors.As(err, &unavailable) && unavailable.Unknown {
		return knownError(err)
	}
	why := "the server is stopping"
	if known := knownError(err); known != nil {
		why = known.Message
	}
	return models.Unavailable("nothing of this request was stored, because " + why)
}

// refuse sets the fault of each report that has none so far.
func (in *intake) refuse(fault *models.Error) {
	for i := range in.faults {
		if in.faults[i] == nil {
			in.faults[i] = fault
		}
	}
}

// answerBatch responds with the outcome of several reports.
func answerBatch(w http.ResponseWriter, in *intake) {
	result := batchResult{Errors: []batchError{}}
	unavailable, forbidden := false, 0
	for i, fault := range in.faults {
		if fault == nil {
			result.Accepted++
			continue
		}
		result.Rejected++
		var known *models.Error
		if !errors.As(fault, &known) {
			panic("a fault is not a *models.Error: " + fault.Error()) // can't happen: decode, Validate and accept return no other
		}
		unavailable = unavailable || known.Code == models.CodeUnavailable
		if known.Code == models.CodeForbidden {
			forbidden++
		}
		if len(result.Errors) < maxBatchErrors {
			result.Errors = append(result.Errors, batchError{i, known})
		}
	}
	if unavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	status := http.StatusMultiStatus
	switch {
	case result.Rejected == 0:
		result.Success, status = true, http.StatusOK
		result.Message = "Statuses reported successfully"
	case result.Accepted == 0:
		result.Message = "No report was accepted"
		status = http.StatusBadRequest
		if unavailable {
			status = http.StatusServiceUnavailable
		} else if forbidden == result.Rejected {
			status = http.StatusForbidden
		}
	default:
		result.Message = fmt.Sprintf("%d of %d reports were accepted", result.Accepted, len(in.faults))
	}
	if env := envelopeOf(w); env != nil && forbidden > 0 {
		env.refused = fmt.Sprintf("%d of %d reports are for agents that the token does not cover", forbidden, len(in.faults))
	}
	writeJSON(w, status, result)
}

const idempotencyKey = "Idempotency-Key"

// addKey makes key, usually the Idempotency-Key header, the ID of the report. If there are several reports, it appends
// each one's index. Reports that have an ID keep it.
func (in *intake) addKey(key string, several bool) error {
	const name = idempotencyKey
	if key == "" {
		return nil
	}
	if !utf8.ValidString(key) {
		return models.BadRequest(name, "must be UTF-8")
	}
	limit := models.MaxReportID
	if several {
		limit -= len("/9999") // for the index appended below
	}
	if err := models.ValidateName(name, key, true, limit); err != nil {
		return err
	}
	for i := range in.reports {
		if in.reports[i].ReportID != "" {
			continue
		}
		in.reports[i].ReportID = key
		if several {
			in.reports[i].ReportID += "/" + strconv.Itoa(i)
		}
	}
	return nil
}
