package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/store"
)

// Servers of a cluster must have the same settings where these shape the state. The settings in effect stand in the
// stream, so all servers apply messages by the same ones, whatever their own are. A server with others takes no reports,
// does not act for the cluster, and is not ready.
//
// To change them, an operator restarts the servers one after another with new ones. The first of these had the settings
// in effect before, which the stream says as well. So the change is meant, and it puts the new ones into effect. Those
// that still run with the old ones go on until they are restarted.

// SharedSettings are the settings that shape the state, by the names of their environment variables.
type SharedSettings map[string]string

// The settings on which the effect of messages depends, and their units. The others decide only what the server does that
// takes a report or acts for the cluster.
const (
	defaultTTLSetting = "DEFAULT_TTL_MINUTES" // a whole number of minutes
	retentionSetting  = "SESSION_RETENTION"   // a duration
)

// comparing is why a server that has caught up is not ready yet.
const comparing = "the server compares its settings with those of its cluster"

// agreeEvery is how often a server with other settings looks at those in effect.
const agreeEvery = time.Second

// agree makes the settings of this server those in effect if nobody has any or if it had those in effect when it last ran.
// Otherwise it waits until they are the same, or ctx is done.
func (m *Member) agree(ctx context.Context) {
	for logged := ""; ctx.Err() == nil; sleep(ctx, agreeEvery) {
		cause, err := m.tryToAgree(ctx)
		if err != nil {
			if ctx.Err() == nil {
				m.Logger.Debug("the settings in effect can't be compared or changed", "error", err.Error())
			}
			continue
		}
		m.shared.progress.set(&m.shared.progress.settings, cause)
		if cause == "" {
			return
		}
		if cause != logged {
			logged = cause
			m.Logger.Error("this server is not ready", "cause", cause)
		}
	}
}

// tryToAgree returns why this server can't agree to the settings in effect, "" if it has.
func (m *Member) tryToAgree(ctx context.Context) (cause string, err error) {
	for {
		inEffect, err := m.Journal.Note(journal.SettingsKey)
		if err != nil {
			return "", err
		}
		before, err := m.Journal.Note(journal.SettingsKeyOf(m.Server))
		if err != nil {
			return "", err
		}
		next, others := m.SharedSettings.compare(settingsIn(inEffect), settingsIn(before))
		if len(others) > 0 {
			return "the settings of this server are not those of its cluster: " + strings.Join(others, "; "), nil
		}
		if to := next.encode(); string(to) != string(inEffect) || string(to) != string(before) {
			message := &journal.Message{Settings: &journal.Settings{From: inEffect, To: to}}
			if _, err := m.shared.publishAnyway(ctx, message); err != nil {
				return "", err
			}
			if changed := next.changedFrom(settingsIn(inEffect)); len(changed) > 0 {
				m.Logger.Warn("this server changes the settings of its cluster to its own", "settings", strings.Join(changed, "; "))
			}
			continue // another server may have been faster
		}
		return "", nil
	}
}

// compare returns what is to be in effect if this server, which last ran with the settings before, is to have its own; or
// what others are in effect that it has not had. Settings that it does not know stay, since a later version of the
// program knows them.
func (s SharedSettings) compare(inEffect, before SharedSettings) (next SharedSettings, others []string) {
	next = maps.Clone(inEffect)
	if next == nil {
		next = SharedSettings{}
	}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		theirs, set := inEffect[name]
		if set && theirs != s[name] && theirs != before[name] {
			others = append(others, fmt.Sprintf("%s is %s, and must be %s", name, s[name], theirs))
		}
		next[name] = s[name]
	}
	return next, others
}

// changedFrom returns in words which of the settings in effect are replaced by other ones.
func (s SharedSettings) changedFrom(inEffect SharedSettings) (changed []string) {
	for _, name := range slices.Sorted(maps.Keys(inEffect)) {
		if s[name] != inEffect[name] {
			changed = append(changed, fmt.Sprintf("%s from %s to %s", name, inEffect[name], s[name]))
		}
	}
	return changed
}

// encode returns the settings as they stand in the stream, nil if there are none.
func (s SharedSettings) encode() []byte {
	if len(s) == 0 {
		return nil
	}
	value, _ := json.Marshal(s) //nolint:errcheck // strings; their names are in order
	return value
}

// settingsIn is the inverse of encode.
func settingsIn(value []byte) (s SharedSettings) {
	json.Unmarshal(value, &s) //nolint:errcheck // there may be none
	return s
}

// Lifetimes returns the settings on which the effect of messages depends. ok is false if there are none.
func (s SharedSettings) Lifetimes() (l store.Lifetimes, ok bool) {
	minutes, err := strconv.Atoi(s[defaultTTLSetting])
	if err != nil {
		return l, false
	}
	l.DefaultTTL = time.Duration(minutes) * time.Minute
	l.SessionRetention, err = time.ParseDuration(s[retentionSetting])
	return l, err == nil
}

// putIntoEffect makes the store follow settings that are in effect from now on.
func (m *Member) putIntoEffect(st *store.Store, value []byte) {
	settings := settingsIn(value)
	if l, ok := settings.Lifetimes(); ok {
		st.SetLifetimes(l)
	}
	if _, others := m.SharedSettings.compare(settings, nil); len(others) > 0 && m.shared.progress.agreed() {
		m.Logger.Warn("another server has changed the settings of the cluster: restart this one with the same",
			"settings", strings.Join(others, "; "))
	}
}
