package command

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// asking returns a session that asks a question, and has waited for so long.
func asking(agent, title string, kind models.QuestionKind, text string, since time.Duration) models.FleetSession {
	return models.FleetSession{AgentName: agent, Session: models.Session{Title: title, Topic: "t", CurrentStatus: models.Pending,
		Question: &models.Question{Kind: kind, Text: text, AskedAt: noon.Add(-since)}}}
}

func busy(agent, topic, message string, since time.Duration) models.FleetSession {
	return models.FleetSession{Session: models.Session{AgentID: agent, Topic: topic, CurrentMessage: message, StatusSince: noon.Add(-since),
		ExpiredAt: noon.Add(-since)}}
}

var exampleFleet = fleet{
	Summary: models.Summary{Sessions: models.SessionCounts{ByStatus: models.StatusCounts{Running: 1}}, Needs: models.NeedCounts{Waiting: 3, Lost: 1}},
	Waiting: []models.FleetSession{
		asking("payments", "Fix the login", models.Permission, "Bash: rm -rf build", 90*time.Minute),
		asking("日本語のエージェント", "Colour", models.Choice, "Which\x1b[2J one?\u202e", 59*time.Second),
	},
	Lost:    []models.FleetSession{busy("laptop:claude", "nightly", "", 50*time.Hour)},
	Running: []models.FleetSession{busy("a", "t", "Reading the code", -time.Second)},
}

func render(o *overview, f fleet) string {
	var out bytes.Buffer
	o.out, o.err, o.now = &out, &out, func() time.Time { return noon }
	if err := o.write(f); err != nil {
		return err.Error()
	}
	return out.String()
}

func TestOverview(t *testing.T) {
	require.Equal(t, strings.TrimPrefix(`
3 waiting for you
    1h  payments              Fix the login: asks for permission: Bash: rm -rf build
   59s  日本語のエージェント  Colour: Which [2J one?�
  … and 1 more

1 lost
    2d  laptop:claude  nightly

1 running
    0s  a  t: Reading the code
`, "\n"), render(&overview{}, exampleFleet))
	require.Equal(t, "No agent is running or waiting.\n", render(&overview{}, fleet{}))
}

// TestOverviewShowsTools checks that the tools of agents have a column, unless no agent has one or the terminal is narrow.
func TestOverviewShowsTools(t *testing.T) {
	sessions := []models.FleetSession{busy("a", "t", "Reading", 0), busy("b", "t", "", 0), busy("c", "u", "", 0)}
	sessions[0].AgentSource, sessions[2].AgentSource = "codex", "an-unusually-long\x1bname"
	f := fleet{Summary: models.Summary{Sessions: models.SessionCounts{ByStatus: models.StatusCounts{Running: 3}}}, Running: sessions}
	wide := "3 running\n    0s  a  codex         t: Reading\n    0s  b                t\n    0s  c  an-unusuall…  u\n"
	require.Equal(t, wide, render(&overview{}, f))
	require.Equal(t, wide, render(&overview{size: func() (int, int) { return 80, 24 }}, f))
	require.Equal(t, "3 running\n    0s  a  t: Reading\n    0s  b  t\n    0s  c  u\n", render(&overview{size: func() (int, int) { return 79, 24 }}, f))
}

// TestOverviewOnATerminal checks that no line is wider than the terminal, that a watched fleet is no higher, and that
// nothing that an agent sent reaches the terminal as a command.
func TestOverviewOnATerminal(t *testing.T) {
	for _, size := range [][2]int{{20, 5}, {40, 8}, {80, 24}, {200, 50}} {
		o := &overview{watched: true, colours: true, size: func() (int, int) { return size[0], size[1] }}
		text := render(o, exampleFleet)
		require.True(t, strings.HasPrefix(text, clearScreen+toTop))
		require.Contains(t, text, bold+yellow+"3 waiting for you"+plain)
		require.LessOrEqual(t, strings.Count(text, "\n"), size[1]-1)
		require.Equal(t, 1, strings.Count(text, clearScreen))
	}
	text := render(&overview{size: func() (int, int) { return 40, 100 }}, exampleFleet)
	require.NotContains(t, text, "\x1b", "not watched, and without colours")
	require.Contains(t, text, "    1h  payments              Fix the l…\n")
}

func TestCounts(t *testing.T) {
	require.Equal(t, "3 waiting, 1 lost, 1 running", counts(exampleFleet.Summary))
	require.Equal(t, "2 failed", counts(models.Summary{Sessions: models.SessionCounts{Idle: 3, ByStatus: models.StatusCounts{Success: 4}}, Needs: models.NeedCounts{Failed: 2}}))
	acknowledged := models.SessionCounts{Expired: 7, Lost: 1, ByStatus: models.StatusCounts{Pending: 2, Failed: 3}}
	require.Equal(t, "nothing running", counts(models.Summary{Sessions: acknowledged}))
}

func TestAges(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Hour: "0s", 59 * time.Second: "59s", time.Minute: "1m", time.Hour - 1: "59m", 47 * time.Hour: "47h", 48 * time.Hour: "2d"} {
		require.Equal(t, want, age(d))
	}
}

// TestTrouble checks that trouble replaces the fleet on a terminal, and goes to standard error elsewhere.
func TestTrouble(t *testing.T) {
	var out, errOut bytes.Buffer
	o := &overview{out: &out, err: &errOut, watched: true, size: func() (int, int) { return 80, 24 }}
	require.NoError(t, o.trouble(errors.New("it is\x07 gone")))
	require.Contains(t, out.String(), "it is gone")
	require.Empty(t, errOut.String())
	for _, w := range []fleetWriter{&overview{out: &out, err: &errOut}, lineWriter{&out, &errOut}, jsonWriter{nil, &errOut}} {
		errOut.Reset()
		require.NoError(t, w.trouble(errors.New("it is\x07 gone")))
		require.Equal(t, `kubeagents: status: it is\a gone`+"\n", errOut.String())
	}
}
