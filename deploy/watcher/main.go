// Kubeagents-watcher reports the Pods and Jobs of a Kubernetes cluster that carry the label kubeagents.dev/agent to a
// KubeAgents server: what each one does, why it waits for somebody, and why it failed.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	"github.com/kubeagents/kubeagents/deploy/watcher/internal/report"
	"github.com/kubeagents/kubeagents/deploy/watcher/internal/watch"
)

// The program's exit statuses.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2 // invalid setting or argument
)

const (
	leaseName = "kubeagents-watcher"

	// flushTimeout is how long the reports that wait may take to be sent when the watcher stops.
	flushTimeout = 5 * time.Second

	// requestsPerSecond limits the requests to the API server. Only Leases and questions about single Pods count; watches
	// don't.
	requestsPerSecond = 20
)

// release is set by the linker for a release.
var release string

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && release == "" && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return cmp.Or(release, "devel")
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process immediately
	os.Exit(run(ctx, os.Args[1:], env.ToMap(os.Environ()), os.Stdout, os.Stderr))
}

// run runs the command in args until it finishes or ctx is done, and returns the exit status.
func run(ctx context.Context, args []string, environment map[string]string, stdout, stderr io.Writer) int {
	switch {
	case len(args) == 1 && args[0] == "version":
		fmt.Fprintln(stdout, version()) //nolint:errcheck // there is nowhere else to report it
		return exitOK
	case len(args) > 0:
		fmt.Fprintln(stderr, "usage: kubeagents-watcher [version]\n\nWithout an argument, it watches. docs/watcher.md lists its settings, which are environment variables.") //nolint:errcheck // as above
		return exitUsage
	}
	s, err := loadSettings(environment)
	if err != nil {
		fmt.Fprintf(stderr, "kubeagents-watcher: %v\n", err) //nolint:errcheck // as above
		return exitUsage
	}
	logger := newLogger(s, stderr)
	config, err := clusterConfig(s)
	if err != nil {
		logger.Error("no cluster", "error", err)
		return exitUsage
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		logger.Error("no cluster", "error", err)
		return exitUsage
	}
	if err := serve(ctx, s, client, usualTiming, logger); err != nil {
		logger.Error("stopped", "error", err)
		return exitFailure
	}
	return exitOK
}

// newLogger returns the logger. What client-go logs itself is left out: the watcher says the same in its own words.
func newLogger(s settings, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: s.LogLevel.Level}
	logger := slog.New(slog.NewTextHandler(w, options))
	if s.LogFormat == "json" {
		logger = slog.New(slog.NewJSONHandler(w, options))
	}
	quiet := logr.Discard()
	if s.LogLevel.Level <= slog.LevelDebug {
		quiet = logr.FromSlogHandler(logger.Handler())
	}
	klog.SetLogger(quiet)
	utilruntime.ErrorHandlers = nil
	return logger
}

// clusterConfig returns how to reach the API server.
func clusterConfig(s settings) (config *rest.Config, err error) {
	if s.Kubeconfig != "" {
		if config, err = clientcmd.BuildConfigFromFlags("", s.Kubeconfig); err != nil {
			return nil, fmt.Errorf("KUBECONFIG: %w", err)
		}
	} else if config, err = rest.InClusterConfig(); err != nil {
		return nil, fmt.Errorf("%w: outside of a cluster, set KUBECONFIG", err)
	}
	config.UserAgent = "kubeagents-watcher/" + version()
	config.QPS, config.Burst = requestsPerSecond, 2*requestsPerSecond
	return config, nil
}

// timing is that of the Lease: how long it holds, how long its holder tries to renew it, and how often.
type timing struct{ duration, deadline, retry time.Duration }

// usualTiming is that of Kubernetes' own controllers. A replica that can't renew the Lease stops sending five seconds
// before another one may take it.
var usualTiming = timing{15 * time.Second, 10 * time.Second, 2 * time.Second}

// watcher is what the program consists of.
type watcher struct {
	settings settings
	logger   *slog.Logger
	lease    timing
	tracker  *watch.Tracker
	source   *watch.Source
	metrics  *metrics
	leading  sync.Mutex // held while this replica leads: one term ends before the next begins
}

