package notify_test

import (
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/notify"
)

// accessToken is what no error may contain.
const accessToken = "tk_SECRETagdq7mvbofd37zqvn29rhumzni"

// lookup returns what the references in the tests stand for.
func lookup(reference string) (string, error) {
	switch reference {
	case "NTFY_TOKEN", "file:/run/secrets/ntfy":
		return accessToken, nil
	case "TOPIC":
		return "my-topic", nil
	case "NESTED":
		return "${TOPIC}", nil
	case "LINES":
		return "a\nb", nil
	case "EMPTY":
		return "", nil
	case "LONG":
		return strings.Repeat("x", 3000), nil
	case "file:/run/secrets/locked":
		return accessToken, fmt.Errorf("%s: %w", accessToken, fs.ErrPermission)
	}
	return accessToken, fmt.Errorf("%s: %w", accessToken, fs.ErrNotExist)
}

// program is the path of a program that exists.
func program(t testing.TB) string {
	path, err := os.Executable()
	require.NoError(t, err)
	return path
}

func TestAFileOfRules(t *testing.T) {
	config, err := notify.Parse([]byte(`
# Who is told what.
destinations:
  phone:
    ntfy:
      url: https://ntfy.sh/${TOPIC}
      token: ${NTFY_TOKEN}
  oncall:
    webhook: {url: "https://hooks.example.com/x", format: cloudevent, headers: {X-Team: a, X-Secret: "${NTFY_TOKEN}"}}
    at_most: 30 per 1h
  local:
    command: {program: '`+program(t)+`', args: [--loud, "a b", 10]}
    at_most: unlimited
rules:
  - name: needs-me
    on: [waits, lost]
    agents: ["team-a/*", '*:claude']
    sources: [claude-code, codex]
    title: 2026
    to: [phone, oncall]
    then:
      - {after: 15m, to: [oncall]}
      - {after: 1h, to: [local, phone]}
    every: 30m
    until: 4h
    quiet: {from: 22:00, to: "07:30", zone: Europe/Berlin, do: drop}
    text: title
  - name: everything
    on: [waits, lost, failed, finished]
    after: 1m30s
    quiet: {from: "12:00", to: "13:00", zone: UTC}
    to: [local]
`), lookup)
	require.NoError(t, err)
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	require.Equal(t, []notify.Rule{{
		Name: "needs-me", Changes: []notify.Change{notify.Waits, notify.Lost},
		Agents: []string{"team-a/*", "*:claude"}, Sources: []string{"claude-code", "codex"}, Title: "2026",
		Steps: []notify.Step{
			{Settle: 10 * time.Second, To: []string{"phone", "oncall"}},
			{After: 15 * time.Minute, To: []string{"oncall"}},
			{After: time.Hour, To: []string{"local", "phone"}},
		},
		Every: 30 * time.Minute, Until: 4 * time.Hour, Text: notify.TitleOnly,
		Quiet: &notify.Quiet{From: 22 * time.Hour, To: 7*time.Hour + 30*time.Minute, Zone: berlin, Drop: true},
	}, {
		Name: "everything", Changes: []notify.Change{notify.Waits, notify.Lost, notify.Failed, notify.Finished},
		Steps: []notify.Step{{After: 90 * time.Second, To: []string{"local"}}},
		Quiet: &notify.Quiet{From: 12 * time.Hour, To: 13 * time.Hour, Zone: time.UTC},
	}}, config.Rules)

	limits := map[string]notify.Limit{}
	for name, d := range config.Destinations {
		require.Equal(t, name, d.Name)
		require.NotNil(t, d.Sender, name)
		limits[name] = d.Limit
	}
	require.Equal(t, map[string]notify.Limit{
		"phone": {Messages: 10, Per: time.Minute}, "oncall": {Messages: 30, Per: time.Hour}, "local": {},
	}, limits)
}

func TestTimeFromAChangeToAStep(t *testing.T) {
	for after, want := range map[string][2]time.Duration{ // after Waits, and after another change
		"":           {10 * time.Second, 0},
		"after: 0s":  {0, 0},
		"after: 5s":  {5 * time.Second, 5 * time.Second},
		"after: 20s": {20 * time.Second, 20 * time.Second},
	} {
		config, err := notify.Parse([]byte(fileWith("{name: x, on: [waits, lost], to: [phone], "+after+"}")), lookup)
		require.NoError(t, err)
		step := config.Rules[0].Steps[0]
		require.Equal(t, want, [2]time.Duration{step.AfterChange(notify.Waits), step.AfterChange(notify.Lost)}, after)
	}
}

// fileWith returns a file with rules, one a line beginning with line 4.
func fileWith(rules ...string) string {
	text := "destinations:\n  phone: {ntfy: {url: https://ntfy.sh/x}}\nrules:\n"
	for _, rule := range rules {
		text += "  - " + rule + "\n"
	}
	return text
}

