package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	// commandTimeout is how long a command may run.
	commandTimeout = 30 * time.Second

	// commandDelay is how long to wait for the output of a command's own children after it has ended.
	commandDelay = time.Second

	// maxCommandOutput is how much of a command's output an error contains, in characters.
	maxCommandOutput = 200
)

// command runs a program for each message.
type command struct {
	path    string
	args    []string
	timeout time.Duration
	delay   time.Duration
}

// NewCommand returns a Sender that runs a program with a message on standard input, in the format of a webhook's body
// ([NewWebhook]). path is absolute. The program is run without a shell, and its environment contains PATH and HOME
// only. The message is delivered if the program ends with exit status 0. If it runs for more than 30 seconds, it is
// killed: on Unix with its process group, which the programs that it started belong to.
//
// It takes a message back by running the program with a payload of the type "withdrawn".
func NewCommand(path string, args []string) (Sender, error) {
	if !filepath.IsAbs(path) {
		return nil, errors.New("the path of a command must be absolute")
	}
	if _, err := exec.LookPath(path); err != nil {
		return nil, fmt.Errorf("the command can't be run: %w", err)
	}
	return &command{path: path, args: args, timeout: commandTimeout, delay: commandDelay}, nil
}

// Send implements [Sender].
func (c *command) Send(ctx context.Context, m *Message) (string, error) {
	return "", c.run(ctx, payloadOf(m))
}

// Withdraw implements [Sender].
func (c *command) Withdraw(ctx context.Context, m *Message) error {
	return c.run(ctx, withdrawalOf(m))
}

func (c *command) run(ctx context.Context, p *payload) error {
	input, err := p.encode()
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var out output
	cmd := exec.CommandContext(limited, c.path, c.args...)
	cmd.Env = environment()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &out
	cmd.WaitDelay = c.delay
	killWithChildren(cmd)
	err = cmd.Run()

	name := filepath.Base(c.path)
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // the latter if a child that it left behind has its output open
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s was killed: %w", name, ctx.Err())
	case limited.Err() != nil:
		return fmt.Errorf("%s did not end within %s and was killed", name, c.timeout)
	case errors.As(err, &exit):
		return fmt.Errorf("%s ended with %s%s", name, exit.ProcessState, out.detail())
	}
	return fmt.Errorf("run a command: %w", err)
}

// environment returns the environment of commands. It is not the server's, which may contain secrets.
func environment() []string {
	list := []string{} // not nil, which would stand for the server's
	for _, name := range []string{"PATH", "HOME"} {
		if value, ok := os.LookupEnv(name); ok {
			list = append(list, name+"="+value)
		}
	}
	return list
}

// output keeps the beginning of what is written to it, and drops the rest.
type output struct {
	text []byte
}

// Write implements io.Writer. It never fails.
func (o *output) Write(p []byte) (int, error) {
	const enough = 16 * maxCommandOutput // bytes; some of them may not be printable
	o.text = append(o.text, p[:min(len(p), enough-len(o.text))]...)
	return len(p), nil
}

// detail returns the output as the end of an error, and "" if there is none.
func (o *output) detail() string {
	text := lineOf(string(o.text), maxCommandOutput)
	if text == "" {
		return ""
	}
	return ": " + text
}
