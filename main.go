// KubeAgents is a status hub for AI agents. Agents POST what they are doing, and the server shows which ones are
// running, which ones wait for a person, which ones have failed and which ones have gone silent.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/go-chi/cors"
	"golang.org/x/time/rate"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/budget"
	"github.com/kubeagents/kubeagents/internal/certs"
	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/command"
	"github.com/kubeagents/kubeagents/internal/control"
	"github.com/kubeagents/kubeagents/internal/dashboard"
	"github.com/kubeagents/kubeagents/internal/datadir"
	"github.com/kubeagents/kubeagents/internal/devices"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/live"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/internal/push"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/internal/sockets"
	"github.com/kubeagents/kubeagents/internal/tracing"
	"github.com/kubeagents/kubeagents/internal/upkeep"
	"github.com/kubeagents/kubeagents/internal/version"
	"github.com/kubeagents/kubeagents/internal/watch"
	"github.com/kubeagents/kubeagents/store"
)

func main() {
	datadir.KeepPrivate()
	datadir.SurviveFileSizeLimit()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process immediately
	os.Exit(run(ctx, os.Args[1:], env.ToMap(os.Environ()), os.Stdin, os.Stdout, os.Stderr))
}

// run runs the command in args until it finishes or ctx is done, and returns the exit status.
func run(ctx context.Context, args []string, environment map[string]string, stdin io.Reader, stdout, stderr io.Writer) int {
	program := command.Program{Environment: environment, Stdin: stdin, Stdout: stdout, Stderr: stderr}
	program.Serve = func(ctx context.Context, cfg config.Config) error {
		logger, audit := newLogger(cfg, stderr)
		for _, warning := range config.Misspellings(environment) {
			logger.Warn(warning)
		}
		err := serve(ctx, cfg, logger, audit)
		if err != nil {
			logger.Error("stopped", "error", err.Error()) // as a string, because some errors would log a stack trace
		}
		return err
	}
	return program.Run(ctx, args)
}

// newLogger returns the server's logger and the audit logger. Both write to w in the same format, but the audit logger
// ignores the configured level: it always logs who was refused and what was removed.
func newLogger(cfg config.Config, w io.Writer) (logger, audit *slog.Logger) {
	return loggerFrom(cfg, w, cfg.LogLevel.Level), loggerFrom(cfg, w, slog.LevelInfo)
}

func loggerFrom(cfg config.Config, w io.Writer, level slog.Level) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// heapFloor is the size of an allocation whose only purpose is to enlarge the heap. The garbage collector runs each
// time the heap has doubled. With the small heap of a small fleet, that would be many times a second and cost a tenth
// of the throughput. The bytes are never touched, so they take no physical memory.
const heapFloor = 32 << 20

// serve sets up the server, runs it until ctx is done, and shuts it down. Requests that are open by then may finish
// within the shutdown timeout.
func serve(ctx context.Context, cfg config.Config, logger, audit *slog.Logger) (err error) {
	var floor [heapFloor >> 20][]byte
	for i := range floor {
		floor[i] = make([]byte, 1<<20) // in pieces: Go clears, and so uses, a whole one of which it used a part before
	}
	defer runtime.KeepAlive(floor)

	a, err := assemble(ctx, cfg, logger, audit)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // told to stop while it tried to join its cluster
	}
	if err != nil {
		return err
	}
	if a.journal != nil {
		defer func() { err = errors.Join(err, a.journal.Close()) }()
	}
	listeners, err := sockets.Listen(cfg.Addresses())
	if err != nil {
		return err
	}
	server := newServer(a.tracer.Trace(router(a.handler, a.metrics, cfg)), a.encryption, logger)

	var background sync.WaitGroup
	defer background.Wait()
	backgroundCtx, stopBackground := context.WithCancel(context.Background())
	defer stopBackground()

	hangup := make(chan os.Signal, 1)
	if len(a.watched) > 0 { // before the server is known to be running: until then, SIGHUP ends the process
		signal.Notify(hangup, syscall.SIGHUP)
		defer signal.Stop(hangup)
		background.Go(func() { watch.Run(backgroundCtx, a.watched, hangup) })
	}
	served := make(chan error, len(listeners))
	for _, listener := range listeners {
		background.Go(func() {
			if a.encryption != nil {
				served <- server.ServeTLS(listener, "", "")
				return
			}
			served <- server.Serve(listener)
		})
		logger.Info("serving", "url", urlOf(cfg, listener.Addr()), "address", listener.Addr().String(), "version", version.String())
	}
	logExposure(cfg, logger)
	if a.journal == nil {
		logger.Info("state is kept in memory only and is lost when the process ends: set DATA_DIR to keep it")
	} else if err := replay(ctx, a.journal, a.store, cfg, logger); err != nil {
		return errors.Join(err, server.Close())
	}
	a.handler.SetReady()
	membership := make(chan error, 1)
	if a.member != nil {
		background.Go(func() { membership <- a.member.Run(backgroundCtx, a.signIns, a.lead) })
	}
	logger.Info("ready")
	tellSystemd(daemon.SdNotifyReady, logger)
	if a.journal != nil && a.member == nil {
		defer func() { a.journal.MarkAlive(time.Now()) }()
	}
	for _, job := range a.jobs() {
		background.Go(func() { job(backgroundCtx) })
	}

	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case err := <-membership:
		return errors.Join(fmt.Errorf("the server must start again to go on with its cluster: %w", err), server.Close())
	case <-ctx.Done():
	}
	logger.Info("stopping", "timeout", cfg.ShutdownTimeout)
	tellSystemd(daemon.SdNotifyStopping, logger)
	a.handler.Drain()
	err = stop(server, a.handler, cfg.ShutdownTimeout, logger)
	closing, done := context.WithTimeout(context.Background(), time.Second)
	defer done()
	a.tracer.Close(closing)
	logger.Info("stopped", "accepted", a.metrics.Acknowledged())
	return err
}