// TestInvalidRules checks the error for each rule, which is on line 4 of a file.
func TestInvalidRules(t *testing.T) {
	const good = "name: x, on: [waits], to: [phone]"
	for rule, want := range map[string]string{
		`{name: x, on: [waits]}`:                 "a rule must have the key to",
		`{}`:                                     "a rule must have the key name\nline 4: a rule must have the key on\nline 4: a rule must have the key to",
		`a text`:                                 "a rule must have the keys name, on, agents, sources, title, after, to, then, every, until, quiet, text, follow_up and at_keyboard",
		``:                                       "a rule must have the keys name, on, agents, sources, title, after, to, then, every, until, quiet, text, follow_up and at_keyboard",
		`{` + good + `, evry: 30m}`:              `unknown key evry in a rule: did you mean every?`,
		`{` + good + `, filter: x}`:              `unknown key filter in a rule: the keys are name, on, agents, sources, title, after, to, then, every, until, quiet, text, follow_up and at_keyboard`,
		`{` + good + `, ` + accessToken + `: x}`: `unknown key in a rule: the keys are name, on, agents, sources, title, after, to, then, every, until, quiet, text, follow_up and at_keyboard`,
		`{` + good + `, "": x}`:                  `unknown key in a rule: the keys are name, on, agents, sources, title, after, to, then, every, until, quiet, text, follow_up and at_keyboard`,
		`{` + good + `, name: y}`:                "a rule has name twice",
		`{name: , on: [waits], to: [phone]}`:     "name must be 1 to 30 letters, digits, hyphens, underscores or dots, beginning with a letter or a digit",
		`{name: a b, on: [waits], to: [phone]}`:  "name must be 1 to 30 letters, digits, hyphens, underscores or dots, beginning with a letter or a digit",
		`{name: [x], on: [waits], to: [phone]}`:  "name must be 1 to 30 letters, digits, hyphens, underscores or dots, beginning with a letter or a digit",
		`{name: ` + accessToken + `, on: [waits], to: [phone]}`:                      "name must be 1 to 30 letters, digits, hyphens, underscores or dots, beginning with a letter or a digit",
		`{name: x, on: waits, to: [phone]}`:                                          "on must be a list of waits, lost, failed, finished or answered, each at most once",
		`{name: x, on: [], to: [phone]}`:                                             "on must be a list of waits, lost, failed, finished or answered, each at most once",
		`{name: x, on: [waiting], to: [phone]}`:                                      "on must be a list of waits, lost, failed, finished or answered, each at most once",
		`{name: x, on: [lost, lost], to: [phone]}`:                                   "on must be a list of waits, lost, failed, finished or answered, each at most once",
		`{name: x, on: [waits], to: phone}`:                                          "to must be a list of destinations, such as [phone]",
		`{name: x, on: [waits], to: [phon]}`:                                         "to: destination 1 is unknown: did you mean phone?",
		`{name: x, on: [waits], to: [phone, ` + accessToken + `]}`:                   "to: destination 2 is unknown: it must be phone",
		`{name: x, on: [waits], to: [phone, phone]}`:                                 "to: destination 2 is there twice",
		`{` + good + `, agents: team-a/*}`:                                           `agents must be a list of patterns of agent IDs, such as ["team-a/*"]`,
		`{` + good + `, agents: []}`:                                                 `agents must be a list of patterns of agent IDs, such as ["team-a/*"]`,
		`{` + good + `, agents: [a, ""]}`:                                            "agents: pattern 2 is empty",
		`{` + good + `, agents: [a, {b: c}]}`:                                        `agents must be a list of patterns of agent IDs, such as ["team-a/*"]`,
		`{` + good + `, agents: ["a\n"]}`:                                            "agents must not contain control characters",
		`{` + good + `, sources: claude-code}`:                                       "sources must be a list of sources, such as [claude-code]",
		`{` + good + `, sources: [""]}`:                                              "sources is required: 1 to 200 characters",
		`{` + good + `, title: }`:                                                    "title must be a text that the session's title or topic contains",
		`{` + good + `, title: "` + strings.Repeat("t", 201) + `"}`:                  "title must be at most 200 characters, not 201",
		`{` + good + `, after: 10}`:                                                  "after must be a duration from 0s to 168h, such as 10s",
		`{` + good + `, after: -1s}`:                                                 "after must be a duration from 0s to 168h, such as 10s",
		`{` + good + `, after: 169h}`:                                                "after must be a duration from 0s to 168h, such as 10s",
		`{` + good + `, every: 59s}`:                                                 "every must be a duration from 1m to 168h, such as 30m",
		`{` + good + `, every: 169h}`:                                                "every must be a duration from 1m to 168h, such as 30m",
		`{` + good + `, every: 30m, until: 30s}`:                                     "until must be a duration from 1m to 168h, such as 30m",
		`{` + good + `, until: 4h}`:                                                  "until needs every: how often the notification is repeated",
		`{` + good + `, every: 30m, until: 20m}`:                                     "until must be at least as long as every",
		`{` + good + `, then: 15m}`:                                                  "then must be a list of 1 to 10 steps, such as [{after: 15m, to: [oncall]}]",
		`{` + good + `, then: [{to: [phone]}]}`:                                      "a step must have the key after",
		`{` + good + `, then: [{after: 15m}]}`:                                       "a step must have the key to",
		`{` + good + `, then: [{after: 10s, to: [phone]}]}`:                          "after must be longer than that of the step before",
		`{` + good + `, after: 2m, then: [{after: 1m, to: [phone]}]}`:                "after must be longer than that of the step before",
		`{` + good + `, then: [{after: 2m, to: [phone]}, {after: 2m, to: [phone]}]}`: "after must be longer than that of the step before",
		`{` + good + `, then: [{after: 15m, to: [phone], every: 1m}]}`:               `unknown key every in a step: the keys are after and to`,
		`{` + good + `, text: none}`:                                                 "text must be full, title or nothing",
		`{` + good + `, text: [full]}`:                                               "text must be full, title or nothing",
		`{` + good + `, quiet: true}`:                                                "quiet must have the keys from, to, zone and do",
		`{` + good + `, quiet: {from: 22:00, to: 07:00}}`:                            "quiet must have the key zone",
		`{` + good + `, quiet: {from: 22h, to: 07:00, zone: UTC}}`:                   "from must be a time such as 22:00",
		`{` + good + `, quiet: {from: 22:00, to: 24:00, zone: UTC}}`:                 "to must be a time such as 22:00",
		`{` + good + `, quiet: {from: 22:00, to: 22:00, zone: UTC}}`:                 "from and to must differ",
		`{` + good + `, quiet: {from: 22:00, to: 07:00, zone: Berlin}}`:              "zone must be the name of a time zone, such as Europe/Berlin or UTC",
		`{` + good + `, quiet: {from: 22:00, to: 07:00, zone: ../zoneinfo/UTC}}`:     "zone must be the name of a time zone, such as Europe/Berlin or UTC",
		`{` + good + `, quiet: {from: 22:00, to: 07:00, zone: UTC, do: wait}}`:       "do must be hold or drop",
	} {
		t.Run(rule, func(t *testing.T) {
			config, err := notify.Parse([]byte(fileWith(rule)), lookup)
			require.EqualError(t, err, "line 4: "+want)
			require.Nil(t, config)
		})
	}
}

