package connect_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/connect"
)

// chartAddress stands for the server's address in the files of the chart.
const chartAddress = "@ADDRESS@"

// TestChartHasTheLines checks that the Helm chart has the lines for each client, for a server with tokens and for one
// without. With KUBEAGENTS_LINES=write, it writes them first.
func TestChartHasTheLines(t *testing.T) {
	folder := filepath.Join("..", "..", "deploy", "chart", "files", "connect")
	for kind, tokens := range map[string]bool{"tokens": true, "open": false} {
		for _, c := range connect.Clients {
			path, want := filepath.Join(folder, kind, c.Name), c.Lines(connect.Server{Address: chartAddress, Tokens: tokens})
			if os.Getenv("KUBEAGENTS_LINES") == "write" {
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))  //nolint:gosec // a file of the repository
				require.NoError(t, os.WriteFile(path, []byte(want), 0o644)) //nolint:gosec // as above
			}
			got, err := os.ReadFile(path) //nolint:gosec // as above
			require.NoError(t, err, "run KUBEAGENTS_LINES=write go test ./internal/connect")
			assert.Equal(t, want, string(got), "%s differs: run KUBEAGENTS_LINES=write go test ./internal/connect", path)
		}
		files, err := os.ReadDir(filepath.Join(folder, kind))
		require.NoError(t, err)
		require.Len(t, files, len(connect.Clients), "the chart has lines for a client that does not exist")
	}
}
