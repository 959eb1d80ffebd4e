//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// grafanaFile is the dashboard for Grafana.
const grafanaFile = root + "/deploy/grafana/kubeagents.json"

// grafana is a dashboard for Grafana, as far as the tests look at it.
type grafana struct {
	ID            any `json:"id"`
	Title, UID    string
	SchemaVersion int
	Templating    struct {
		List []struct {
			Name, Type string
			Query      any
			Datasource *datasource
		}
	}
	Panels []panel
}

type datasource struct{ Type, UID string }

// panel is a panel of a dashboard, or a row, which is the heading of the panels below it.
type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Datasource               datasource
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct {
		RefID, Expr string
		Datasource  datasource
	}
}

func readGrafana(t *testing.T) (g grafana) {
	t.Helper()
	text, err := os.ReadFile(grafanaFile)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &g))
	return g
}

// queries returns the queries of the panels, by where they are.
func (g grafana) queries() map[string]string {
	all := map[string]string{}
	for _, p := range g.Panels {
		for _, target := range p.Targets {
			all[fmt.Sprintf("panel %d, %s, %s", p.ID, p.Title, target.RefID)] = target.Expr
		}
	}
	return all
}

// TestGrafanaDashboard checks what Grafana needs to import the dashboard, and what people need to understand it. Debian
// has no Grafana that could do that.
func TestGrafanaDashboard(t *testing.T) {
	g := readGrafana(t)
	require.Nil(t, g.ID, "Grafana gives it an ID")
	require.Equal(t, []string{"KubeAgents", "kubeagents"}, []string{g.Title, g.UID})
	require.GreaterOrEqual(t, g.SchemaVersion, 36, "older schemas name data sources differently")
	var variables []string
	for _, v := range g.Templating.List {
		variables = append(variables, v.Type+" "+v.Name)
		if v.Type == "query" {
			require.Equal(t, &chosen, v.Datasource)
			require.Contains(t, fmt.Sprint(v.Query), "label_values(kubeagents_build_info")
		}
	}
	require.Equal(t, []string{"datasource datasource", "query job", "query instance"}, variables)

	ids, cells := map[int]bool{}, map[[2]int]string{}
	below := 0 // the first line below all panels so far
	for _, p := range g.Panels {
		require.NotEmpty(t, p.Title)
		require.False(t, ids[p.ID], "%s: the ID is not unique", p.Title)
		ids[p.ID] = true
		require.Positive(t, p.GridPos.W, p.Title)
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				require.Empty(t, cells[[2]int{x, y}], "%s overlaps", p.Title)
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			require.Equal(t, below, p.GridPos.Y, "%s: a row is below everything before it", p.Title)
		} else {
			requirePanel(t, p)
		}
		below = max(below, p.GridPos.Y+p.GridPos.H)
	}
}

// chosen is the data source that people choose.
var chosen = datasource{"prometheus", "${datasource}"}

// requirePanel checks a panel that is not a row.
func requirePanel(t *testing.T, p panel) {
	t.Helper()
	require.Contains(t, []string{"stat", "timeseries"}, p.Type, p.Title)
	require.True(t, strings.HasSuffix(p.Description, "."), "%s: a description in sentences", p.Title)
	require.NotEmpty(t, p.FieldConfig.Defaults.Unit, "%s: a unit", p.Title)
	require.Equal(t, chosen, p.Datasource, p.Title)
	require.NotEmpty(t, p.Targets, p.Title)
	references := map[string]bool{}
	for _, target := range p.Targets {
		require.Equal(t, chosen, target.Datasource, p.Title)
		require.False(t, references[target.RefID], p.Title)
		references[target.RefID] = true
		selectors := strings.Count(target.Expr, "{")
		require.Equal(t, selectors, strings.Count(target.Expr, `{job=~"$job", instance=~"$instance"`), "%s: every selector follows the variables", p.Title)
		require.Positive(t, selectors, p.Title)
	}
}