const (
	oneKind         = "a destination must have one of the keys ntfy, slack, discord, telegram, email, alertmanager, shoutrrr, webhook and command"
	destinationKeys = "ntfy, slack, discord, telegram, email, alertmanager, shoutrrr, webhook, command and at_most"
)

// TestInvalidDestinations checks the error for each destination, which begins on line 3 of a file.
func TestInvalidDestinations(t *testing.T) {
	for destination, want := range map[string]string{
		"{}":                               "line 3: " + oneKind,
		"":                                 "line 3: a destination must have the keys " + destinationKeys,
		"{at_most: 1 per 1m}":              "line 3: " + oneKind,
		"{pager: x}":                       "line 3: unknown key pager in a destination: the keys are " + destinationKeys + "\nline 3: " + oneKind,
		"{ntfi: {url: https://ntfy.sh/x}}": "line 3: unknown key ntfi in a destination: did you mean ntfy?\nline 3: " + oneKind,
		"{ntfy: {url: https://ntfy.sh/x}, webhook: {url: https://example.com}}": "line 3: " + oneKind,
		"{ntfy: https://ntfy.sh/x}": "line 3: ntfy must have the keys url and token",
		"{ntfy: {token: x}}":        "line 3: ntfy must have the key url",
		"{ntfy: {url: }}":           "line 3: url must be the URL of a topic, such as https://ntfy.sh/my-topic",
		"\n      ntfy:\n        url: https://ntfy.sh/x\n        token:": "line 6: token must be an access token",
		"{ntfy: {url: https://ntfy.sh/x, secret: x}}":                   `line 3: unknown key secret in ntfy: the keys are url and token`,
		"{discord: x}":                                                                "line 3: discord must have the key url",
		"{discord: {url: }}":                                                          "line 3: url must be the URL of a webhook of Discord, such as https://discord.com/api/webhooks/ID/TOKEN",
		"{discord: {adress: x}}":                                                      "line 3: unknown key adress in discord: the only key is url\nline 3: discord must have the key url",
		"{telegram: {chat: 5}}":                                                       "line 3: telegram must have the key token",
		"{telegram: {token: 1:x}}":                                                    "line 3: telegram must have the key chat",
		"{telegram: {token: 1:x, chat: [5]}}":                                         `line 3: chat must be the ID of a chat, such as "-1001234567890"`,
		"{telegram: {token: [x], chat: 5}}":                                           "line 3: token must be the token of a bot, such as 123456:ABC-DEF",
		"{telegram: {token: 1:x, chat_id: 5}}":                                        "line 3: unknown key chat_id in telegram: the keys are token and chat\nline 3: telegram must have the key chat",
		"{alertmanager: http://x}":                                                    "line 3: alertmanager must have the key url",
		"{alertmanager: {url: [x]}}":                                                  "line 3: url must be the URL of an Alertmanager, such as http://localhost:9093",
		"{alertmanager: {token: x}}":                                                  "line 3: unknown key token in alertmanager: the only key is url\nline 3: alertmanager must have the key url",
		"{slack: {token: x}}":                                                         "line 3: slack must have the key channel",
		"{slack: {token: x, channel: [C1]}}":                                          "line 3: channel must be the ID of a channel, such as C0123456789",
		"{slack: {token: , channel: C1}}":                                             "line 3: token must be the token of a bot, which begins with xoxb-",
		"{slack: {token: x, chanel: C1}}":                                             "line 3: unknown key chanel in slack: did you mean channel?\nline 3: slack must have the key channel",
		"{slack: {token: x, channel: C1, url: x}}":                                    "line 3: unknown key url in slack: the keys are token and channel",
		"{shoutrrr: {url: [x]}}":                                                      "line 3: url must be the URL of a service, such as gotify://HOST/TOKEN",
		"{shoutrrr: {host: x}}":                                                       "line 3: unknown key host in shoutrrr: the only key is url\nline 3: shoutrrr must have the key url",
		"{webhook: {url: [x]}}":                                                       "line 3: url must be a URL such as https://hooks.example.com/x",
		"{webhook: {url: https://example.com, format: xml}}":                          "line 3: format must be json or cloudevent",
		"{webhook: {url: https://example.com, headers: X-Team}}":                      "line 3: headers must be 1 to 50 headers, such as {X-Team: a}",
		"{webhook: {url: https://example.com, headers: {X Team: a}}}":                 "line 3: headers must be names and texts of one line, such as {X-Team: a}",
		"{webhook: {url: https://example.com, headers: {X-Team: [a]}}}":               "line 3: headers must be names and texts of one line, such as {X-Team: a}",
		`{webhook: {url: https://example.com, headers: {X-Team: "${LINES}"}}}`:        "line 3: headers must be names and texts of one line, such as {X-Team: a}",
		"{webhook: {url: https://example.com, headers: {X-Team: a, x-team: b}}}":      "line 3: headers has the same name twice",
		"{command: {args: [x]}}":                                                      "line 3: command must have the key program",
		"{command: {program: /x, args: --loud}}":                                      "line 3: args must be a list of arguments, such as [--loud]",
		"{ntfy: {url: https://ntfy.sh/x}, at_most: 0 per 1m}":                         "line 3: at_most must be a number from 1 to 1000 and a duration from 1s to 24h, such as 10 per 1m; or unlimited",
		"{ntfy: {url: https://ntfy.sh/x}, at_most: 10}":                               "line 3: at_most must be a number from 1 to 1000 and a duration from 1s to 24h, such as 10 per 1m; or unlimited",
		"{ntfy: {url: https://ntfy.sh/x}, at_most: 10 per minute}":                    "line 3: at_most must be a number from 1 to 1000 and a duration from 1s to 24h, such as 10 per 1m; or unlimited",
		"{ntfy: {url: https://ntfy.sh/x}, at_most: 1001 per 1m}":                      "line 3: at_most must be a number from 1 to 1000 and a duration from 1s to 24h, such as 10 per 1m; or unlimited",
		"{ntfy: {url: https://ntfy.sh/x}, at_most: 10 per 25h}":                       "line 3: at_most must be a number from 1 to 1000 and a duration from 1s to 24h, such as 10 per 1m; or unlimited",
		"{ntfy: {url: https://ntfy.sh/x}, at_most: 10 per 10ms}":                      "line 3: at_most must be a number from 1 to 1000 and a duration from 1s to 24h, such as 10 per 1m; or unlimited",
		"{ntfy: {url: https://ntfy.sh/x}}\n  phone: {ntfy: {url: https://ntfy.sh/y}}": "line 4: destinations has phone twice",
		"{ntfy: {url: https://ntfy.sh/x}}\n  my phone: {}":                            "line 4: the name of a destination must be 1 to 30 letters, digits, hyphens, underscores or dots, beginning with a letter or a digit",
		"{ntfy: {url: https://ntfy.sh/x}}\n  " + accessToken + ": {}":                 "line 4: the name of a destination must be 1 to 30 letters, digits, hyphens, underscores or dots, beginning with a letter or a digit",
		"{email: x}":             "line 3: email must have the keys host, port, tls, user, password, from and to",
		"{email: {to: [a@x.y]}}": "line 3: email must have the key host\nline 3: email must have the key from",
		"{email: {host: x, from: a@x.y, to: a@x.y}}":                                    "line 3: to must be a list of addresses, such as [ops@example.com]",
		"{email: {host: x, from: a@x.y, to: []}}":                                       "line 3: to must be a list of addresses, such as [ops@example.com]",
		"{email: {host: x, from: [a@x.y], to: [a@x.y]}}":                                "line 3: from must be an address such as ops@example.com or Ops <ops@example.com>",
		"{email: {host: x, from: a@x.y, to: [a@x.y], tls: yes}}":                        "line 3: tls must be starttls, implicit or none",
		"{email: {host: x, from: a@x.y, to: [a@x.y], port: 0}}":                         "line 3: port must be a number from 1 to 65535",
		"{email: {host: x, from: a@x.y, to: [a@x.y], port: 65536}}":                     "line 3: port must be a number from 1 to 65535",
		"{email: {host: x, from: a@x.y, to: [a@x.y], port: smtp}}":                      "line 3: port must be a number from 1 to 65535",
		"{email: {host: x, from: a@x.y, to: [a@x.y], pasword: x}}":                      "line 3: unknown key pasword in email: did you mean password?",
		"{email: {host: x, from: a@x.y, to: [a@x.y], user: }}":                          "line 3: user must be the name of a user of the mail server",
		"{email: {host: x, from: a@x.y, to: [a@x.y], user: x}}":                         "line 3: user and password need each other",
		"{email: {host: x, from: a@x.y, to: [a@x.y], user: x, password: y, tls: none}}": "line 3: tls: none can't be used with a password, which everybody on the way to the mail server could read",
		"\n      email:\n        host: x:25\n        from: a@x.y\n        to: [a@x.y]":  "line 4: host must be the name of a mail server, such as smtp.example.com, without a port",

		`{ntfy: {url: https://ntfy.sh/x, token: "${UNSET}"}}`:                      "line 3: the environment variable UNSET is not set",
		`{ntfy: {url: "${UNSET}", token: "${OTHER}"}}`:                             "line 3: the environment variable UNSET is not set\nline 3: the environment variable OTHER is not set",
		`{ntfy: {url: "https://ntfy.sh/${EMPTY}"}}`:                                "line 3: the environment variable EMPTY is empty",
		`{ntfy: {url: "https://ntfy.sh/${NTFY_TOKEN}${UNSET}"}}`:                   "line 3: the environment variable UNSET is not set",
		`{ntfy: {url: "https://ntfy.sh/x", token: "${` + accessToken + `}"}}`:      "line 3: the environment variable is not set",
		`{ntfy: {url: "https://ntfy.sh/x", token: "${file:/run/secrets/locked}"}}`: "line 3: the file /run/secrets/locked can't be read",
		`{ntfy: {url: "https://ntfy.sh/x", token: "${file:/run/secrets/absent}"}}`: "line 3: the file /run/secrets/absent does not exist",
		`{ntfy: {url: "https://ntfy.sh/x", token: "${file:/a b?}"}}`:               "line 3: the file does not exist",
		`{ntfy: {url: "https://ntfy.sh/x", token: "${file:secrets/x}"}}`:           "line 3: a reference must be ${NAME}, for an environment variable, or ${file:/path}, for a file",
		`{ntfy: {url: "https://ntfy.sh/x", token: "${` + accessToken + `"}}`:       "line 3: a reference must be ${NAME}, for an environment variable, or ${file:/path}, for a file",
		`{ntfy: {url: "https://ntfy.sh/x", token: "${}"}}`:                         "line 3: a reference must be ${NAME}, for an environment variable, or ${file:/path}, for a file",
		`{ntfy: {url: "https://ntfy.sh/x", token: "${LONG}${LONG}"}}`:              "line 3: a text must have at most 4096 bytes once its references are replaced",
		`{webhook: {url: "https://x", headers: {X-A: "${UNSET}"}}}`:                "line 3: the environment variable UNSET is not set",
		`{command: {program: /x, args: [a, "${UNSET}"]}}`:                          "line 3: the environment variable UNSET is not set",
	} {
		t.Run(destination, func(t *testing.T) {
			text := "rules: [{name: x, on: [waits], to: [phone]}]\ndestinations:\n  phone: " + destination + "\n"
			_, err := notify.Parse([]byte(text), lookup)
			require.EqualError(t, err, want)
		})
	}
}

