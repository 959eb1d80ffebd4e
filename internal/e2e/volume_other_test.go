//go:build unix && !linux

package e2e

import (
	"errors"
	"testing"
)

// volume is a file system that can be full: see volume_linux_test.go.
type volume struct{ dir string }

func newVolume(testing.TB) (*volume, error) { return nil, errors.New("run this on Linux, as root") }

func (*volume) fill()  {}
func (*volume) empty() {}
