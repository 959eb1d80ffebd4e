//go:build unix

package e2e

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// clockVariable is the environment variable with the file that says by how much the clock of a program is shifted.
const clockVariable = "KUBEAGENTS_TEST_CLOCK"

// shiftable builds the program, once, with a clock that can be shifted, and returns its path. Nothing of ours differs:
// the package time of the standard library gets one more line in [time.Now], which adds what a file says.
var shiftable = sync.OnceValue(func() string {
	in := func(name string) string { return filepath.Join(buildDir(), name) }
	source := filepath.Join(strings.TrimSpace(string(must(exec.Command("go", "env", "GOROOT").Output()))), "src", "time")
	text := string(must(os.ReadFile(filepath.Join(source, "time.go"))))
	const reads = "sec, nsec, mono := runtimeNow()\n"
	if strings.Count(text, reads) != 1 {
		panic("the package time of this version of Go reads the clock in another way")
	}
	overlay := map[string]map[string]string{"Replace": {
		filepath.Join(source, "time.go"):  in("time.go"),
		filepath.Join(source, "shift.go"): must(filepath.Abs("testdata/clock/shift.go")),
	}}
	for name, content := range map[string][]byte{
		"time.go":      []byte(strings.Replace(text, reads, reads+"\tsec += shift()\n", 1)),
		"overlay.json": must(json.Marshal(overlay)),
	} {
		if err := os.WriteFile(in(name), content, 0o600); err != nil {
			panic(err)
		}
	}
	path := in("kubeagents-with-clock")
	args := []string{"build", "-o", path, "-overlay", in("overlay.json")}
	if underRace {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, root)...).CombinedOutput(); err != nil { //nolint:noctx // the build ends by itself
		panic(fmt.Sprintf("build the program: %v\n%s", err, out))
	}
	return path
})

// clock is the clock of a program that shiftable has built. Only the time of day is shifted, as when somebody sets the
// clock of a machine: durations are measured as before.
type clock struct {
	t    testing.TB
	file *os.File
}

// newClock returns a clock that is right.
func newClock(t testing.TB) *clock {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "clock"))
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() }) //nolint:errcheck // it is written at once
	c := &clock{t, file}
	c.shift(0)
	return c
}

// setting returns the entry of the environment that makes a program read the clock.
func (c *clock) setting() string { return clockVariable + "=" + c.file.Name() }

// shift makes the clock differ from the right time, from now on, also of a program that runs.
func (c *clock) shift(by time.Duration) {
	c.t.Helper()
	_, err := c.file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(by/time.Second)), 0)
	require.NoError(c.t, err)
}