// TestDestinationsThatCannotBeUsed checks that what a sender does not accept is reported along with all other faults.
func TestDestinationsThatCannotBeUsed(t *testing.T) {
	_, err := notify.Parse([]byte(`destinations:
  phone:
    ntfy: {url: "ftp://`+accessToken+`"}
  hook:
    at_most: unlimited
    webhook:
      url: `+accessToken+`
  local:
    command: {program: bin/`+accessToken+`}
  games:
    discord: {url: "https://discord.com/`+accessToken+`"}
  alerts:
    alertmanager: {url: "http://localhost/?`+accessToken+`"}
  group:
    telegram: {token: "`+accessToken+`", chat: 5}
  team:
    slack: {token: "a b `+accessToken+`", channel: C1}
  push:
    shoutrrr: {url: "gotify://localhost/`+accessToken+`"}
  mail:
    email: {host: localhost, from: "`+accessToken+`", to: [a@x.y]}
  mails:
    email: {host: localhost, from: a@x.y, to: [a@x.y, "`+accessToken+`@x y"]}
rules: []
`), lookup)
	require.EqualError(t, err, `line 3: the URL of an ntfy topic must be a URL that begins with http:// or https://
line 6: the URL of a webhook must be a URL that begins with http:// or https://
line 9: program must be the absolute path of a program that can be run
line 11: the URL of a Discord webhook must be like https://discord.com/api/webhooks/ID/TOKEN
line 13: the URL of an Alertmanager must be that of its page, such as http://localhost:9093
line 15: a Telegram token must be like 123456:ABC-DEF
line 17: a Slack token must not contain spaces or special characters
line 19: the URL for gotify must be like gotify://HOST/TOKEN
line 21: from must be an address such as ops@example.com or Ops <ops@example.com>
line 23: to: address 2 must be an address such as ops@example.com or Ops <ops@example.com>
line 24: rules must be a list of 1 to 100 rules`)
}

