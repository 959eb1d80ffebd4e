package command

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/internal/control"
	"github.com/kubeagents/kubeagents/internal/datadir"
)

var backup = command{
	name:     "backup",
	argument: "DIR",
	summary:  "copy the state of the running server to the new directory DIR",
	help: "DATA_DIR must have the same value as for the server, and the command must run as the server's user.\n" +
		"To restore a backup, start a server with DATA_DIR set to a copy of it.",
	define: func(*flag.FlagSet) action { return runBackup },
}

func runBackup(ctx context.Context, p Program, arguments []string) error {
	cfg, err := config.Load(p.Environment)
	if err != nil {
		return usageError{err}
	}
	if cfg.DataDir == "" {
		return usageError{errors.New("DATA_DIR is not set: set it to the same value as for the server")}
	}
	if err := control.Backup(ctx, datadir.Find(cfg.DataDir), arguments[0]); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "The backup is complete: %s\n", printable(arguments[0]))
	return err
}
