// Package servertest tests the server in process: the program's router over real handlers, store and journal, with a
// clock that the tests control (testing/synctest) and file systems that fail on purpose.
//
// The tests are methods of [Wiring], so that package main needs no test file but the one that passes its wiring to [Run].
// What can be observed from outside the process is tested in internal/e2e instead, with the built binary.
package servertest

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/devices"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/internal/watch"
	"github.com/kubeagents/kubeagents/store"
)

// Wiring is how package main puts a server together. Its fields are functions of package main.
type Wiring struct {
	Router     func(h *handlers.Handler, m *metrics.Metrics, cfg config.Config) http.Handler
	OpenAccess func(cfg config.Config, st *store.Store, m *metrics.Metrics, logger *slog.Logger) (handlers.Access, []*watch.Files, error)
	NewServer  func(handler http.Handler, encryption *tls.Config, logger *slog.Logger) *http.Server
	Replay     func(ctx context.Context, j *journal.Journal, st *store.Store, cfg config.Config, logger *slog.Logger) error
	Replicate  func(member *cluster.Member, st *store.Store, m *metrics.Metrics, logger *slog.Logger) (Replica, error)

	three bool // see [Wiring.onThree]
}

// Replica is what package main makes of a server of a cluster.
type Replica struct {
	Recorder   *recorder.Recorder
	Notifier   *notify.Notifier
	SetDevices func(*devices.Registry)                     // must be called before anything runs
	CatchUp    func(ctx context.Context)                   // runs beside the member
	Lead       func(ctx context.Context, box *cluster.Box) // for [cluster.Member.Run]
}

// Run runs every test of the package as a subtest of t: each method of Wiring whose name begins with Test.
func Run(t *testing.T, wiring Wiring) {
	methods := reflect.ValueOf(wiring)
	if all := reflect.TypeOf(&wiring).NumMethod(); all != methods.NumMethod() {
		t.Fatalf("%d tests would not run: their receiver must be Wiring, not *Wiring", all-methods.NumMethod())
	}
	for i := range methods.NumMethod() {
		name, found := strings.CutPrefix(methods.Type().Method(i).Name, "Test")
		if !found {
			continue
		}
		t.Run(name, methods.Method(i).Interface().(func(*testing.T)))
	}
}
