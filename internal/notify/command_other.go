//go:build !unix

package notify

import "os/exec"

// killWithChildren does nothing: on this system, a command is killed alone.
func killWithChildren(*exec.Cmd) {}