// tellSystemd tells systemd what the server does, if systemd waits for it (Type=notify).
func tellSystemd(state string, logger *slog.Logger) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		logger.Warn("can't tell systemd what the server does", "state", state, "error", err)
	}
}

// app is what the server consists of.
type app struct {
	cfg        config.Config
	logger     *slog.Logger
	store      *store.Store
	metrics    *metrics.Metrics
	journal    *journal.Journal // nil if state is kept in memory only
	member     *cluster.Member  // nil if the server is not one of a cluster
	signIns    *access.SignIns  // nil without tokens
	recorder   *recorder.Recorder
	hub        *live.Hub
	notifier   *notify.Notifier
	devices    *devices.Registry
	push       *push.Service // nil if Web Push is off
	handler    *handlers.Handler
	tracer     *tracing.Tracer // nil if nothing is traced
	encryption *tls.Config     // nil without TLS
	watched    []*watch.Files  // reloaded when they change
}

// assemble creates the parts of the server, each with the settings for it. Nothing runs yet.
func assemble(ctx context.Context, cfg config.Config, logger, audit *slog.Logger) (*app, error) {
	a := &app{cfg: cfg, logger: logger, store: store.New(store.Options{
		DefaultTTL:       time.Duration(cfg.DefaultTTLMinutes) * time.Minute,
		SessionRetention: cfg.SessionRetention,
		HistoryLimit:     cfg.HistoryLimit,
		HistoryMaxBytes:  int64(cfg.HistoryMaxBytes),
		MaxSessions:      cfg.MaxSessions,
		DataMaxBytes:     int64(cfg.DataMaxBytes),
		EventWindow:      cfg.EventWindow,
		Journaled:        cfg.DataDir != "",
		Replicated:       cfg.NATSURL != nil,
	})}
	a.metrics = metrics.New(a.store, version.String())
	guard, watched, err := openAccess(cfg, a.store, a.metrics, logger)
	if err != nil {
		return nil, err
	}
	guard.Audit = audit
	encryption, watchedCerts, err := openCerts(cfg, a.metrics, logger)
	if err != nil {
		return nil, err
	}
	a.encryption, a.watched = encryption, append(watched, watchedCerts...)
	if a.tracer, err = openTracer(logger); err != nil {
		return nil, err
	}
	page, err := dashboard.New(a.store)
	if err != nil {
		return nil, err
	}
	streamID, err := a.openRecorder(ctx)
	if err != nil {
		return nil, err
	}
	if a.member != nil && guard.Tokens != nil {
		guard.SignIns = access.NewSharedSignIns(guard.Tokens, a.member.SignIns())
	}
	a.signIns = guard.SignIns
	if a.notifier, watched, err = a.openNotifier(); err != nil {
		return nil, err
	}
	a.watched = append(a.watched, watched...)
	if a.devices, err = a.openDevices(guard.Tokens); err != nil {
		return nil, err
	}
	a.hub = live.New(a.store, a.metrics, live.Options{MaxSubscribers: cfg.MaxSubscribers, QueueSize: cfg.EventWindow / 2, Stream: streamID})
	responses, bodies := budget.New(int64(cfg.AnswersMaxBytes)), budget.New(int64(cfg.BodiesMaxBytes))
	a.metrics.AddAnswers(responses)
	a.metrics.AddBodies(bodies)
	a.handler = handlers.New(handlers.Options{
		Store: a.store, Recorder: a.recorder, Journal: a.journal, Hub: a.hub, Metrics: a.metrics, Logger: logger,
		Version: version.String(), Commit: version.Commit(), Access: guard, Responses: responses, Bodies: bodies, Capture: cfg.Capture,
		Dashboard: page, PublicURL: cfg.PublicURL.URL, Notifier: a.notifier, Devices: a.devices, Tracing: a.tracer != nil, HasRules: cfg.NotifyFile != "",
		Cluster: a.cluster(),
	})
	a.metrics.AddReady(a.handler.IsReady)
	a.metrics.AddLimits(limitsOf(cfg))
	return a, nil
}

