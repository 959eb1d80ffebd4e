package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// A node that does not answer is given up after pingInterval * (maxPings + 1).
	pingInterval = 3 * time.Second
	maxPings     = 2
	// writeTimeout bounds one write. The client library holds its lock meanwhile.
	writeTimeout = 4 * time.Second
	// answerTimeout bounds one request to JetStream, and setupTimeout a step of the start with all of its requests: an
	// election takes up to 9 seconds.
	answerTimeout = 5 * time.Second
	setupTimeout  = 30 * time.Second
)

// Conn is a connection to NATS. It looks for another node whenever it loses one, for ever. Nothing is kept for later
// meanwhile: what is published without a connection fails at once. Its methods are safe for concurrent use.
type Conn struct {
	settings Settings
	logger   *slog.Logger
	nats     *nats.Conn
	js       jetstream.JetStream
	stop     context.CancelFunc // ends connecting

	mu     sync.Mutex // guards what follows
	node   string     // the node of the current or the last connection
	lost   time.Time  // when the connection was lost
	noted  string     // the last error that was logged since
	asking map[int]context.CancelCauseFunc
	asked  int
	resume func() // see OnReconnect
}

// Connect connects to one of the nodes, and checks that JetStream can be used there. Its error says in words what is
// in the way at each node, names the setting, and contains no secret. Files with credentials and certificates are read
// again for each new connection.
//
// ctx ends the attempt, not the connection: that is what Close does.
func Connect(ctx context.Context, settings Settings, logger *slog.Logger) (*Conn, error) {
	connecting, stop := context.WithCancel(context.WithoutCancel(ctx))
	c := &Conn{settings: settings, logger: logger, stop: stop, asking: map[int]context.CancelCauseFunc{}, resume: func() {}}
	if err := c.open(ctx, connecting); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) open(ctx, connecting context.Context) (err error) {
	defer context.AfterFunc(ctx, c.stop)()
	d := &dialer{ctx: connecting, connect: c.settings.Dial, before: c.rereadNKey}
	if d.connect == nil {
		d.connect = (&net.Dialer{}).DialContext
	}
	options, err := c.options(d)
	if err != nil {
		return err
	}
	if err := c.reach(options, d); err != nil {
		return cmp.Or(ctx.Err(), err)
	}
	if c.js, err = jetstream.New(c.nats, jetstream.WithDefaultTimeout(answerTimeout)); err != nil {
		return err
	}
	return c.checkJetStream(ctx)
}

// NATS returns the connection itself.
func (c *Conn) NATS() *nats.Conn { return c.nats }

// JetStream returns JetStream's interface on the connection.
func (c *Conn) JetStream() jetstream.JetStream { return c.js }

// Node returns the name of the node that the connection leads to, or led to before it was lost.
func (c *Conn) Node() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.node
}

// OnReconnect sets a function that is called after each new connection. It must return at once.
func (c *Conn) OnReconnect(resume func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resume = resume
}

// Close ends the connection.
func (c *Conn) Close() {
	c.stop()
	if c.nats != nil {
		c.nats.Close()
	}
}

// options returns the options of every connection, with which one can find out what is in its way.
func (c *Conn) options(d *dialer) ([]nats.Option, error) {
	s := c.settings
	options := []nats.Option{
		nats.Name("kubeagents"), nats.Timeout(dialTimeout), nats.SetCustomDialer(d),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(maxPings), nats.FlusherTimeout(writeTimeout),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}
	if s.CredsFile != "" {
		options = append(options, naming("NATS_CREDS_FILE", credentials(s.CredsFile)))
	}
	if s.NKeyFile != "" {
		option, err := nats.NkeyOptionFromSeed(s.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("NATS_NKEY_FILE: %w", err)
		}
		options = append(options, option)
	}
	if s.User != "" {
		if _, err := os.ReadFile(s.PasswordFile); err != nil {
			return nil, fmt.Errorf("NATS_PASSWORD_FILE: %w", err)
		}
		options = append(options, nats.UserInfoHandler(func() (string, string) { return s.User, c.password() }))
	}
	if s.CAFile != "" {
		options = append(options, naming("NATS_CA_FILE", nats.RootCAs(s.CAFile)))
	}
	if s.CertFile != "" {
		options = append(options, naming("NATS_CERT_FILE and NATS_KEY_FILE", nats.ClientCert(s.CertFile, s.KeyFile)))
	}
	for _, option := range options {
		var tried nats.Options
		if err := option(&tried); err != nil {
			return nil, err
		}
	}
	return options, nil
}

// credentials returns the option that reads a user's JWT and seed. It fails if the file can't be used.
func credentials(file string) nats.Option {
	return func(o *nats.Options) error {
		if err := nats.UserCredentials(file)(o); err != nil {
			return err
		}
		if _, err := o.UserJWT(); err != nil {
			return err
		}
		_, err := o.SignatureCB(nil)
		return err
	}
}

// naming adds the name of a setting to the errors of an option.
func naming(setting string, option nats.Option) nats.Option {
	return func(o *nats.Options) error {
		if err := option(o); err != nil {
			return fmt.Errorf("%s: %w", setting, err)
		}
		return nil
	}
}

// password reads the password. A file that can't be read gives none, which NATS then refuses.
func (c *Conn) password() string {
	text, err := os.ReadFile(c.settings.PasswordFile)
	if err != nil {
		c.logger.Error("can't read the password for NATS", "setting", "NATS_PASSWORD_FILE", "error", err)
	}
	return strings.TrimRight(string(text), "\r\n")
}

