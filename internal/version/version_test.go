package version

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOf(t *testing.T) {
	revision := []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: "0123456789abcdef0123"}}
	for want, info := range map[string]*debug.BuildInfo{
		"v1.2.3":       {Main: debug.Module{Version: "v1.2.3"}, Settings: revision},
		"0123456789ab": {Main: debug.Module{Version: "(devel)"}, Settings: revision},
		"devel":        {Main: debug.Module{Version: "(devel)"}},
	} {
		require.Equal(t, want, of(info))
	}
	require.Equal(t, "devel", of(nil), "without build information")
	require.Equal(t, "0123456789abcdef0123", revisionOf(&debug.BuildInfo{Settings: revision}))
	require.Empty(t, revisionOf(nil))
	require.NotEmpty(t, String())
}

// TestReleaseWins checks that what the linker has set takes precedence over the build information.
func TestReleaseWins(t *testing.T) {
	release, commit = "v2.0.0", "fedcba98"
	t.Cleanup(func() { release, commit = "", "" })
	require.Equal(t, "v2.0.0", String())
	require.Equal(t, "fedcba98", Commit())
}
