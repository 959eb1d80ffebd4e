package journal

import (
	"fmt"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// Lookup answers a lookup of the store. It files what it needs first.
func (j *Journal) Lookup(l store.Lookup) (a store.Answer, err error) {
	if l.ReportID != "" {
		a.Held, err = j.HasReport(l.SessionKey, l.ReportID, l.Dropped)
	}
	if err == nil && l.Content != (store.StatusPosition{}) {
		a.Content, err = j.contentAt(l.SessionKey, l.Content)
	}
	return a, err
}

// contentAt returns the content of the record of a session at a position.
func (j *Journal) contentAt(key store.SessionKey, at store.StatusPosition) (string, error) {
	if err := j.fileUpTo(at.Sequence); err != nil {
		return "", err
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	if err := j.usable(); err != nil {
		return "", err
	}
	content, found, err := j.engine.contentAt(key, at)
	if err == nil && !found {
		err = fmt.Errorf("%w: record %d of a session is missing", errMalformed, at.Sequence)
	}
	return content, err
}

// contentAt returns the content of the filed record of a session at a position, if there is one.
func (e *engine) contentAt(key store.SessionKey, at store.StatusPosition) (content string, found bool, err error) {
	_, chunk, err := e.chunkOf(recordPrefix(key), at)
	if err != nil {
		return "", false, err
	}
	err = eachRecord(chunk, func(r *models.Record) error {
		if placeOf(r) == at {
			content, found = r.Content, true
		}
		return nil
	})
	return content, found, err
}
