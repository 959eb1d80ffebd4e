package adapters

import "strings"

// listFrom is the first field that is a list: all of its values count, not just the first one.
const listFrom = fieldChoice

// maxListValues is the maximum number of values of a list that are kept.
const maxListValues = 100

// listEnd terminates each value of a list.
const listEnd = "\x00"

// isList reports whether a field is a list.
func (f field) isList() bool { return f >= listFrom }

// all returns the values of a field that is a list.
func (e *event) all(f field) []string {
	if e[f] == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(e[f], listEnd), listEnd)
}

// addTo adds a value to a list.
func (e *event) addTo(f field, value string) {
	if strings.Count(e[f], listEnd) < maxListValues {
		e[f] += strings.ReplaceAll(value, listEnd, "") + listEnd
	}
}

// running returns the number of background tasks that continue after the end of a turn.
func (e *event) running() (n int) {
	tasks, statuses := e.all(fieldBackgroundID), e.all(fieldBackgroundStatus)
	if len(statuses) != len(tasks) {
		return len(tasks)
	}
	for _, status := range statuses {
		if status == "running" || status == "pending" {
			n++
		}
	}
	return n
}

// input returns a key that is the same for calls with the same input.
func (e *event) input() string {
	if e[fieldInputHash] != "" {
		return e[fieldInputHash]
	}
	return e.first(fieldCommand, fieldPath, fieldPattern, fieldQuery, fieldURL)
}