// cluster returns what the handler needs of the cluster, nil if there is none.
func (a *app) cluster() handlers.Cluster {
	if a.member == nil {
		return nil
	}
	return a.member
}

// openRecorder opens the journal, and the recorder that writes to it. In a cluster, it returns what identifies the stream
// that the servers share.
func (a *app) openRecorder(ctx context.Context) (streamID string, err error) {
	if a.cfg.NATSURL == nil {
		if a.journal, err = openJournal(a.cfg, a.metrics, a.logger); err == nil {
			a.recorder = recorder.New(a.store, a.journal, a.metrics)
		}
		return "", err
	}
	name, err := serverName(a.cfg)
	if err != nil {
		return "", err
	}
	a.member, err = cluster.Join(ctx, cluster.MemberOptions{
		Settings: natsSettings(a.cfg), Server: name, Address: hostPort(a.cfg), Version: version.String(), Encoding: journal.MessageVersion,
		DataDir: a.cfg.DataDir, Stale: a.cfg.NATSStaleAfter, SharedSettings: sharedSettings(a.cfg), Logger: a.logger,
		Open: func() (*journal.Journal, error) { return openJournal(a.cfg, nil, a.logger) },
	})
	if err != nil {
		return "", err
	}
	a.journal = a.member.Journal
	a.metrics.AddJournal(a.journal)
	a.recorder = recorder.NewShared(a.store, a.journal, a.member.Log(a.store, a.metrics, a.applied))
	return a.member.StreamID(), nil
}

// applied passes on notes that a server of the cluster has written to everything that keeps notes.
func (a *app) applied(notes []journal.Note) {
	if a.push != nil {
		a.push.Applied(notes)
	}
	a.notifier.Applied(notes)
	a.devices.Applied(notes)
}

// catchUp reads the notes once the server has caught up with its cluster, and mutes before, for reads.
func (a *app) catchUp(ctx context.Context) {
	if err := a.notifier.LoadMutes(); err != nil {
		a.logger.Warn("mutes are not shown until the server has caught up with its cluster", "error", err.Error())
	}
	if a.member.AwaitCaughtUp(ctx) != nil {
		return
	}
	a.untilDone(ctx, "what the cluster keeps for notifications can't be read yet", func() error {
		err := a.notifier.Load()
		if a.push != nil {
			err = errors.Join(a.push.Load(a.notifier.Box), err)
		}
		return errors.Join(err, a.devices.Load())
	})
	a.untilDone(ctx, "this server does not learn yet who looks at the dashboard at others", func() error {
		return a.member.OnBroadcast(func(text []byte) {
			var use notify.Use
			if json.Unmarshal(text, &use) == nil {
				a.notifier.Shared(use)
			}
		})
	})
}

// catchUpPause is the time between two attempts to catch up.
const catchUpPause = time.Second

// untilDone calls do until it succeeds, or ctx is done. The first error is logged, with what it means.
func (a *app) untilDone(ctx context.Context, meaning string, do func() error) {
	for logged := false; ctx.Err() == nil; logged = true {
		err := do()
		if err == nil {
			return
		}
		if !logged {
			a.logger.Error(meaning, "error", err.Error())
		}
		select {
		case <-time.After(catchUpPause):
		case <-ctx.Done():
		}
	}
}

// lead does what one server of a cluster does for all of them, until ctx is done. What it writes to box is rejected once
// another server does it.
func (a *app) lead(ctx context.Context, box *cluster.Box) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() {
		if a.push != nil {
			if err := a.push.MakeKeys(box); err != nil {
				a.logger.Warn("the keys of Web Push could not be made", "error", err.Error())
			}
		}
		a.notifier.Act(ctx, box)
	})
	running.Go(func() { a.periodic().TrimHistory(ctx, a.cfg.HistoryRetention) })
}

// natsSettings returns the settings of the connection to NATS.
func natsSettings(cfg config.Config) cluster.Settings {
	return cluster.Settings{
		URLs: cfg.NATSURL, Stream: cfg.NATSStream, Replicas: cfg.NATSReplicas, CredsFile: cfg.NATSCredsFile, NKeyFile: cfg.NATSNKeyFile,
		User: cfg.NATSUser, PasswordFile: cfg.NATSPasswordFile, CAFile: cfg.NATSCAFile, CertFile: cfg.NATSCertFile, KeyFile: cfg.NATSKeyFile,
		MonitorURLs: cfg.NATSMonitorURL,
	}
}

