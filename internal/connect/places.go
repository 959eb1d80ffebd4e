package connect

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// folder is a folder of a user, and the variable of the environment with which the user moves it.
type folder struct{ variable, path string }

// Machine is what the places of a user's settings depend on.
type Machine struct {
	OS          string // as [runtime.GOOS]
	Home        string // the user's home directory
	Environment map[string]string
}

// Windows reports whether the machine runs Windows.
func (m Machine) Windows() bool { return m.OS == "windows" }

// Tools returns the clients that report by hooks or a plugin in settings files.
func Tools() (tools []*Client) {
	for i := range Clients {
		if len(Clients[i].programs) > 0 {
			tools = append(tools, &Clients[i])
		}
	}
	return tools
}

// Tool returns the tool with a name, which may also be that of its program; nil if there is none.
func Tool(name string) *Client {
	for _, tool := range Tools() {
		if tool.Name == name || slices.Contains(tool.programs, name) {
			return tool
		}
	}
	return nil
}

// UserFile returns the path of the tool's settings file for the user of a machine.
func (c *Client) UserFile(m Machine) string { return c.place(m, c.Paths[0].Path) }

// ProjectFile returns the path of the tool's settings file for the project in a directory of a machine, "" if the tool
// has none.
func (c *Client) ProjectFile(m Machine, dir string) string {
	if len(c.Paths) < 2 {
		return ""
	}
	return m.native(dir + "/" + c.Paths[1].Path)
}

// settingsFolder returns the folder of the tool's own settings for the user of a machine.
func (c *Client) settingsFolder(m Machine) string {
	path := c.Paths[0].Path // such as ~/.claude/settings.json or ~/.config/opencode/plugins/kubeagents.js
	parts := 2
	if strings.HasPrefix(path, "~/.config/") {
		parts = 3
	}
	return c.place(m, strings.Join(strings.Split(path, "/")[:parts], "/"))
}

// place returns the path on a machine of a file that may begin with ~ and may have been moved by the tool's variable.
func (c *Client) place(m Machine, path string) string {
	if rest, ok := strings.CutPrefix(path, c.moved.path); ok && c.moved.path != "" && m.Environment[c.moved.variable] != "" {
		return m.native(m.Environment[c.moved.variable] + rest)
	}
	if rest, ok := strings.CutPrefix(path, "~"); ok {
		return m.native(m.Home + rest)
	}
	return m.native(path)
}

// native returns a path with the separators of the machine.
func (m Machine) native(path string) string {
	if m.Windows() {
		return strings.ReplaceAll(path, "/", `\`)
	}
	return path
}

// Found returns by what the tool was found on this machine: the path of its program or else of its settings folder. It
// returns "" if the tool is not installed.
func (c *Client) Found(m Machine) string {
	for _, program := range c.programs {
		if path, err := exec.LookPath(program); err == nil {
			return path
		}
	}
	folder := filepath.Clean(c.settingsFolder(m))
	if info, err := os.Stat(folder); err == nil && info.IsDir() {
		return folder
	}
	return ""
}
