package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"time"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/internal/backups"
	"github.com/kubeagents/kubeagents/internal/client"
	"github.com/kubeagents/kubeagents/internal/control"
	"github.com/kubeagents/kubeagents/internal/datadir"
	"github.com/kubeagents/kubeagents/internal/journal"
)

var backup = command{
	name:     "backup",
	argument: "DIR",
	summary:  "copy the state of a running server to the new directory DIR",
	help: "Without -server, it is the server on this machine with the same DATA_DIR. Run the command as the server's user.\n" +
		"With -server, the command fetches the backup over HTTP. The token needs the scope admin. It is in the file of\n" +
		"-token-file or in the variable " + tokenVariable + ". The exit status is 3 if the server can't be reached, or refuses.\n" +
		"With -keep, DIR is a folder of backups, which must exist. The backup in it is named for the time in UTC.\n" +
		"To restore a backup, run kubeagents restore.",
	define: func(flags *flag.FlagSet) action {
		var b backupCommand
		b.server = serverFlags{
			flags.String("server", "", "the `URL` of the server to fetch the backup from (default the server on this machine)"),
			flags.String("token-file", "", "the `file` that holds the token for -server"),
		}
		flags.IntVar(&b.keep, "keep", 0, "make the backup in the folder DIR, and remove the oldest ones until there are this `number`")
		return func(ctx context.Context, p Program, arguments []string) error {
			if isSet(flags, "keep") && b.keep < 1 {
				return usageError{errors.New("-keep must be at least 1")}
			}
			return b.run(ctx, p, arguments[0])
		}
	},
}

// backupCommand makes a backup.
type backupCommand struct {
	server serverFlags
	keep   int // 0 unless the backup goes into a folder of backups
}

func (b *backupCommand) run(ctx context.Context, p Program, dir string) error {
	write, err := b.writer(p)
	if err != nil {
		return err
	}
	if b.keep > 0 {
		return b.addTo(ctx, p, dir, write)
	}
	if err := write(ctx, dir); err != nil {
		return err
	}
	return sayComplete(p, dir)
}

func sayComplete(p Program, dir string) error {
	_, err := fmt.Fprintf(p.Stdout, "The backup is complete: %s\n", printable(dir))
	return err
}

// addTo makes a backup in a folder, and then removes old ones.
func (b *backupCommand) addTo(ctx context.Context, p Program, dir string, write func(context.Context, string) error) (err error) {
	folder, err := backups.OpenFolder(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	if err := folder.RemovePartial(); err != nil {
		return err
	}
	made := folder.New(time.Now())
	if err := write(ctx, made); err != nil {
		if _, unreadable := errors.AsType[unreadableError](err); unreadable {
			err = errors.Join(err, folder.Remove(made))
		}
		return err
	}
	if err := sayComplete(p, made); err != nil {
		return err
	}
	removed, err := folder.Keep(b.keep, made)
	for _, old := range removed {
		_, failed := fmt.Fprintf(p.Stdout, "Removed: %s\n", printable(old))
		err = errors.Join(err, failed)
	}
	return err
}

// writer returns a function that writes a backup to a new directory.
func (b *backupCommand) writer(p Program) (func(ctx context.Context, dir string) error, error) {
	if *b.server.address != "" {
		c, err := b.server.client(p.Environment)
		return func(ctx context.Context, dir string) error { return fetch(ctx, c, dir) }, err
	}
	if *b.server.tokenFile != "" {
		return nil, usageError{errors.New("-token-file needs -server")}
	}
	cfg, err := loadWithDataDir(p, "set it to the same value as for the server, or name a server with -server")
	return func(ctx context.Context, dir string) error { return copyState(ctx, cfg.DataDir, dir) }, err
}

// loadWithDataDir returns the settings, and an error with advice if DATA_DIR is not set.
func loadWithDataDir(p Program, advice string) (config.Config, error) {
	cfg, err := config.Load(p.Environment)
	if err == nil && cfg.DataDir == "" {
		err = errors.New("DATA_DIR is not set: " + advice)
	}
	if err != nil {
		return cfg, usageError{err}
	}
	return cfg, nil
}

// fetch writes a backup of a server to a new directory.
func fetch(ctx context.Context, c *client.Client, dir string) (err error) {
	archive, err := c.Backup(ctx)
	if refusal, ok := errors.AsType[*client.Refusal](err); ok && refusal.Status == http.StatusNotFound {
		return statusError{ExitUnreachable, err}
	}
	if err != nil {
		return unreachable(err)
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	return backups.Receive(ctx, archive, dir)
}

// unreadableError is the error for a backup that was made, but can't be read.
type unreadableError struct{ error }

func (e unreadableError) Unwrap() error { return e.error }

// copyState makes the server that uses a data directory copy its state to a new directory, and checks the copy.
func copyState(ctx context.Context, dataDir, dir string) error {
	if err := control.Backup(ctx, datadir.Find(dataDir), dir); err != nil {
		return err
	}
	if err := journal.Check(ctx, dir); err != nil {
		return unreadableError{fmt.Errorf("the backup was made, but it can't be restored: %w", err)}
	}
	return nil
}
