package natstest

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// nowhere is what a node tells others to reach it at. Nothing listens there, so that every connection between two
// nodes goes through the link made for the two.
const nowhere = "127.0.0.1:1"

// embedded is a NATS server in the test's process.
type embedded struct {
	settings  nodeSettings
	configure []func(*server.Options)
	server    *server.Server
	lines     *lines
}

func newEmbedded(settings nodeSettings, configure []func(*server.Options)) *embedded {
	return &embedded{settings: settings, configure: configure, lines: &lines{}}
}

func (e *embedded) options() *server.Options {
	o := &server.Options{
		ServerName: e.settings.name,
		Host:       "127.0.0.1", Port: server.RANDOM_PORT,
		HTTPHost: "127.0.0.1", HTTPPort: server.RANDOM_PORT,
		ClientAdvertise: e.settings.clientAddress,
		NoSigs:          true, NoLog: true,
		JetStream: true, StoreDir: e.settings.dir, JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 4 << 30,
		SyncAlways: true,
	}
	if len(e.settings.routes) > 0 {
		o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT, Advertise: nowhere}
	}
	for _, address := range e.settings.routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: address})
	}
	for _, change := range e.configure {
		change(o)
	}
	return o
}

func (e *embedded) start() (addresses, error) {
	s, err := server.NewServer(e.options())
	if err != nil {
		return addresses{}, err
	}
	s.SetLoggerV2(e.lines, false, false, false)
	s.Start()
	e.server = s
	if !s.ReadyForConnections(patience) {
		return addresses{}, errors.New("the node did not listen in time:\n" + e.log())
	}
	a := addresses{client: s.Addr().String(), monitor: s.MonitorAddr().String()}
	if route := s.ClusterAddr(); route != nil {
		a.route = route.String()
	}
	return a, nil
}

func (e *embedded) kill() {
	e.server.Shutdown()
	e.server.WaitForShutdown()
}

func (e *embedded) log() string {
	return e.lines.String()
}

// lines keeps what a server logs, from a notice upwards.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) add(level, format string, v []any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(&l.text, time.Now().Format("15:04:05.000")+" "+level+" "+format+"\n", v...)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) Noticef(format string, v ...any) { l.add("NOTICE", format, v) }
func (l *lines) Warnf(format string, v ...any)   { l.add("WARN", format, v) }
func (l *lines) Errorf(format string, v ...any)  { l.add("ERROR", format, v) }
func (l *lines) Fatalf(format string, v ...any)  { l.add("FATAL", format, v) }
func (l *lines) Debugf(string, ...any)           {}
func (l *lines) Tracef(string, ...any)           {}