// rereadNKey takes over the public key of the file of a seed, in case that it has changed; the library itself reads
// only the seed again. It is called by the library while it connects, under its lock.
func (c *Conn) rereadNKey() {
	c.mu.Lock()
	connection := c.nats
	c.mu.Unlock()
	if connection == nil || c.settings.NKeyFile == "" {
		return
	}
	if option, err := nats.NkeyOptionFromSeed(c.settings.NKeyFile); err == nil {
		_ = option(&connection.Opts)
	}
}

// reach makes the connection. If it can't, it tries each node alone, since the library only reports one error.
func (c *Conn) reach(options []nats.Option, d *dialer) error {
	lasting := append(options[:len(options):len(options)],
		nats.MaxReconnects(-1), nats.CustomReconnectDelay(reconnectDelay), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectBufSize(-1), nats.ReconnectOnFlusherError(), nats.NoCallbacksAfterClientClose(),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.disconnected(err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.failed(err) }),
		nats.ReconnectHandler(func(connection *nats.Conn) { c.reconnected(connection.ConnectedServerName()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.noticed(err) }))
	connection, err := nats.Connect(strings.Join(c.settings.URLs, ","), lasting...)
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.nats, c.node = connection, connection.ConnectedServerName()
		return nil
	}
	alone := append(options[:len(options):len(options)], nats.NoReconnect())
	var causes []string
	for _, url := range c.settings.URLs {
		connection, err := nats.Connect(url, alone...)
		if err == nil {
			connection.Close()
			continue
		}
		if errors.Is(err, nats.ErrNoServers) { // which is all that the library says if nobody listens
			err = errors.Join(d.lastFailure(), err)
		}
		causes = append(causes, hostOf(url)+": "+c.explain(err))
	}
	if len(causes) == 0 { // they are reachable after all
		causes = []string{c.explain(err)}
	}
	return fmt.Errorf("can't connect to NATS: %s", strings.Join(causes, "; "))
}

// reconnectDelay returns how long to wait after every node was tried the given number of times: up to 5 seconds, of
// which a random half is there so that servers don't come back all at once.
func reconnectDelay(attempts int) time.Duration {
	d := min(5*time.Second, 200*time.Millisecond<<min(attempts, 10))
	return d/2 + rand.N(d/2)
}

func (c *Conn) disconnected(err error) {
	if err == nil {
		err = errors.New("the node closed the connection")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost, c.noted = time.Now(), ""
	c.logger.Warn("lost the connection to NATS", "node", c.node, "error", c.explain(err))
}

// failed logs why a new connection fails if waiting does not help.
func (c *Conn) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if text := c.explain(err); needsOperator(err) && text != c.noted {
		c.noted = text
		c.logger.Error("can't connect to NATS", "error", text)
	}
}

func (c *Conn) reconnected(node string) {
	c.mu.Lock()
	c.logger.Info("connected to NATS again", "node", node, "after", time.Since(c.lost).Round(time.Millisecond))
	c.node, c.noted = node, ""
	resume := c.resume
	c.mu.Unlock()
	resume()
}

// noticed handles an error that belongs to no request of the client library.
func (c *Conn) noticed(err error) {
	switch {
	case needsOperator(err):
		c.failed(err)
	case errors.Is(err, nats.ErrPermissionViolation):
		denied := errors.New(c.explain(err))
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, cancel := range c.asking {
			cancel(denied)
		}
		c.note(denied.Error())
	default:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.note(c.explain(err))
	}
}

// note logs an error, unless it was the last one to be logged. The caller holds c.mu.
func (c *Conn) note(text string) {
	if text != c.noted {
		c.noted = text
		c.logger.Warn("NATS reports an error", "node", c.node, "error", text)
	}
}

// checkJetStream fails if JetStream can't be used with this connection's account and permissions.
func (c *Conn) checkJetStream(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	err := c.ask(ctx, func(ctx context.Context) error {
		_, err := c.js.AccountInfo(ctx)
		return err
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return errors.New("JetStream is not enabled on the NATS servers: add a block jetstream to their configuration")
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return errors.New("JetStream is not enabled for the account in which NATS puts this server: " +
			"enable it for that account, or use credentials of another one")
	default:
		return fmt.Errorf("JetStream does not answer at NATS node %s: %w", c.Node(), err)
	}
}

// ask makes a request to JetStream, and repeats it until ctx ends if JetStream can't answer now. If the node denies the
// request, the error says so.
func (c *Conn) ask(ctx context.Context, request func(context.Context) error) error {
	for {
		err := c.askOnce(ctx, request)
		if err == nil || !temporary(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last error: %w)", ctx.Err(), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// askOnce makes one request. The library does not tell a request that was denied from one that nobody answered: the
// denial arrives by itself.
func (c *Conn) askOnce(ctx context.Context, request func(context.Context) error) error {
	ctx, stop := context.WithTimeout(ctx, answerTimeout)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.mu.Lock()
	c.asked++
	id := c.asked
	c.asking[id] = cancel
	c.mu.Unlock()
	err := request(ctx)
	c.mu.Lock()
	delete(c.asking, id)
	c.mu.Unlock()
	if errors.Is(err, context.Canceled) {
		return context.Cause(ctx)
	}
	return err
}