func TestInvalidFiles(t *testing.T) {
	for file, want := range map[string]string{
		"":                            "the file has no rules, so nobody would be notified",
		"# nothing\n":                 "the file has no rules, so nobody would be notified",
		"rules:\n":                    "line 1: the file must have the key destinations\nline 1: rules must be a list of 1 to 100 rules",
		"destinations: {}\nrules: []": "line 1: destinations must be 1 to 100 destinations by name\nline 2: rules must be a list of 1 to 100 rules",
		accessToken:                   "line 1: the file must have the keys destinations and rules",
		"- " + accessToken:            "line 1: the file must have the keys destinations and rules",
		fileWith("{name: x, on: [waits], to: [phone]}") + "rule: x\n":                                       `line 5: unknown key rule in the file: did you mean rules?`,
		fileWith("{name: x, on: [waits], to: [phone]}", "{name: x, on: [lost], to: [phone]}"):               "line 5: name is the same as on line 4",
		fileWith("{name: x, on: [wait], to: [phone]}", "{name: y, to: [phone]}"):                            "line 4: on must be a list of waits, lost, failed, finished or answered, each at most once\nline 5: a rule must have the key on",
		fileWith("{name: x, on: [waits], to: [phone]}") + "---\na: b\n":                                     "the file must have one YAML document, not several",
		fileWith("{name: x, on: [waits], to: [phone]}", "{name: y, on: [waits], to: [phone], agents: [*]}"): "line 5: aliases (*) are not allowed; put a value that begins with * in quotes",
		"a: &x [b]\nc: *x\n":                      "line 1: anchors (&) are not allowed; put a value that begins with & in quotes",
		"a: b\nc: !!str d\n":                      "line 2: tags (!) are not allowed; put a value that begins with ! in quotes",
		"%TAG ! x\n---\na: b\n":                   "line 1: directives (%) are not allowed; put a value that begins with % in quotes",
		"? a\n: b\n":                              "line 1: keys that begin with ? are not allowed",
		"a:\n  <<: {b: c}\n":                      "line 2: merging mappings (<<) is not allowed",
		"a: b\n\tc: d\n":                          "line 2: not valid YAML: found character '\t' that cannot start any token",
		"a: [b\nc: " + accessToken + "\n":         "line 2: not valid YAML: ',' or ']' must be specified",
		"a: " + accessToken + ": x\n":             "line 1: not valid YAML: mapping value is not allowed in this context",
		"a: \"" + accessToken + "\n":              "line 1: not valid YAML: could not find end character of double-quoted text",
		"a:\n  b: {token: ${NTFY_TOKEN}}\n":       `line 2: not valid YAML: ',' or '}' must be specified; inside { } and [ ], references need quotes, as in "${NAME}"`,
		"a: " + accessToken + "\xff":              "the file must be UTF-8",
		"a: " + strings.Repeat("[", 11) + "\n":    "line 1: lists and mappings are nested too deeply",
		"a:\n" + strings.Repeat("- ", 11) + "b\n": "line 2: lists and mappings are nested too deeply",
		strings.Repeat("# comment\n", 13_200):     "the file must have at most 128 KiB",
	} {
		t.Run(file[:min(len(file), 100)], func(t *testing.T) {
			_, err := notify.Parse([]byte(file), lookup)
			require.EqualError(t, err, want)
		})
	}
}