// sharedSettings returns the settings that all servers of a cluster must have, since they shape the state.
func sharedSettings(cfg config.Config) cluster.SharedSettings {
	return cluster.SharedSettings{
		"CAPTURE":             string(cfg.Capture),
		"DATA_MAX_BYTES":      strconv.FormatInt(int64(cfg.DataMaxBytes), 10),
		"DEFAULT_TTL_MINUTES": strconv.Itoa(cfg.DefaultTTLMinutes),
		"HISTORY_LIMIT":       strconv.Itoa(cfg.HistoryLimit),
		"HISTORY_MAX_BYTES":   strconv.FormatInt(int64(cfg.HistoryMaxBytes), 10),
		"HISTORY_RETENTION":   cfg.HistoryRetention.String(),
		"MAX_SESSIONS":        strconv.Itoa(cfg.MaxSessions),
		"SESSION_RETENTION":   cfg.SessionRetention.String(),
	}
}

// serverName returns the name of this server among those of its cluster.
func serverName(cfg config.Config) (string, error) {
	if cfg.ServerName != "" {
		return cfg.ServerName, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("SERVER_NAME must be set, since the name of this machine can't be read: %w", err)
	}
	return name, nil
}

// hostPort returns the name of this machine and the port of this server.
func hostPort(cfg config.Config) string {
	host, _ := os.Hostname() //nolint:errcheck // without it, the port is left
	return net.JoinHostPort(host, strconv.Itoa(cfg.Port))
}

// limitsOf returns the limits in effect, by setting. 0 stands for none.
func limitsOf(cfg config.Config) map[string]int64 {
	limits := map[string]int64{
		"HISTORY_MAX_BYTES": int64(cfg.HistoryMaxBytes),
		"MAX_SESSIONS":      int64(cfg.MaxSessions),
		"MAX_SUBSCRIBERS":   int64(cfg.MaxSubscribers),
		"MAX_IN_FLIGHT":     int64(cfg.MaxInFlight),
		"ANSWERS_MAX_BYTES": int64(cfg.AnswersMaxBytes),
		"BODIES_MAX_BYTES":  int64(cfg.BodiesMaxBytes),
	}
	if cfg.DataDir != "" {
		limits["DATA_MAX_BYTES"] = int64(cfg.DataMaxBytes)
	}
	return limits
}

// periodic returns the periodic jobs.
func (a *app) periodic() upkeep.Jobs {
	return upkeep.Jobs{Store: a.store, Recorder: a.recorder, Metrics: a.metrics, Logger: a.logger}
}

// jobs returns what runs in the background while the server is ready. Each job ends with its context.
func (a *app) jobs() []func(context.Context) {
	jobs := []func(context.Context){
		a.hub.Run,
		func(ctx context.Context) { upkeep.Every(ctx, refreshEvery, func(time.Time) { a.devices.Refresh() }) },
	}
	if a.member != nil { // the cluster's stream and its lead do the rest
		jobs = append(jobs, a.catchUp)
	} else {
		jobs = append(jobs, a.notifier.Run, func(ctx context.Context) { a.periodic().Expire(ctx, a.cfg.ExpiryInterval) })
	}
	if a.journal == nil {
		return jobs
	}
	if a.member == nil {
		jobs = append(jobs,
			func(ctx context.Context) { upkeep.Every(ctx, aliveEvery, a.journal.MarkAlive) },
			func(ctx context.Context) { a.periodic().TrimHistory(ctx, a.cfg.HistoryRetention) })
	}
	return append(jobs, a.periodic().MeasureDisk, func(ctx context.Context) {
		serveControl(ctx, a.journal, a.handler.IsReady, datadir.Find(a.cfg.DataDir), a.logger)
	})
}

// urlOf returns the URL of the server that listens on address: PUBLIC_URL if it is set, otherwise one that works on this
// machine.
func urlOf(cfg config.Config, address net.Addr) string {
	if cfg.PublicURL.URL != nil {
		return cfg.PublicURL.String() + "/"
	}
	scheme, host := "http", address.String()
	if cfg.TLSCertFile != "" {
		scheme = "https"
	}
	if at, err := netip.ParseAddrPort(host); err == nil && (at.Addr().IsLoopback() || at.Addr().IsUnspecified()) {
		host = fmt.Sprintf("localhost:%d", at.Port())
	}
	return scheme + "://" + host + "/"
}

// openAccess returns the access configuration, and the files to watch for changes to it.
func openAccess(cfg config.Config, st *store.Store, m *metrics.Metrics, logger *slog.Logger) (guard handlers.Access, watched []*watch.Files, err error) {
	limits := access.Limits{Reports: access.Rate(cfg.RateLimitReports), Reads: access.Rate(cfg.RateLimitReads), TeamShare: cfg.TeamShare}
	guard = handlers.Access{Limits: access.NewRateLimiter(limits), MaxInFlight: cfg.MaxInFlight, Proxies: cfg.TrustedProxies,
		Origins: cfg.CORSAllowedOrigins.Lists}
	if cfg.WebhookSecret != "" {
		if guard.Signatures, err = access.NewSignatures(string(cfg.WebhookSecret), limits); err != nil {
			return guard, nil, err
		}
		guard.Deliveries = &access.Deliveries{}
	}
	if cfg.TokensFile == "" {
		guard.Hosts = ownHosts(cfg)
		return guard, nil, nil
	}
	guard.Tokens, guard.SignIns = access.NewKeyring(st, limits), access.NewSignIns()
	files, err := watch.Open("tokens", []watch.File{{Setting: "TOKENS_FILE", Path: cfg.TokensFile}}, func(texts [][]byte) error {
		_, err := guard.Tokens.Load(texts[0])
		return err
	}, m, logger)
	if err != nil {
		return guard, nil, &config.SettingError{Err: err}
	}
	m.AddShares(guard.Tokens.Shares)
	return guard, []*watch.Files{files}, nil
}

