package hookcheck

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// runCommand runs a shell command with an event on its standard input, and returns what came back.
//
// curl reads its options from the file .curlrc in CURL_HOME before those of the command. Those that it takes once per
// address, such as where the response goes, are then taken already.
func (c Checker) runCommand(ctx context.Context, dir, command, event string) (r reply, err error) {
	for _, program := range []string{"sh", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			return r, fmt.Errorf("%s is not installed, and the hooks need it", program)
		}
	}
	options := fmt.Sprintf("header = \"X-Dry-Run: true\"\noutput = %s\ndump-header = %s\nstderr = %s\nshow-error\n",
		quoted(filepath.Join(dir, "body")), quoted(filepath.Join(dir, "headers")), quoted(filepath.Join(dir, "errors")))
	options += "\n" + c.ownOptions()
	if err := os.WriteFile(filepath.Join(dir, ".curlrc"), []byte(options), 0o600); err != nil {
		return r, err
	}
	cmd := c.command(ctx, c.environment("CURL_HOME="+dir), "sh", "-c", command)
	cmd.Stdin = strings.NewReader(event)
	if out, err := cmd.CombinedOutput(); err != nil {
		return r, fmt.Errorf("the hook fails: %w: %s", err, bytes.TrimSpace(out))
	}
	return readReply(dir), nil
}

// quoted returns a path as curl's configuration files quote it.
func quoted(path string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`
}

// ownOptions returns the text of the configuration file that curl would read, "" if there is none: it may name a proxy
// or an authority.
func (c Checker) ownOptions() string {
	var paths []string
	add := func(variable string, names ...string) {
		for _, name := range names {
			if folder := c.Environment[variable]; folder != "" {
				paths = append(paths, filepath.Join(folder, name))
			}
		}
	}
	add("CURL_HOME", ".curlrc", "_curlrc")
	add("XDG_CONFIG_HOME", "curlrc")
	add("HOME", ".curlrc", ".config/curlrc")
	add("USERPROFILE", ".curlrc", "_curlrc")
	add("APPDATA", ".curlrc", "_curlrc")
	for _, path := range paths {
		if text, err := os.ReadFile(path); err == nil { //nolint:gosec // the user's own file
			return string(text)
		}
	}
	return ""
}

var (
	statusLine = regexp.MustCompile(`(?m)^HTTP/[0-9.]+ ([0-9]{3})`)
	locations  = regexp.MustCompile(`(?mi)^location: *(.*?)\r?$`)
	curlError  = regexp.MustCompile(`(?m)^curl: \(([0-9]+)\) (.*)$`)
)

// readReply reads what curl left in a directory.
func readReply(dir string) (r reply) {
	part := func(name string) []byte {
		text, _ := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // curl may not have written it
		return text
	}
	r.body = part("body")
	headers := part("headers")
	if found := statusLine.FindAllSubmatch(headers, -1); found != nil {
		r.status, _ = strconv.Atoi(string(found[len(found)-1][1])) // after those of a proxy
	}
	if found := locations.FindSubmatch(headers); found != nil {
		r.location = string(found[1])
	}
	if found := curlError.FindSubmatch(part("errors")); found != nil {
		code, _ := strconv.Atoi(string(found[1]))
		r.status, r.failure, r.detail = 0, ofCurl[code], "curl: "+string(bytes.TrimSpace(found[2]))
	} else if r.status == 0 {
		r.failure = notSent
	}
	return r
}
