package command

import (
	"context"
	"flag"
	"io"

	"github.com/kubeagents/kubeagents/internal/connect"
)

var postEvent = command{
	name:     "hook",
	argument: "ADDRESS",
	summary:  "post the event of an agent's tool from standard input; connect makes tools on Windows run it",
	help: "ADDRESS is that of the tool's webhook, such as " + defaultServer + "/webhook/codex. It prints nothing and succeeds, whether or not\n" +
		"the event arrives, so that the tool behaves as it does without it. The environment may name the token (" + tokenVariable + ")\n" +
		"and the agent's ID (" + connect.AgentIDVariable + "). To see whether events arrive, run kubeagents connect -check.",
	define: func(*flag.FlagSet) action { return runHook },
}

// maxEvent is the maximum size of an event, in bytes. The server accepts no more.
const maxEvent = 64 << 20

// runHook posts an event. It never returns an error: some tools refuse what their agent is about to do if a hook fails.
func runHook(ctx context.Context, p Program, arguments []string) error {
	if p.Stdin == nil {
		return nil
	}
	event, err := io.ReadAll(io.LimitReader(p.Stdin, maxEvent+1))
	if err != nil {
		return nil
	}
	resp, err := connect.Post(ctx, arguments[0], event, p.Environment, nil)
	if err != nil {
		return nil
	}
	resp.Body.Close() //nolint:errcheck // there is nobody to report it to
	return nil
}