// ownHosts returns the host names that a server without tokens answers to, in addition to the names that nobody can
// register.
func ownHosts(cfg config.Config) *access.Hosts {
	names, patterns := cfg.CORSAllowedOrigins.Hosts()
	if machine, err := os.Hostname(); err == nil {
		names = append(names, strings.ToLower(machine))
	}
	if cfg.PublicURL.URL != nil {
		names = append(names, cfg.PublicURL.Hostname())
	}
	return &access.Hosts{Names: names, Patterns: patterns}
}

// openCerts returns the TLS configuration and the certificate files to watch. Both are nil if the server does not use
// TLS.
func openCerts(cfg config.Config, m *metrics.Metrics, logger *slog.Logger) (*tls.Config, []*watch.Files, error) {
	if cfg.TLSCertFile == "" {
		return nil, nil, nil
	}
	named := []watch.File{{Setting: "TLS_CERT_FILE", Path: cfg.TLSCertFile}, {Setting: "TLS_KEY_FILE", Path: cfg.TLSKeyFile}}
	if cfg.TLSClientCAFile != "" {
		named = append(named, watch.File{Setting: "TLS_CLIENT_CA_FILE", Path: cfg.TLSClientCAFile})
	}
	var c certs.Certs
	files, err := watch.Open("certificates", named, func(texts [][]byte) error {
		return c.Load(texts[0], texts[1], append(texts, nil)[2])
	}, m, logger)
	if err != nil {
		return nil, nil, &config.SettingError{Err: err}
	}
	m.AddCertificate(c.Expires)
	return c.Config(), []*watch.Files{files}, nil
}

// openTracer returns what sends traces to a collector, nil if the environment names none.
func openTracer(logger *slog.Logger) (*tracing.Tracer, error) {
	enabled, err := tracing.Enabled(os.Getenv)
	if err != nil {
		return nil, &config.SettingError{Err: err}
	}
	if !enabled {
		return nil, nil
	}
	return tracing.Open(context.Background(), version.String(), logger)
}

// openNotifier returns the notifier, and the rules file to watch, nil without NOTIFY_FILE.
func (a *app) openNotifier() (*notify.Notifier, []*watch.Files, error) {
	o := notify.Options{Store: a.store, Metrics: a.metrics, Logger: a.logger, Link: func(key store.SessionKey) string { return linkTo(a.cfg, key) }, Box: a.box()}
	if a.member != nil {
		o.Now = a.member.Now
		o.Cluster = &notify.Cluster{Sender: a.member.LeaseHolder, Share: func(use notify.Use) {
			if text, err := json.Marshal(use); err == nil {
				a.member.Broadcast(text)
			}
		}}
	}
	notifier := notify.New(o)
	if a.cfg.NotifyFile == "" {
		return notifier, nil, nil
	}
	files, err := watch.Open("notification rules", []watch.File{{Setting: "NOTIFY_FILE", Path: a.cfg.NotifyFile}}, func(texts [][]byte) error {
		rules, err := notify.Parse(texts[0], notify.Resolve(os.LookupEnv))
		if err == nil {
			notifier.SetConfig(rules)
		}
		return err
	}, a.metrics, a.logger)
	if err != nil {
		return nil, nil, &config.SettingError{Err: err}
	}
	return notifier, []*watch.Files{files}, nil
}

// box returns where notes are kept, nil if state is kept in memory only.
func (a *app) box() notify.Box {
	switch {
	case a.member != nil:
		return a.member.Box()
	case a.journal != nil:
		return a.journal
	}
	return nil
}

// openDevices returns the devices that are notified by Web Push.
func (a *app) openDevices(tokens *access.Keyring) (registry *devices.Registry, err error) {
	o := devices.Options{Notifier: a.notifier, Logger: a.logger, Box: a.box(), Replicated: a.member != nil, Grant: func(token string) (*access.Grant, bool) {
		if tokens == nil {
			return nil, token == ""
		}
		grant := tokens.Known(token)
		return grant, grant != nil
	}}
	settings := push.Settings{Keys: a.cfg.VAPIDPrivateKey.Keys, Subject: string(a.cfg.VAPIDSubject), AllowPrivate: a.cfg.PushAllowPrivate}
	if a.member != nil {
		o.Now = a.member.Now
		a.push, o.Reason = push.New(settings)
	} else if a.push, o.Reason, err = push.Open(o.Box, settings); err != nil {
		return nil, err
	}
	if a.push != nil {
		o.Push = a.push
	}
	if a.member != nil {
		registry = devices.New(o)
	} else if registry, err = devices.Open(o); err != nil {
		return nil, err
	}
	if tokens != nil {
		tokens.AfterLoad(registry.Refresh)
	}
	return registry, nil
}

