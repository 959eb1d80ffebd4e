package adapters

import (
	"regexp"
	"strings"
)

// Tools insert their own text into prompts, in elements like those of XML.
var (
	// inserted matches elements that tools insert before or after the text that a person typed.
	inserted = elements("ide_selection", "ide_opened_file", "ide_diagnostics", "system-reminder", "terminal", "browser", "browser_instruction",
		"pasted_content", "environment_context", "user_instructions")
	// generated matches the beginning of a prompt that nobody typed.
	generated = regexp.MustCompile(`^<(task-notification|agent-message|teammate-message|channel|cross-session-message|remote-review|remote-review-progress|` +
		`slack-ping|slack-tag-message|tick|fetched-web-content|untrusted-widget-state|coordinator-relay|session-notice|mcp-resource-update|` +
		`mcp-polling-update|artifact-[a-z-]+|command-name|command-message|command-args|local-command-stdout|local-command-stderr|local-command-caveat|` +
		`bash-input|bash-stdout|bash-stderr|bash-exit-code|user-memory-input|fork-boilerplate|user-prompt-submit-hook|post-tool-use-hook|turn_aborted|system_notification)[\s>]`)
	summary = elements("summary")
	command = elements("command-name")
	args    = elements("command-args")
	tags    = regexp.MustCompile(`</?[a-z][a-z0-9_-]*(\s[^<>]*)?>`)
)

// elements returns an expression that matches elements with one of these names. Their content is the last group that is
// not empty.
func elements(names ...string) *regexp.Regexp {
	var forms []string
	for _, name := range names {
		forms = append(forms, `<`+name+`(?:\s[^>]*)?>([\s\S]*?)</`+name+`>`)
	}
	return regexp.MustCompile(strings.Join(forms, "|"))
}

// promptOf returns the text of a prompt, and whether the tool generated the prompt.
func promptOf(prompt string) (text string, injected bool) {
	if plan, request, ok := strings.Cut(prompt, "My request:"); ok && strings.HasPrefix(plan, "[[PLAN]]") { // Copilot's plan mode
		prompt = request
	}
	if !strings.Contains(prompt, "<") {
		return strings.TrimSpace(prompt), false
	}
	typed := strings.TrimSpace(inserted.ReplaceAllString(prompt, ""))
	if typed == "" && strings.TrimSpace(prompt) != "" {
		return withoutTags(prompt), true
	}
	if !generated.MatchString(typed) {
		return typed, false
	}
	switch name, arguments := elementText(command, typed), elementText(args, typed); {
	case name != "":
		return strings.TrimSpace("/" + strings.TrimPrefix(name, "/") + " " + arguments), true
	case elementText(summary, typed) != "":
		return elementText(summary, typed), true
	}
	return withoutTags(typed), true
}

// elementText returns the text of the first match of element in text, "" if there is none.
func elementText(element *regexp.Regexp, text string) string {
	if found := element.FindStringSubmatch(text); found != nil {
		return withoutTags(found[1])
	}
	return ""
}

// withoutTags returns a text without its tags.
func withoutTags(text string) string { return strings.TrimSpace(tags.ReplaceAllString(text, "")) }
