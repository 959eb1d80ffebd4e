package natstest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Variable is the environment variable with the path of the program nats-server.
const Variable = "KUBEAGENTS_NATS_SERVER"

// Program returns the path of the program nats-server, from the environment variable KUBEAGENTS_NATS_SERVER. It skips
// the test if that is not set.
func Program(t testing.TB) string {
	t.Helper()
	path := os.Getenv(Variable)
	if path == "" {
		t.Skip("needs the program nats-server: run make test-nats, or set " + Variable + " to its path")
	}
	return path
}

// StartProgram is Start with processes of the program nats-server at path (see Program). Stop kills them, so that
// nothing is left but what they had written.
func StartProgram(t testing.TB, path string, n int) *Cluster {
	t.Helper()
	return StartProgramIn(t, path, directories(t, n))
}

// StartProgramIn is StartProgram with one node for each of the directories, which keeps its store there.
func StartProgramIn(t testing.TB, path string, dirs []string) *Cluster {
	t.Helper()
	return start(t, dirs, func(settings nodeSettings) process {
		return &program{path: path, settings: settings, scratch: t.TempDir()}
	})
}

// program is a NATS server in a process of its own.
type program struct {
	path     string
	settings nodeSettings
	scratch  string // for what is not its store, which may be on a disk that is full
	command  *exec.Cmd
	output   bytes.Buffer // complete once the process has ended
}

func (p *program) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "server_name: %q\nlisten: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:-1\"\n", p.settings.name)
	fmt.Fprintf(&b, "client_advertise: %q\nports_file_dir: %q\n", p.settings.clientAddress, p.scratch)
	fmt.Fprintf(&b, "jetstream {\n  store_dir: %q\n  sync_interval: always\n", p.settings.dir)
	b.WriteString("  max_memory_store: 64MB\n  max_file_store: 4GB\n}\n")
	if len(p.settings.routes) > 0 {
		fmt.Fprintf(&b, "cluster {\n  name: test\n  listen: \"127.0.0.1:-1\"\n  advertise: %q\n  routes: [\n", nowhere)
		for _, address := range p.settings.routes {
			fmt.Fprintf(&b, "    %q\n", "nats-route://"+address)
		}
		b.WriteString("  ]\n}\n")
	}
	return b.String()
}

func (p *program) start() (addresses, error) {
	file := filepath.Join(p.scratch, "nats.conf")
	if err := os.WriteFile(file, []byte(p.config()), 0o600); err != nil {
		return addresses{}, err
	}
	p.command = exec.Command(p.path, "-c", file)
	p.command.Stdout, p.command.Stderr = &p.output, &p.output
	if err := p.command.Start(); err != nil {
		return addresses{}, err
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if a, err := addressesIn(p.ports()); err == nil {
			return a, nil
		}
	}
	p.kill()
	return addresses{}, errors.New("the node did not listen in time:\n" + p.log())
}

// ports returns the file to which the running process writes where it listens.
func (p *program) ports() string {
	return filepath.Join(p.scratch, fmt.Sprintf("%s_%d.ports", filepath.Base(p.path), p.command.Process.Pid))
}

// addressesIn reads the file that ports returns.
func addressesIn(file string) (addresses, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return addresses{}, err
	}
	var ports server.Ports
	if err := json.Unmarshal(text, &ports); err != nil {
		return addresses{}, err
	}
	var a addresses
	for _, listener := range []struct {
		urls    []string
		address *string
	}{{ports.Nats, &a.client}, {ports.Monitoring, &a.monitor}, {ports.Cluster, &a.route}} {
		for _, text := range listener.urls {
			u, err := url.Parse(text)
			if err != nil {
				return addresses{}, err
			}
			*listener.address = u.Host
		}
	}
	return a, nil
}

func (p *program) kill() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
	_ = os.Remove(p.ports())
}

func (p *program) log() string {
	return p.output.String()
}