func TestManyRulesAndDestinations(t *testing.T) {
	file := func(rules, destinations int) string {
		text := "destinations:\n"
		for i := range destinations {
			text += fmt.Sprintf("  d%d: {ntfy: {url: https://ntfy.sh/x}}\n", i)
		}
		text += "rules:\n"
		for i := range rules {
			text += fmt.Sprintf("  - {name: r%d, on: [waits], to: [d%d]}\n", i, i%destinations)
		}
		return text
	}
	config, err := notify.Parse([]byte(file(100, 100)), lookup)
	require.NoError(t, err)
	require.Len(t, config.Rules, 100)
	require.Len(t, config.Destinations, 100)
	_, err = notify.Parse([]byte(file(101, 1)), lookup)
	require.EqualError(t, err, "line 3: rules must be a list of 1 to 100 rules")
	_, err = notify.Parse([]byte(file(1, 101)), lookup)
	require.ErrorContains(t, err, "line 1: destinations must be 1 to 100 destinations by name")

	_, err = notify.Parse([]byte(strings.ReplaceAll(file(100, 1), "waits", "wait")), lookup)
	require.Len(t, strings.Split(err.Error(), "\n"), 21)
	require.ErrorContains(t, err, "\nand 80 more errors")
}

// TestFilesFromOtherEditors checks that a byte order mark and Windows' line ends make no difference.
func TestFilesFromOtherEditors(t *testing.T) {
	text := strings.ReplaceAll(fileWith("{name: x, on: [waits], to: [phone]}"), "\n", "\r\n")
	_, err := notify.Parse([]byte("\ufeff"+text), lookup)
	require.NoError(t, err)
	_, err = notify.Parse([]byte("\ufeff"+strings.Replace(text, "waits", "wait", 1)), lookup)
	require.ErrorContains(t, err, "line 4: on must be")
}

