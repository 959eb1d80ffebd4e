package adapters

import (
	"regexp"
	"strings"
)

// Tools put words of their own into prompts, in elements that are named like those of XML.
var (
	// around are what stands before or after what a person typed: it is taken out.
	around = elements("ide_selection", "ide_opened_file", "ide_diagnostics", "system-reminder", "terminal", "browser", "browser_instruction",
		"pasted_content", "environment_context", "user_instructions")
	// made begin a prompt that nobody typed.
	made = regexp.MustCompile(`^<(task-notification|agent-message|teammate-message|channel|cross-session-message|remote-review|remote-review-progress|` +
		`slack-ping|slack-tag-message|tick|fetched-web-content|untrusted-widget-state|coordinator-relay|session-notice|mcp-resource-update|` +
		`mcp-polling-update|artifact-[a-z-]+|command-name|command-message|command-args|local-command-stdout|local-command-stderr|local-command-caveat|` +
		`bash-input|bash-stdout|bash-stderr|bash-exit-code|user-memory-input|fork-boilerplate|user-prompt-submit-hook|post-tool-use-hook|turn_aborted|system_notification)[\s>]`)
	summary = elements("summary")
	command = elements("command-name")
	args    = elements("command-args")
	tags    = regexp.MustCompile(`</?[a-z][a-z0-9_-]*(\s[^<>]*)?>`)
)

// elements finds elements with one of these names; what is in them is the last group that is not empty.
func elements(names ...string) *regexp.Regexp {
	var forms []string
	for _, name := range names {
		forms = append(forms, `<`+name+`(?:\s[^>]*)?>([\s\S]*?)</`+name+`>`)
	}
	return regexp.MustCompile(strings.Join(forms, "|"))
}

// promptOf returns what a prompt says, in words, and whether its tool made it itself.
func promptOf(prompt string) (said string, injected bool) {
	if plan, request, ok := strings.Cut(prompt, "My request:"); ok && strings.HasPrefix(plan, "[[PLAN]]") { // Copilot's plan mode
		prompt = request
	}
	if !strings.Contains(prompt, "<") {
		return strings.TrimSpace(prompt), false
	}
	typed := strings.TrimSpace(around.ReplaceAllString(prompt, ""))
	if typed == "" && strings.TrimSpace(prompt) != "" {
		return words(prompt), true
	}
	if !made.MatchString(typed) {
		return typed, false
	}
	switch name, arguments := within(command, typed), within(args, typed); {
	case name != "":
		return strings.TrimSpace("/" + strings.TrimPrefix(name, "/") + " " + arguments), true
	case within(summary, typed) != "":
		return within(summary, typed), true
	}
	return words(typed), true
}

// within returns what the first element holds that is found in text, "" for none.
func within(element *regexp.Regexp, text string) string {
	if found := element.FindStringSubmatch(text); found != nil {
		return words(found[1])
	}
	return ""
}

// words returns a text without its tags.
func words(text string) string { return strings.TrimSpace(tags.ReplaceAllString(text, "")) }
