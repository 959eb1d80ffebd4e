package bench

import (
	"bytes"
	"io"
	"os"
	"sync"
)

// syncedLog is a file to which many append at once, each waiting until it is synced. What comes while it is written and synced is
// written and synced together, next.
type syncedLog struct {
	file *os.File
	some chan struct{} // tells that a group waits

	mu   sync.Mutex
	next *syncedGroup // nil where nothing waits
}

// syncedGroup is what is written and synced together.
type syncedGroup struct {
	body bytes.Buffer
	done chan struct{}
	err  error // not before done is closed
}

// synced returns a function that appends what it reads to a file, and returns once that is synced.
func synced(path string) (keep func(io.Reader) error, err error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	log := &syncedLog{file: file, some: make(chan struct{}, 1)}
	go log.run()
	return log.keep, nil
}

func (l *syncedLog) keep(from io.Reader) error {
	body, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	g := l.join(body)
	<-g.done
	return g.err
}

// join adds to the group that is written next.
func (l *syncedLog) join(body []byte) *syncedGroup {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		l.next = &syncedGroup{done: make(chan struct{})}
		l.some <- struct{}{}
	}
	l.next.body.Write(body)
	return l.next
}

func (l *syncedLog) take() *syncedGroup {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.next
	l.next = nil
	return g
}

// run writes and syncs until the process ends.
func (l *syncedLog) run() {
	for range l.some {
		g := l.take()
		if _, g.err = l.file.Write(g.body.Bytes()); g.err == nil {
			g.err = l.file.Sync()
		}
		close(g.done)
	}
}
