package workday

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// report is a status report, as bots of the company's own send it.
type report struct {
	AgentID      string `json:"agent_id"`
	AgentName    string `json:"agent_name,omitempty"`
	AgentSource  string `json:"agent_source,omitempty"`
	AgentHost    string `json:"agent_host,omitempty"`
	SessionTopic string `json:"session_topic"`
	SessionTitle string `json:"session_title,omitempty"`
	Status       string `json:"status"`
	Message      string `json:"message,omitempty"`
	Content      string `json:"content,omitempty"`
	TTLMinutes   int    `json:"ttl_minutes,omitempty"`
}

// bot is the reports of one session of a bot, in the making.
type bot struct {
	report
	at     time.Time
	events []Event
}

// say adds a report after a time.
func (b *bot) say(after time.Duration, status, message string) {
	b.at = b.at.Add(after)
	b.Status, b.Message = status, message
	b.events = append(b.events, Event{At: b.at, Path: "/webhook/status", Body: encode(b.report)})
}

// evaluations is a bot that evaluates models on a machine that is taken away from it again and again, so that its
// sessions go silent in the middle. It resumes each of them once it has a machine again.
func evaluations(opens time.Time, random *rand.Rand) func() []Event {
	session := func(n int, at time.Time) *bot {
		build := 212 + n
		return &bot{at: at, report: report{AgentID: "evals@gpu-spot-3", AgentName: "evals", AgentSource: "eval-runner", AgentHost: "gpu-spot-3",
			SessionTopic: fmt.Sprint("ranker-", build), SessionTitle: fmt.Sprintf("Evaluate ranker build %d on the holdout set", build),
			TTLMinutes: int(evaluationTTL.Minutes())}}
	}
	const batches = 40
	batch := func(i int) string {
		return fmt.Sprintf("Batch %d of %d: nDCG@10 %.3f", i, batches, 0.41+0.02*random.Float64())
	}
	return periods(opens, evaluationBegins, func(n int, from time.Time) []Event {
		b := session(n, from)
		b.say(0, "running", "Loading 1.2 million queries")
		every := 45 * time.Second
		for i := range int(evaluationLasts / every) {
			b.say(every, "running", batch(i+1))
		}
		if n == 0 {
			return b.events
		}
		resumed := session(n-1, from)
		resumed.say(evaluationResumes, "running", "Resumed from batch 16 on a new machine")
		for i := range 4 {
			resumed.say(every, "running", batch(22+6*i))
		}
		resumed.say(every, "success", fmt.Sprintf("nDCG@10 %.3f, 0.006 better than build %d", 0.42+0.01*random.Float64(), 210+n))
		return append(b.events, resumed.events...)
	})
}

// ci is the bot that reports test runs.
var ci = report{AgentID: "ci@runner-7", AgentName: "ci", AgentSource: "github-actions", AgentHost: "runner-7", TTLMinutes: 60}

// failures is the nightly tests that fail, and pass when they are run again.
func failures(opens time.Time) func() []Event {
	session := func(n int, at time.Time) *bot {
		f := &broken[n%len(broken)]
		b := &bot{at: at, report: ci}
		b.SessionTopic, b.SessionTitle = fmt.Sprintf("%s-%d", f.topic, 3107+n), f.title
		return b
	}
	return periods(opens, failureBegins, func(n int, from time.Time) []Event {
		b, f := session(n, from), &broken[n%len(broken)]
		b.say(0, "running", "Building")
		b.say(70*time.Second, "running", f.running)
		b.Content = f.log
		b.say(110*time.Second, "failed", f.failed)
		if n == 0 {
			return b.events
		}
		f = &broken[(n-1)%len(broken)]
		again := session(n-1, from)
		again.say(failureAgain, "running", "Running again at "+f.fix)
		again.say(2*time.Minute, "success", "Passed on the second run")
		return append(b.events, again.events...)
	})
}

// checks is the runs of tests that pass. Each begins shortly before the one before ends, so that one is always running.
func checks(from time.Time, random *rand.Rand) func() []Event {
	var last *bot
	passed, n := "", 0
	return func() []Event {
		n++
		b := &bot{at: from, report: ci}
		pull := &pulls[n%len(pulls)]
		b.SessionTopic, b.SessionTitle = fmt.Sprintf("pr-%d", 4800+n), pull.title
		b.say(0, "running", "Installing dependencies")
		if last != nil {
			last.events, last.at = nil, from
			last.say(2*time.Second, "success", passed)
			b.events = append(b.events, last.events...)
		}
		b.say(between(random, 20*time.Second, 40*time.Second), "running", "Lint")
		b.say(between(random, 20*time.Second, 40*time.Second), "running", fmt.Sprintf("Running %d tests", pull.tests))
		from = b.at.Add(between(random, 90*time.Second, 200*time.Second))
		last, passed = b, fmt.Sprintf("%d tests passed", pull.tests)
		return b.events
	}
}

// deploys is a bot that asks for the go-ahead before it deploys. It does so with a status, not with a question.
func deploys(opens time.Time, random *rand.Rand) func() []Event {
	const every = 25 * time.Minute
	begins := opens.Add(2*time.Minute - History)
	n := 0
	return func() []Event {
		n++
		service := services[n%len(services)]
		release := fmt.Sprintf("%s 2.%d.0", service, 30+n)
		b := &bot{at: begins, report: report{AgentID: "deploy@ops-1", AgentName: "deploy", AgentSource: "deploy-bot", AgentHost: "ops-1",
			SessionTopic: fmt.Sprintf("%s-2.%d.0", service, 30+n), SessionTitle: "Release " + release}}
		b.say(0, "running", "Building the image")
		b.say(between(random, 60*time.Second, 90*time.Second), "running", "Deployed to staging, running smoke tests")
		b.say(between(random, 60*time.Second, 90*time.Second), "pending", "Smoke tests passed: deploy "+release+" to production?")
		b.say(between(random, 2*time.Minute, 5*time.Minute), "running", "Rolling out: 3 of 12 pods")
		b.say(between(random, 30*time.Second, 50*time.Second), "running", "Rolling out: 8 of 12 pods")
		b.say(between(random, 30*time.Second, 50*time.Second), "success", release+" is in production, error rate 0.02 %")
		begins = begins.Add(every)
		return b.events
	}
}