// refreshEvery is how often devices are checked for tokens that have expired. Until then, they are not notified either.
const refreshEvery = time.Hour

// linkTo returns the URL of a session on the dashboard, or of the dashboard itself for the zero key. It is "" without
// PUBLIC_URL.
func linkTo(cfg config.Config, key store.SessionKey) string {
	if cfg.PublicURL.URL == nil {
		return ""
	}
	link := cfg.PublicURL.String() + "/"
	if key != (store.SessionKey{}) {
		link += "?" + url.Values{"agent": {key.AgentID}, "session": {key.Topic}}.Encode()
	}
	return link
}

// logExposure logs who can use the server, and what others on the network can read.
func logExposure(cfg config.Config, logger *slog.Logger) {
	level := slog.LevelInfo
	if cfg.ReachableFromNetwork() {
		level = slog.LevelWarn
	}
	switch {
	case cfg.TokensFile == "" && cfg.ReachableFromNetwork():
		logger.Warn("ANYONE who can reach this address can " + allowed(cfg) + " everything: set TOKENS_FILE, or HOST=127.0.0.1")
	case cfg.TokensFile == "" && (cfg.PublicURL.URL != nil || len(cfg.TrustedProxies) > 0):
		logger.Warn("ANYONE who can reach the proxy in front of this server can " + allowed(cfg) + " everything: set TOKENS_FILE")
	case cfg.TokensFile == "":
		logger.Info("anyone on this machine can " + allowed(cfg) + " everything, and other machines can't connect: " +
			"set TOKENS_FILE to require tokens, HOST=0.0.0.0 to let other machines connect")
	case cfg.TLSCertFile == "" && len(cfg.TrustedProxies) == 0:
		logger.Log(context.Background(), level, "tokens cross the network unencrypted unless a proxy encrypts the connections: set TLS_CERT_FILE and TLS_KEY_FILE, or TRUSTED_PROXIES")
	}
	if cfg.TokensFile == "" && cfg.CORSAllowedOrigins.All() {
		logger.Warn("CORS_ALLOWED_ORIGINS is *, so any website that you visit can read everything on this server: name the allowed origins, or set TOKENS_FILE")
	}
}

// allowed says what clients may do on a server without tokens.
func allowed(cfg config.Config) string {
	if cfg.WebhookSecret != "" {
		return "read and remove" // reports need a signature
	}
	return "read, report and remove"
}

// openJournal opens the journal in the data directory. It returns nil if state is kept in memory only. m may be nil.
func openJournal(cfg config.Config, m *metrics.Metrics, logger *slog.Logger) (*journal.Journal, error) {
	if cfg.DataDir == "" {
		return nil, nil
	}
	dir, err := datadir.Prepare(cfg.DataDir, journal.Lock)
	if err != nil {
		return nil, datadir.Explain(cfg.DataDir, err)
	}
	if !datadir.KeepsOthersOut {
		logger.Warn("the permissions of DATA_DIR are not checked on this system: deny other users access to it", "directory", dir)
	}
	j, err := journal.Open(journal.Options{Dir: dir, Logger: logger})
	if err != nil {
		return nil, datadir.Explain(cfg.DataDir, err)
	}
	if m != nil {
		m.AddJournal(j)
	}
	return j, nil
}

// replay reads the journal into the store. It returns nil if ctx is done before the end of the journal.
func replay(ctx context.Context, j *journal.Journal, st *store.Store, cfg config.Config, logger *slog.Logger) error {
	started := time.Now()
	logged := started
	var done journal.Progress
	err := j.Replay(ctx, st, cfg.HistoryLimit, started, func(p journal.Progress) {
		done = p
		if time.Since(logged) >= time.Second {
			logged = time.Now()
			logger.Info("reading the journal", "sessions", p.Sessions, "records", p.Records)
		}
	})
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	logger.Info("read the journal", "directory", cfg.DataDir, "sessions", st.Summary().Sessions.Total, "records", done.Records,
		"took", time.Since(started).Round(time.Millisecond))
	if done.Extended > 0 {
		logger.Info("sessions whose TTL ran out while the server was down get more time to report", "sessions", done.Extended)
	}
	if done.InFuture > 0 {
		logger.Warn("the clock was set back: some sessions were last updated in the future; their TTL counts from now",
			"sessions", done.InFuture)
	}
	return nil
}

// aliveEvery is how often the journal records that the server is running.
const aliveEvery = time.Minute