// TestReferencesAreReplacedOnce checks that a value can't refer to something else, and that only destinations can.
func TestReferencesAreReplacedOnce(t *testing.T) {
	var references []string
	_, err := notify.Parse([]byte(`
destinations:
  phone: {ntfy: {url: "https://ntfy.sh/x", token: "${NTFY_TOKEN}"}, at_most: "${RATE}"}
  other: {webhook: {url: "https://example.com/${NESTED}"}}
rules:
  - {name: x, on: [waits], title: "${UNSET}", to: [phone]}
`), func(reference string) (string, error) {
		references = append(references, reference)
		if reference == "RATE" {
			return "5 per 1m", nil
		}
		return lookup(reference)
	})
	require.NoError(t, err)
	require.Equal(t, []string{"NTFY_TOKEN", "RATE", "NESTED"}, references)
}

// manual is the page of the manual about rules files.
func manual(t *testing.T) string {
	text, err := os.ReadFile("../../docs/notifications.md")
	require.NoError(t, err)
	return string(text)
}

// manualReferences is what the references in the manual stand for.
var manualReferences = map[string]string{
	"file:/run/secrets/hook": secret,
	"DISCORD_URL":            "https://discord.com/api/webhooks/77/x",
	"TELEGRAM_TOKEN":         "123:x",
	"SLACK_TOKEN":            "xoxb-1-x",
	"TEAMS_URL":              workflow,
	"MAIL_PASSWORD":          "x",
}

// TestManualExamples checks that every example in the manual can be used.
func TestManualExamples(t *testing.T) {
	examples := regexp.MustCompile("(?ms)^```yaml$(.*?)^```$").FindAllStringSubmatch(manual(t), -1)
	require.NotEmpty(t, examples)
	for _, example := range examples {
		_, err := notify.Parse([]byte(example[1]), func(reference string) (string, error) {
			if value, ok := manualReferences[reference]; ok {
				return value, nil
			}
			return lookup(reference)
		})
		require.NoError(t, err, example[1])
	}
}

// TestManualListsEveryKey compares the manual with the keys that errors list.
func TestManualListsEveryKey(t *testing.T) {
	const rule = "rules: [{name: x, on: [waits], to: [d], "
	for prefix, file := range map[string]string{
		"":              "destinations: {d: x}",
		"ntfy.":         "destinations: {d: {ntfy: x}}",
		"webhook.":      "destinations: {d: {webhook: x}}",
		"discord.":      "destinations: {d: {discord: x}}",
		"telegram.":     "destinations: {d: {telegram: x}}",
		"alertmanager.": "destinations: {d: {alertmanager: x}}",
		"slack.":        "destinations: {d: {slack: x}}",
		"shoutrrr.":     "destinations: {d: {shoutrrr: x}}",
		"email.":        "destinations: {d: {email: x}}",
		"command.":      "destinations: {d: {command: x}}",
		"quiet.":        rule + "quiet: x}]",
	} {
		_, err := notify.Parse([]byte(file), lookup)
		for _, key := range keysIn(t, err) {
			require.Contains(t, manual(t), "`"+prefix+key+"`", "%s in %v", key, err)
		}
	}
	for _, file := range []string{"x", "rules: [x]", rule + "then: [x]}]"} {
		_, err := notify.Parse([]byte(file), lookup)
		for _, key := range keysIn(t, err) {
			require.Contains(t, manual(t), "`"+key+"`", "%s in %v", key, err)
		}
	}
}

// keysIn returns the keys that an error lists.
func keysIn(t *testing.T, err error) []string {
	text := regexp.MustCompile(`the file must have the key \w+`).ReplaceAllString(err.Error(), "") // another part of it
	found := regexp.MustCompile(`must have the keys? (.*)`).FindStringSubmatch(text)
	require.NotNil(t, found, err)
	return regexp.MustCompile(`, | and `).Split(found[1], -1)
}

