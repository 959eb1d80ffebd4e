package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/internal/hookcheck"
	"github.com/kubeagents/kubeagents/internal/hookfile"
	"github.com/kubeagents/kubeagents/internal/setup"
)

// checkHooks sends a test event by our hooks in the settings of tools, and says for each whether it arrived. Without
// tools, it checks those that are connected.
func (w workplace) checkHooks(ctx context.Context, tools []*connect.Client) error {
	named := len(tools) > 0
	if !named {
		tools = connect.Tools()
	}
	files, err := w.files(tools, named, connect.Server{Address: defaultServer})
	if err != nil {
		return err
	}
	if err := w.agreeToRun(files); err != nil {
		return err
	}
	checked, failed := 0, 0
	for _, file := range files {
		commands, err := file.Commands()
		if err == nil && len(commands) == 0 {
			if named || file.Tool.Found(w.machine) != "" {
				err = w.say("%s: not connected: no hooks of KubeAgents are in %s\n", file.Tool.Title, w.short(file.Path))
			}
			if named {
				failed++
			}
			if err != nil {
				return err
			}
			continue
		}
		checked++
		if err == nil {
			err = w.checkCommands(ctx, file, commands)
		}
		if err != nil {
			failed++
			if err := w.say("%s: NOT ARRIVED: %v\n", file.Tool.Title, err); err != nil {
				return err
			}
		}
	}
	switch {
	case failed > 0:
		return fmt.Errorf("%d of %d tools can't report", failed, max(checked, failed))
	case checked == 0:
		return errors.New("no tool is connected: run kubeagents connect")
	}
	return nil
}

// agreeToRun returns an error unless the commands in files may be run. Those of a project may be anybody's, and send
// the token wherever they like, so they are shown first.
func (w workplace) agreeToRun(files []setup.File) error {
	if !*w.project || *w.yes {
		return nil
	}
	found := false
	for _, file := range files {
		commands, _ := file.Commands() //nolint:errcheck // checkHooks says what is wrong
		for _, command := range commands {
			found = true
			if file.Tool.Script {
				command.Text = "a plugin that posts to " + command.Address
			}
			if err := w.say("%s: %s: %s\n", file.Tool.Title, w.short(file.Path), command.Text); err != nil {
				return err
			}
		}
	}
	switch {
	case !found:
		return nil
	case !w.canAsk():
		return usageError{errors.New("nothing was run: standard input is not a terminal, so nobody can be asked; pass -yes to run these commands of the project")}
	}
	agreed, err := w.ask("Run these commands of the project, with your token?")
	if !agreed && err == nil {
		err = errors.New("nothing was run")
	}
	return err
}

// checkCommands sends a test event by each command of a tool. The error says why one of them did not arrive.
func (w workplace) checkCommands(ctx context.Context, file setup.File, commands []hookfile.Command) error {
	checker := hookcheck.Checker{Environment: w.Environment, Dir: w.dir}
	for _, command := range commands {
		arrival, err := checker.Check(ctx, file.Tool, command)
		if err != nil {
			return fmt.Errorf("%s: %w", command.Address, err)
		}
		if err := w.say("%s: arrived at %s%s\n", file.Tool.Title, command.Address, outcomeOf(arrival)); err != nil {
			return err
		}
	}
	return nil
}

// outcomeOf says what became of an event that arrived.
func outcomeOf(a hookcheck.Arrival) string {
	switch {
	case !a.DryRun:
		return ", an older server, which shows it as the session " + hookcheck.SessionID
	case a.AgentID == "":
		return ""
	}
	return "; here it would count for the agent " + a.AgentID
}