// newServer returns a server that cuts off slow clients. encryption is its TLS configuration, nil for plain HTTP.
func newServer(handler http.Handler, encryption *tls.Config, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		TLSConfig:         encryption,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		HTTP2:             &http.HTTP2Config{WriteByteTimeout: 15 * time.Second},
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(rateLimited{logger.Handler(), rate.NewLimiter(10, 100)}, slog.LevelWarn),
	}
}

// rateLimited is a slog.Handler that drops log lines above a rate. Anyone who can connect can cause these lines, for
// example with failed TLS handshakes.
type rateLimited struct {
	slog.Handler
	lines *rate.Limiter
}

// Handle implements slog.Handler.
func (l rateLimited) Handle(ctx context.Context, line slog.Record) error {
	if !l.lines.Allow() {
		return nil
	}
	return l.Handler.Handle(ctx, line)
}

// stop shuts the server down within timeout. For the first tenth of it, at most a second, the server still accepts
// requests. Meanwhile its readiness probe fails and its responses close their connections, so that clients go
// elsewhere. Then the open requests may finish, and the rest is cut off.
func stop(server *http.Server, h *handlers.Handler, timeout time.Duration, logger *slog.Logger) error {
	drain := min(timeout/10, time.Second)
	time.Sleep(drain)
	ctx, cancel := context.WithTimeout(context.Background(), timeout-2*drain) // leaves a second drain period for the rest of the shutdown
	defer cancel()
	if err := errors.Join(server.Shutdown(ctx), h.WaitForStreams(ctx)); err != nil {
		logger.Warn("requests still open after the shutdown timeout were cut off", "error", err)
		return server.Close()
	}
	return nil
}

// serveControl executes the commands, such as backup, that an operator on this machine sends to the control socket. It
// returns when ctx is done.
func serveControl(ctx context.Context, j *journal.Journal, ready func() bool, dataDir string, logger *slog.Logger) {
	listener, err := control.Listen(dataDir)
	if err == nil {
		err = control.Serve(ctx, listener, func(dir string) error {
			err := j.Backup(dir)
			if err == nil {
				logger.Info("backup written", "directory", dir)
			} else {
				logger.Warn("backup failed", "directory", dir, "error", err.Error())
			}
			return err
		}, ready)
	}
	if err != nil {
		logger.Warn("the control socket can't be opened: kubeagents backup won't work, nor kubeagents health with TLS_CLIENT_CA_FILE", "error", err)
	}
}