// TestDescribe checks what people read of a rule that uses every key.
func TestDescribe(t *testing.T) {
	config, err := notify.Parse([]byte(everything(t)), lookup)
	require.NoError(t, err)
	require.Equal(t, `notifies phone and local of: waits (after 10s), lost (after 10s), failed (after 10s), finished (after 10s), answered (after 10s)
notifies oncall of: waits (after 15m), lost (after 15m), failed (after 15m), finished (after 15m), answered (after 15m)
agents: team-a/*
sources: claude-code
title: contains "deploy"
repeats every 30m, until 4h after the change
from 22:00 to 07:00 (Europe/Berlin): holds what is due, and sends a summary afterwards
sends a further message when a change is over, where the first one can't be taken back
notifies devices even of what their owner's dashboard shows`, config.Rules[0].Describe())
}

// everything is a file that uses every key.
func everything(t testing.TB) string {
	return `destinations:
  phone:
    ntfy: {url: https://ntfy.sh/topic, token: "${NTFY_TOKEN}"}
    at_most: 10 per 1m
  oncall:
    webhook:
      url: https://hooks.example.com/x
      secret: ` + secret + `
      format: json
      headers: {X-Team: a}
  games:
    discord: {url: "https://discord.com/api/webhooks/77/${NTFY_TOKEN}"}
  alerts:
    alertmanager: {url: "http://localhost:9093/${NTFY_TOKEN}"}
  group:
    telegram: {token: "123:${NTFY_TOKEN}", chat: "-100123"}
  team:
    slack: {token: "${NTFY_TOKEN}", channel: C0123456789}
  room:
    shoutrrr: {url: "matrix://:${NTFY_TOKEN}@matrix.example.com/?rooms=!x"}
  mail:
    email:
      host: smtp.example.com
      port: 465
      tls: implicit
      user: agents
      password: ${NTFY_TOKEN}
      from: KubeAgents <agents@example.com>
      to: [ops@example.com, "Ann <ann@example.com>"]
  local:
    command: {program: '` + program(t) + `', args: [--loud]}
rules:
  - name: needs-me
    on: [waits, lost, failed, finished, answered]
    agents: ["team-a/*"]
    sources: [claude-code]
    title: deploy
    after: 10s
    follow_up: true
    at_keyboard: send
    every: 30m
    until: 4h
    then: [{after: 15m, to: [oncall]}]
    quiet: {from: "22:00", to: "07:00", zone: Europe/Berlin, do: hold}
    text: full
    to: [phone, local]
`
}

// TestErrorsContainNoSecrets puts a token in place of any part of a file.
func TestErrorsContainNoSecrets(t *testing.T) {
	file := everything(t)
	_, err := notify.Parse([]byte(file), lookup)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		text := []rune(file)
		from := rapid.IntRange(0, len(text)).Draw(t, "from")
		to := rapid.IntRange(from, min(from+rapid.SampledFrom([]int{0, 1, 10, 100}).Draw(t, "most"), len(text))).Draw(t, "to")
		put := rapid.SampledFrom([]string{"%s", " %s", "%s: ", "\n%s: ", "\"%s", "'%s'", "[%s", "{%s", "!%s ", "&%s ", "*%s ", "${%s}", "${file:%s}", "\n---\n%s",
			"- %s\n", ": %s\n", "#%s", "@%s", "|%s", "\\%s", "\x00%s", "%%%s ", "https://%s/", "https://x/%s%%zz", "https://u:%s@x y/z"}).Draw(t, "put")
		changed := string(text[:from]) + fmt.Sprintf(put, accessToken) + string(text[to:])
		if _, err := notify.Parse([]byte(changed), lookup); err != nil {
			require.NotContains(t, err.Error(), "SECRET", changed)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(everything(f)))
	f.Add([]byte(fileWith("{name: x, on: [waits], to: [phone]}")))
	f.Add([]byte("a: &x [*x]\n? !t |\n  b\n%c"))
	f.Add([]byte("{\"a\": [\"\\u0000\", 0x1, ~, .inf, '']}"))
	f.Fuzz(func(t *testing.T, file []byte) {
		started := time.Now()
		config, err := notify.Parse(file, lookup)
		require.Less(t, time.Since(started), 5*time.Second)
		if err != nil {
			require.NotContains(t, err.Error(), "SECRET")
			require.Less(t, len(err.Error()), 20<<10)
			return
		}
		require.NotEmpty(t, config.Rules)
		for _, rule := range config.Rules {
			require.NotEmpty(t, rule.Changes)
			require.NotEmpty(t, rule.Steps)
			for _, step := range rule.Steps {
				require.NotEmpty(t, step.To)
				for _, name := range step.To {
					require.NotNil(t, config.Destinations[name].Sender)
				}
			}
			if rule.Quiet != nil {
				rule.Quiet.EndOf(time.Unix(0, 0))
			}
		}
	})
}
