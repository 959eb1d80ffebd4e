// Package view says what a person should see of a Pod or a Job. Its functions depend on nothing but their arguments, so
// that every replica of the watcher, and every run of it, says the same about the same objects.
package view

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Status is the status of a session.
type Status string

// The statuses of a session. Pending means that somebody must do something: people are notified of it.
const (
	Running Status = "running"
	Pending Status = "pending"
	Success Status = "success"
	Failed  Status = "failed"
)

// Limits of what the server accepts, in characters.
const (
	maxMessage = 1_000
	maxContent = 10_000
)

// View is what a person should see of an object. Two views are the same for a person if they have the same Status and
// Message.
type View struct {
	Status  Status
	Message string
	Content string    // more about it, such as the whole termination message
	Since   time.Time // when it happened, by the object's own times
	Host    string    // the node; "" if there is none yet

	Ended bool // nothing will change any more
	Lost  bool // nobody will ever know what happened: the session is to become lost
	Vague bool // says less than an earlier view with the same status and time

	// Check is when the view may change although the object does not. Zero stands for never.
	Check time.Time

	// key identifies what the view says, if Status, Message and Since do not: see [View.ID].
	key string
}

// ID identifies what the view says about the object with a UID. It is the same in each run of the watcher, so that the
// server recognizes what it knows already. It does not depend on the resourceVersion of the object, which changes for
// reasons that nobody sees.
func (v View) ID(uid string) string {
	key := v.key
	if key == "" {
		key = fmt.Sprintf("%s\n%s\n%d", v.Status, v.Message, v.Since.Unix())
	}
	sum := sha256.Sum256([]byte(key))
	return uid + "/" + base64.RawURLEncoding.EncodeToString(sum[:12])
}

// Same reports whether a person sees the same in both views.
func (v View) Same(o View) bool {
	return v.Status == o.Status && v.Message == o.Message && v.Lost == o.Lost
}

// finish makes the texts of a view fit for the server.
func (v View) finish() View {
	v.Message, v.Content = cut(capitalized(strings.TrimPrefix(strings.TrimSpace(v.Message), "was ")), maxMessage), cut(v.Content, maxContent)
	return v
}

// cut returns at most n characters of s.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

func capitalized(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(first)) + s[size:]
}

// latest returns the last of some times.
func latest(times ...time.Time) (last time.Time) {
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// timeOf returns the time of an API object, zero if there is none.
func timeOf(t *metav1.Time) time.Time {
	if t == nil || t.Unix() == 0 { // a container that never ran started at time 0
		return time.Time{}
	}
	return t.Time
}

// duration is a length of time in words that fit into a sentence: 52s, 3m5s, 2h10m.
func duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return "less than a second"
	case d >= time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	text := d.Round(time.Second).String()
	if d >= time.Minute {
		text = strings.TrimSuffix(text, "m0s") + map[bool]string{true: "m"}[strings.HasSuffix(text, "m0s")]
	}
	return text
}
