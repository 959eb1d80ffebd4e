package cluster_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/natstest"
)

// TestCheckNodes checks one node by its real monitoring.
func TestCheckNodes(t *testing.T) {
	t.Parallel()
	for name, always := range map[string]bool{"syncs always": true, "syncs at times": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := natstest.Start(t, 1, func(o *natsserver.Options) { o.SyncAlways = always })
			for urls, monitors := range map[string][]string{"none": nil, "all": node.MonitorURLs()} {
				settings := settingsFor(node.URL())
				settings.MonitorURLs = monitors
				var l lines
				c := connected(t, settings, &l)
				stream, err := c.Ensure(t.Context(), cluster.Beginning{})
				require.NoError(t, err)
				err = c.CheckNodes(t.Context(), stream)
				switch {
				case urls == "none":
					require.NoError(t, err)
					assert.Equal(t, 1, strings.Count(l.String(), "level=WARN"), "%s", &l)
					assert.Contains(t, l.String(), "NATS_MONITOR_URL")
				case always:
					require.NoError(t, err)
					assert.Empty(t, l.String())
				default:
					require.ErrorContains(t, err, "NATS node node-0 does not sync every write")
					require.ErrorContains(t, err, "sync_interval: always")
				}
			}
		})
	}
}

// TestCheckNodesOfCluster has addresses missing, and nodes down.
func TestCheckNodesOfCluster(t *testing.T) {
	t.Parallel()
	nodes := natstest.Start(t, 3)
	settings := settingsFor(nodes.URLs()...)
	settings.Replicas = 3
	check := func(monitors ...string) (*lines, error) {
		settings.MonitorURLs = monitors
		var l lines
		c := connected(t, settings, &l)
		stream, err := c.Ensure(t.Context(), cluster.Beginning{})
		require.NoError(t, err)
		return &l, c.CheckNodes(t.Context(), stream)
	}
	all := nodes.MonitorURLs()
	l, err := check(all...)
	require.NoError(t, err)
	assert.Empty(t, l.String())

	_, err = check(all[1])
	require.ErrorContains(t, err, "is also kept by")
	require.ErrorContains(t, err, "node-0")
	require.ErrorContains(t, err, "node-2")
	assert.NotContains(t, err.Error(), "node-1")

	_, err = check("http://me:"+secret+"@127.0.0.1:1", "http://127.0.0.1:2")
	require.ErrorContains(t, err, "NATS_MONITOR_URL: no node answers")
	require.ErrorContains(t, err, "127.0.0.1:2")
	assert.NotContains(t, err.Error(), secret)

	l, err = check(all[0], all[1], "http://me:"+secret+"@127.0.0.1:1")
	require.NoError(t, err, "a server starts while a node is down")
	assert.Contains(t, l.String(), "could not check whether a NATS node syncs every write")
	assert.NotContains(t, l.String(), secret)
}

// TestCheckNodesByOthers checks what is no node, or an old one, and monitoring by HTTPS.
func TestCheckNodesByOthers(t *testing.T) {
	t.Parallel()
	node := natstest.Start(t, 1)
	settings := settingsFor(node.URL())
	var l lines
	stream, err := connected(t, settings, &l).Ensure(t.Context(), cluster.Beginning{})
	require.NoError(t, err)
	page := func(version string, always bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, "/varz", r.URL.Path)
			_ = json.NewEncoder(w).Encode(map[string]any{
				"server_name": "node-9", "version": version,
				"jetstream": map[string]any{"config": map[string]any{"sync_always": always}},
			})
		}
	}
	for name, monitoring := range map[string]struct {
		page http.HandlerFunc
		want string
	}{
		"good":       {page("2.15.3", true), ""},
		"old":        {page("2.15.1", true), `NATS node node-9: it runs version "2.15.1" of NATS, but 2.15.2 or later`},
		"no page":    {http.NotFound, "GET /varz is answered by 404"},
		"other page": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }, "is not answered by"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(monitoring.page)
			defer s.Close()
			settings.MonitorURLs = []string{s.URL}
			err := connected(t, settings, &l).CheckNodes(t.Context(), stream)
			if monitoring.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, monitoring.want)
			}
		})
	}
}