// router returns a handler that serves every route. The middleware of a route shows what it requires of the client.
func router(h *handlers.Handler, m *metrics.Metrics, cfg config.Config) http.Handler {
	r := chi.NewRouter()
	r.Use(h.Observe)
	r.Use(h.TrustProxies)
	r.Use(h.StripPrefix)
	r.Use(handlers.EncodedPath)
	r.Use(allowOrigins(cfg))
	r.Use(middleware.GetHead)
	r.NotFound(h.CheckHost(h.Handle(h.NotFound)).ServeHTTP)
	r.MethodNotAllowed(h.CheckHost(h.Handle(h.MethodNotAllowed)).ServeHTTP)

	r.Get("/health", h.Handle(h.Health))
	r.Get("/health/live", h.Handle(h.Live))
	r.Get("/health/ready", h.Handle(h.Ready))

	r.Group(func(r chi.Router) {
		r.Use(h.CheckHost)
		r.With(h.Require(access.Report), h.DeduplicateWebhooks).Post("/webhook/status", h.AfterReplay(h.Webhook))
		r.With(h.Require(access.Report), h.DeduplicateWebhooks).Post("/webhook/{client}", h.AfterReplay(h.Hook))
		r.With(h.CheckOrigin, h.Identify(access.Read, access.Report), h.LimitResponseMemory, handlers.BufferResponse).Post("/mcp", h.AfterReplay(h.MCP()))
		r.With(h.Require(access.Read)).Get("/api/events", h.ReadAfter(h.Events))
		if !cfg.MetricsPublic {
			r.With(h.Require(access.Read), h.RequireEveryAgent, handlers.BufferResponse).Method(http.MethodGet, "/metrics", m.Handler())
		}
	})
	r.Group(func(r chi.Router) { // routes that need no token
		r.Use(h.CheckHost, h.LimitStrangers)
		if cfg.MetricsPublic {
			r.With(handlers.BufferResponse).Method(http.MethodGet, "/metrics", m.Handler())
		}
		r.With(handlers.Compress).Get("/", h.Handle(h.Page)) // shows the sign-in form to clients without access.Read
		r.Get("/favicon.svg", h.Handle(h.Dashboard.Icon))
		r.Get("/manifest.webmanifest", h.Handle(h.Dashboard.AppFile))
		r.Get("/icons/{name}", h.Handle(h.Dashboard.AppFile))
		r.Get("/sw.js", h.Handle(h.Dashboard.AppFile))
		r.With(handlers.Compress).Get("/connect/assets/*", h.Handle(h.Dashboard.PublicAsset))
		r.With(handlers.Compress).Get("/connect", h.Handle(h.Connect))
		r.Get("/connect/{client}", h.Handle(h.ConnectClient))
		r.With(h.SameOrigin).Post("/sign-in", h.Handle(h.SignIn))
		r.With(h.SameOrigin).Post("/sign-out", h.Handle(h.SignOut))
	})
	r.Group(func(r chi.Router) {
		r.Use(h.CheckHost, h.Require(access.Read), h.LimitResponseMemory, handlers.Compress)
		r.Get("/api/agents", h.Read(h.Agents))
		r.Get("/api/agents/{agent_id}", h.Read(h.WithoutParameters(h.Agent)))
		r.Get("/api/agents/{agent_id}/status", h.Read(h.AgentStatus))
		r.Get("/api/agents/{agent_id}/sessions", h.Read(h.AgentSessions))
		r.Get("/api/agents/{agent_id}/sessions/{session_topic}", h.Read(h.Session))
		r.Get("/api/sessions", h.Read(h.Sessions))
		r.Get("/api/summary", h.Read(h.WithoutParameters(h.Summary)))
		r.Get("/api/notifications", h.ReadAfter(h.WithoutParameters(h.Notifications)))
		r.Get("/api/notifications/mutes", h.ReadAfter(h.WithoutParameters(h.Mutes)))
		r.Get("/api/notifications/devices", h.ReadAfter(h.WithoutParameters(h.Devices)))
		r.Get("/openapi.yaml", h.Handle(h.OpenAPI))
		r.Get("/assets/*", h.Handle(h.Dashboard.Asset))
	})
	r.Group(func(r chi.Router) { // of the client's own devices
		r.Use(h.CheckHost, h.SameOrigin, h.RequireOwner)
		r.Post("/api/notifications/devices", h.AfterReplay(h.WithoutParameters(h.AddDevice)))
		r.Delete("/api/notifications/devices/{device_id}", h.AfterReplay(h.WithoutParameters(h.RemoveDevice)))
		r.Post("/api/notifications/devices/{device_id}/test", h.AfterReplay(h.WithoutParameters(h.TestDevice)))
		r.Post("/api/presence", h.AfterReplay(h.WithoutParameters(h.Presence)))
	})
	r.Group(func(r chi.Router) {
		r.Use(h.CheckHost, h.SameOrigin, h.Require(access.Acknowledge))
		r.Post("/api/acknowledge", h.AfterReplay(h.WithoutParameters(h.Acknowledge)))
		r.Post("/api/agents/{agent_id}/sessions/{session_topic}/acknowledge", h.AfterReplay(h.WithoutParameters(h.AcknowledgeSession)))
	})
	r.Group(func(r chi.Router) {
		r.Use(h.CheckHost, h.SameOrigin)
		r.With(h.RequireMuting).Post("/api/notifications/mutes", h.AfterReplay(h.WithoutParameters(h.Mute)))
		r.With(h.RequireMuting).Delete("/api/notifications/mutes/{mute_id}", h.AfterReplay(h.WithoutParameters(h.Unmute)))
		r.With(h.RequireManaging).Post("/api/notifications/test", h.AfterReplay(h.WithoutParameters(h.TestDestination)))
	})
	r.Group(func(r chi.Router) {
		r.Use(h.CheckHost, h.SameOrigin, h.Require(access.Admin))
		r.Delete("/api/agents/{agent_id}", h.AfterReplay(h.WithoutParameters(h.RemoveAgent)))
		r.Delete("/api/agents/{agent_id}/sessions/{session_topic}", h.AfterReplay(h.WithoutParameters(h.RemoveSession)))
		r.With(h.RequireEveryAgent).Post("/api/snapshots", h.AfterReplay(h.WithoutParameters(h.Snapshot)))
		r.With(h.RequireEveryAgent).Get("/api/backup", h.AfterReplay(h.WithoutParameters(h.Backup)))
		r.With(h.RequireEveryAgent).Get("/debug/pprof/*", h.Handle(h.Profile))
	})
	return r
}

// allowOrigins lets pages of the allowed origins read responses. They may send DELETE only if the server requires
// tokens, because browsers never send a token by themselves.
func allowOrigins(cfg config.Config) func(http.Handler) http.Handler {
	methods := []string{http.MethodGet, http.MethodHead, http.MethodPost}
	if cfg.TokensFile != "" {
		methods = append(methods, http.MethodDelete)
	}
	return cors.Handler(cors.Options{
		AllowedOrigins: cfg.CORSAllowedOrigins,
		AllowedMethods: methods,
		AllowedHeaders: []string{"*"},
		ExposedHeaders: []string{"ETag", "Link", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After",
			"WWW-Authenticate", "X-Data-Age", "X-Event-Id", "X-Ignored-Fields", "X-Ignored-Parameters", "X-Position", "X-Request-Id"},
		AllowCredentials: !cfg.CORSAllowedOrigins.All(),
		MaxAge:           600,
	})
}
