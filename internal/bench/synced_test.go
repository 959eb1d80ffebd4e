package bench

import (
	"bytes"
	"io"
	"os"
	"sync"
)

// syncedLog is a file that many goroutines append to, each waiting until its data is synced. Data that arrives during a
// write and sync is written and synced together in the next one.
type syncedLog struct {
	file    *os.File
	waiting chan struct{} // signals that a group is waiting

	mu   sync.Mutex
	next *syncedGroup // nil if nothing is waiting
}

// syncedGroup is data that is written and synced together.
type syncedGroup struct {
	body bytes.Buffer
	done chan struct{}
	err  error // set before done is closed
}

// synced returns a function that appends what it reads to a file, and returns once that is synced.
func synced(path string) (write func(io.Reader) error, err error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	log := &syncedLog{file: file, waiting: make(chan struct{}, 1)}
	go log.run()
	return log.write, nil
}

func (l *syncedLog) write(from io.Reader) error {
	body, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	g := l.join(body)
	<-g.done
	return g.err
}

// join adds body to the group that is written next.
func (l *syncedLog) join(body []byte) *syncedGroup {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		l.next = &syncedGroup{done: make(chan struct{})}
		l.waiting <- struct{}{}
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

// run writes and syncs groups until the process ends.
func (l *syncedLog) run() {
	for range l.waiting {
		g := l.take()
		if _, g.err = l.file.Write(g.body.Bytes()); g.err == nil {
			g.err = l.file.Sync()
		}
		close(g.done)
	}
}
