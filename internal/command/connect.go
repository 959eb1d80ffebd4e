package command

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kubeagents/kubeagents/internal/client"
	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/internal/setup"
)

var connectTools = command{
	name:     "connect",
	argument: "TOOL",
	several:  true,
	summary:  "make the agents' tools on this machine report to a server",
	help: "Without TOOL, it connects every tool that is installed: " + strings.Join(toolNames(), ", ") + ".\n" +
		"It puts hooks into the tools' own settings files, and leaves everything else in them as it is. It shows which files change and asks first.\n" +
		"The environment may name the server (" + serverVariable + ") and the token (" + tokenVariable + ").",
	define: func(flags *flag.FlagSet) action {
		c := &connectCommand{server: defineServer(flags), files: defineFiles(flags)}
		flags.BoolVar(&c.check, "check", false, "change nothing; send a test event by the hooks of each tool, and say whether it arrives")
		return c.run
	},
}

// connectCommand connects tools.
type connectCommand struct {
	server serverFlags
	files  fileFlags
	check  bool
}

// plainAddress matches the addresses that can be part of a shell command and of JSON as they are.
var plainAddress = regexp.MustCompile(`^https?://[A-Za-z0-9._~:\[\]/-]+$`)

func (c *connectCommand) run(ctx context.Context, p Program, names []string) error {
	w, tools, err := c.files.workplace(p, names)
	if err != nil {
		return err
	}
	if c.check {
		return w.checkHooks(ctx, tools)
	}
	hub, err := c.server.client(p.Environment)
	if err != nil {
		return err
	}
	if !plainAddress.MatchString(hub.Server()) {
		return usageError{fmt.Errorf("%q can't be used in a shell command: leave out the user, and other special characters", hub.Server())}
	}
	if len(tools) == 0 {
		if tools, err = w.installed(); err != nil {
			return err
		}
	}
	server, err := serverOf(ctx, hub)
	if err != nil {
		return err
	}
	if server.Windows = w.machine.Windows(); server.Windows {
		if err := checkProgram(tools); err != nil {
			return err
		}
	}
	files, err := w.files(tools, len(names) > 0, server)
	if err != nil {
		return err
	}
	made, failed := w.change(files, setup.File.Connect)
	if len(made) == 0 {
		return failed
	}
	return errors.Join(failed, w.adviseAfterConnect(made, server, *c.server.tokenFile))
}

// serverOf returns the server of a client, as the hooks need it.
func serverOf(ctx context.Context, hub *client.Client) (connect.Server, error) {
	tokens, err := hub.RequiresToken(ctx)
	if err != nil {
		return connect.Server{}, unreachable(err)
	}
	return connect.Server{Address: hub.Server(), Tokens: tokens}, nil
}

// checkProgram returns an error if the hooks of tools on Windows would not find this program.
func checkProgram(tools []*connect.Client) error {
	for _, tool := range tools {
		if tool.Script {
			continue
		}
		if _, err := exec.LookPath(connect.Program); err != nil {
			return fmt.Errorf("%s.exe is not in a folder of PATH, and on Windows, the hooks of %s run it: "+
				"move it into such a folder, or add its folder to PATH, and open a new terminal", connect.Program, tool.Title)
		}
		break
	}
	return nil
}

// installed returns the tools that are installed on the machine, and says which ones.
func (w workplace) installed() (tools []*connect.Client, err error) {
	for _, tool := range connect.Tools() {
		found := tool.Found(w.machine)
		if found == "" {
			continue
		}
		tools = append(tools, tool)
		if err := w.say("Found %s: %s\n", tool.Title, w.short(found)); err != nil {
			return nil, err
		}
	}
	if len(tools) == 0 {
		return nil, fmt.Errorf("none of these tools is installed: %s; if yours is in an unusual place, name it: kubeagents connect %s",
			strings.Join(toolNames(), ", "), toolNames()[0])
	}
	return tools, nil
}

// adviseAfterConnect says what is left to do after connecting.
func (w workplace) adviseAfterConnect(made []setup.Change, server connect.Server, tokenFile string) error {
	var advice []string
	for _, change := range made {
		if change.Tool.Note != "" {
			advice = append(advice, change.Tool.Title+": "+change.Tool.Note)
		}
	}
	needed := []string{"sh", "curl"}
	if server.Windows {
		needed = nil
	}
	for _, program := range needed {
		if _, err := exec.LookPath(program); err != nil {
			advice = append(advice, fmt.Sprintf("%s is missing: install it, the hooks need it.", program))
		}
	}
	if server.Tokens {
		advice = append(advice, w.tokenAdvice(tokenFile))
	}
	advice = append(advice, "Restart agents that are running. To see whether events arrive: kubeagents connect -check",
		"Agents show up at "+server.Address+"/ and in "+w.statusCommand(server)+".")
	return w.say("\n%s\n", strings.Join(advice, "\n"))
}

// statusCommand returns the command that shows the agents of a server.
func (w workplace) statusCommand(server connect.Server) string {
	const command = "kubeagents status"
	if server.Address == cmp.Or(w.Environment[serverVariable], defaultServer) {
		return command
	}
	return command + " -server " + server.Address
}

// tokenAdvice says how agents get the token.
func (w workplace) tokenAdvice(tokenFile string) string {
	const profile = "the file that your shell runs at its start, such as ~/.profile or ~/.zshenv"
	switch {
	case w.machine.Windows() && tokenFile != "":
		return fmt.Sprintf("The hooks take the token from the variable %s. Run this in PowerShell, then open a new terminal:\n"+
			"  [Environment]::SetEnvironmentVariable('%[1]s', (Get-Content -Raw '%[2]s').Trim(), 'User')", tokenVariable, strings.ReplaceAll(absolute(tokenFile), "'", "''"))
	case tokenFile != "":
		return fmt.Sprintf("The hooks take the token from the variable %s. Put this line into %s:\n  export %[1]s=\"$(cat '%[3]s')\"",
			tokenVariable, profile, strings.ReplaceAll(absolute(tokenFile), "'", `'\''`))
	case w.Environment[tokenVariable] != "":
		return fmt.Sprintf("The hooks take the token from the variable %s, which is set here. Make sure that it is set wherever your agents start.", tokenVariable)
	}
	if w.machine.Windows() {
		return fmt.Sprintf("The server requires a token with the scope report. The hooks take it from the variable %s: "+
			"add it to your environment variables in Windows' settings, then open a new terminal.", tokenVariable)
	}
	return fmt.Sprintf("The server requires a token with the scope report. The hooks take it from the variable %s: export it in %s.", tokenVariable, profile)
}

// absolute returns a path from the root, or as it is if that is not known.
func absolute(path string) string {
	if whole, err := filepath.Abs(path); err == nil {
		return whole
	}
	return path
}