// serve watches the cluster until ctx is done.
func serve(ctx context.Context, s settings, client kubernetes.Interface, lease timing, logger *slog.Logger) (err error) {
	w := &watcher{settings: s, logger: logger, lease: lease, tracker: watch.NewTracker(s.TTL, logger)}
	w.metrics = newMetrics(w.tracker)
	if w.source, err = watch.NewSource(client, s.Namespaces, w.tracker, logger); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port)))
	if err != nil {
		return fmt.Errorf("PORT: %w", err)
	}
	var background sync.WaitGroup
	defer background.Wait()
	running, end := context.WithCancel(context.Background())
	defer end()
	server := &http.Server{Handler: w.routes(ctx), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn)}
	background.Go(func() { server.Serve(listener) }) //nolint:errcheck // it ends when the server is closed
	defer server.Close()                             //nolint:errcheck // nobody reads any more
	logger.Info("watching", "server", s.Server.String(), "namespaces", cmp.Or(strings.Join(s.Namespaces, ","), "all"), "address", listener.Addr().String(), "version", version())

	background.Go(func() { w.source.Run(running) })
	if !w.source.WaitForSync(ctx) {
		return nil
	}
	logger.Info("ready")
	if s.PodNamespace == "" {
		w.lead(ctx, running)
		logger.Info("stopped")
		return nil
	}
	return w.compete(ctx, client)
}

// compete leads whenever this replica holds the Lease, until ctx is done. It gives the Lease up after its last report.
func (w *watcher) compete(ctx context.Context, client kubernetes.Interface) error {
	name := w.settings.PodName
	if name == "" {
		name, _ = os.Hostname()
	}
	holding, release := context.WithCancel(context.Background())
	defer release()
	stop := context.AfterFunc(ctx, func() {
		if w.metrics.queue.Load() == nil { // on standby
			release()
		}
	})
	defer stop()
	for holding.Err() == nil {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Namespace: w.settings.PodNamespace, Name: leaseName},
				Client: client.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: name}},
			LeaseDuration: w.lease.duration, RenewDeadline: w.lease.deadline, RetryPeriod: w.lease.retry, ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(term context.Context) {
					w.lead(ctx, term)
					if ctx.Err() != nil {
						release()
					}
				},
				OnStoppedLeading: func() {},
				OnNewLeader: func(leader string) {
					w.logger.Info("a replica leads", "leader", leader, "this", leader == name)
				},
			},
		})
		if err != nil {
			return err
		}
		elector.Run(holding)
	}
	w.leading.Lock() // until the last term is over
	defer w.leading.Unlock()
	w.logger.Info("stopped")
	return nil
}

// lead reports until ctx is done, and then sends what waits, within a few seconds. It stops sending at once when term is
// done, because another replica may lead.
func (w *watcher) lead(ctx, term context.Context) {
	w.leading.Lock()
	defer w.leading.Unlock()
	if term.Err() != nil {
		return
	}
	queue := report.NewQueue(report.DefaultCapacity)
	w.metrics.lead(queue)
	defer w.metrics.lead(nil)
	s := w.settings
	sender := &report.Sender{Queue: queue, Client: report.NewClient(s.Server.URL, s.Token, s.TokenFile, s.CAFile), Counts: w.metrics, Logger: w.logger}
	sending, cut := context.WithCancelCause(term)
	defer cut(nil)
	seeing, blind := context.WithCancel(term)
	defer blind()
	flushed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		blind()
		close(flushed)
		time.AfterFunc(flushTimeout, func() { cut(errors.New("the time to send the rest is over")) })
	})
	defer stop()
	var parts sync.WaitGroup
	parts.Go(func() { w.tracker.Lead(seeing, queue) })
	sender.Run(sending, flushed)
	blind()
	parts.Wait()
	if ctx.Err() == nil {
		w.logger.Warn("it lost the Lease, and reports no more", "waiting", queue.Length())
		return
	}
	if n := queue.Length(); n > 0 {
		w.logger.Warn("stopped before the server took everything; what the next replica or run sees is reported", "waiting", n)
	}
}

// routes returns the handler of probes and metrics. After ctx, the watcher is not ready.
func (w *watcher) routes(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health/live", func(rw http.ResponseWriter, _ *http.Request) { answer(rw, "") })
	mux.HandleFunc("GET /health/ready", func(rw http.ResponseWriter, _ *http.Request) {
		if ctx.Err() != nil {
			answer(rw, "the watcher is stopping")
			return
		}
		answer(rw, w.source.Fault())
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(w.metrics.registry, promhttp.HandlerOpts{}))
	return mux
}

// answer answers a probe.
func answer(w http.ResponseWriter, fault string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if fault != "" {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, fault) //nolint:errcheck // fails only if the client is gone
		return
	}
	fmt.Fprintln(w, "ok") //nolint:errcheck // as above
}
