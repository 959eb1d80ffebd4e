package adapters

import "strings"

// listFrom is the first of the fields of which all values count, not just the first one.
const listFrom = fieldChoice

// mostInList is how many values of such a field are kept.
const mostInList = 100

// listEnd ends each value of a list.
const listEnd = "\x00"

// isList reports whether all values of a field count.
func (f field) isList() bool { return f >= listFrom }

// all returns the values of a field of which all count.
func (e *event) all(f field) []string {
	if e[f] == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(e[f], listEnd), listEnd)
}

// addTo adds a value to a list.
func (e *event) addTo(f field, value string) {
	if strings.Count(e[f], listEnd) < mostInList {
		e[f] += strings.ReplaceAll(value, listEnd, "") + listEnd
	}
}

// running returns how much goes on in the background after the end of a turn.
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

// input returns what is the same for calls that are made with the same input.
func (e *event) input() string {
	if e[fieldInputHash] != "" {
		return e[fieldInputHash]
	}
	return e.first(fieldCommand, fieldPath, fieldPattern, fieldQuery, fieldURL)
}
