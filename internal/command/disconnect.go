package command

import (
	"context"
	"errors"
	"flag"

	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/internal/setup"
)

var disconnectTools = command{
	name:     "disconnect",
	argument: "TOOL",
	several:  true,
	summary:  "take the hooks of KubeAgents out of the tools' settings",
	help:     "Without TOOL, it disconnects every tool. Everything else in the settings files stays as it is. It shows which files change and asks first.",
	define: func(flags *flag.FlagSet) action {
		return disconnectCommand{defineFiles(flags)}.run
	},
}

// disconnectCommand disconnects tools.
type disconnectCommand struct{ files fileFlags }

func (c disconnectCommand) run(_ context.Context, p Program, names []string) error {
	w, tools, err := c.files.workplace(p, names)
	if err != nil {
		return err
	}
	if len(tools) == 0 {
		tools = connect.Tools()
	}
	files, err := w.files(tools, len(names) > 0, connect.Server{Address: defaultServer})
	if err != nil {
		return err
	}
	made, failed := w.change(files, setup.File.Disconnect)
	if len(made) == 0 {
		return failed
	}
	return errors.Join(failed, w.say("\nRestart agents that are running.\n"))
}
