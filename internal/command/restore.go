package command

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/internal/backups"
	"github.com/kubeagents/kubeagents/internal/datadir"
)

var restore = command{
	name:     "restore",
	argument: "BACKUP",
	summary:  "copy the directory BACKUP, which is a backup, into an empty DATA_DIR",
	help: "DATA_DIR must have the value that the server will have. The directory must be empty or missing. Run the command as\n" +
		"the server's user, before the server starts. If it is interrupted, the server refuses to start: run it again.",
	define: func(flags *flag.FlagSet) action {
		ifEmpty := flags.Bool("if-empty", false, "if DATA_DIR already holds state, leave it as it is and succeed")
		return func(ctx context.Context, p Program, arguments []string) error {
			return p.restore(ctx, arguments[0], *ifEmpty)
		}
	},
}

func (p Program) restore(ctx context.Context, backup string, ifEmpty bool) error {
	cfg, err := loadWithDataDir(p, "set it to the directory for the server's state")
	if err != nil {
		return err
	}
	if ifEmpty {
		held, err := datadir.HoldsState(cfg.DataDir)
		if err != nil {
			return explained(cfg, err)
		}
		if held {
			_, err := fmt.Fprintf(p.Stdout, "DATA_DIR %s already holds state: nothing was restored\n", printable(cfg.DataDir))
			return err
		}
	}
	if err := backups.Restore(ctx, backup, cfg.DataDir); err != nil {
		return explained(cfg, err)
	}
	_, err = fmt.Fprintf(p.Stdout, "The backup %s is restored into DATA_DIR %s\n", printable(backup), printable(cfg.DataDir))
	return err
}

// explained returns an error about DATA_DIR with what to do about it.
func explained(cfg config.Config, err error) error {
	err = datadir.Explain(cfg.DataDir, err)
	if _, ok := errors.AsType[*config.SettingError](err); ok {
		return usageError{err}
	}
	return err
}
