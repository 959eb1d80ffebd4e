package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// backupStall is how long a server may send nothing of a backup. It is longer than a server waits for its disk.
const backupStall = 2 * time.Minute

var errStalled = errors.New("it has sent nothing for " + backupStall.String())

// Backup returns a backup of the server's state, as the tar archive that GET /api/backup sends. The caller must close
// it. Reading fails if the server sends nothing for two minutes.
func (c *Client) Backup(ctx context.Context) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	download := &download{server: c.Server(), ctx: ctx, cancel: cancel}
	download.stall = time.AfterFunc(backupStall, func() { cancel(errStalled) })
	resp, err := c.send(ctx, "/api/backup", nil)
	download.stall.Stop()
	if err != nil {
		err = download.explain(err)
		cancel(nil)
		return nil, err
	}
	download.body = resp.Body
	return download, nil
}

// download is the body of a response that may take long as a whole, but must not stall.
type download struct {
	server string
	body   io.ReadCloser
	ctx    context.Context //nolint:containedctx // it is that of the request
	cancel context.CancelCauseFunc
	stall  *time.Timer // runs during requests and reads
}

// Read implements io.Reader.
func (d *download) Read(p []byte) (n int, err error) {
	d.stall.Reset(backupStall)
	defer d.stall.Stop()
	n, err = d.body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = d.explain(err)
	}
	return n, err
}

// explain returns an error that says that the server stalls, if that is the cause.
func (d *download) explain(err error) error {
	if errors.Is(context.Cause(d.ctx), errStalled) {
		return fmt.Errorf("%s does not answer: %w", d.server, errStalled)
	}
	return err
}

// Close implements io.Closer.
func (d *download) Close() error {
	d.stall.Stop()
	d.cancel(nil)
	return d.body.Close()
}
