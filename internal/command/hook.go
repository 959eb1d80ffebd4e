package command

import (
	"context"
	"flag"
	"io"
	"time"

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

// eventTimeout is how long a tool may take to write an event. An input that never ends must not hold the tool up.
const eventTimeout = 3 * time.Second

// readEvent reads an event to its end. ok is false if that fails or takes too long. A read that is not over by then can't
// be stopped: it ends with the process, or with its input.
func readEvent(ctx context.Context, in io.Reader) (event []byte, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	complete := make(chan []byte, 1)
	go func() {
		defer close(complete)
		if event, err := io.ReadAll(io.LimitReader(in, maxEvent+1)); err == nil {
			complete <- event
		}
	}()
	select {
	case event, ok = <-complete:
		return event, ok
	case <-ctx.Done():
		return nil, false
	}
}

// runHook posts an event. It never returns an error: some tools refuse what their agent is about to do if a hook fails.
func runHook(ctx context.Context, p Program, arguments []string) error {
	if p.Stdin == nil {
		return nil
	}
	event, ok := readEvent(ctx, p.Stdin)
	if !ok {
		return nil
	}
	resp, err := connect.Post(ctx, arguments[0], event, p.Environment, nil)
	if err != nil {
		return nil
	}
	resp.Body.Close() //nolint:errcheck // there is nobody to report it to
	return nil
}
