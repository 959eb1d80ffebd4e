//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The prompts for which the stand-in models call tools. To any other prompt they reply with modelReply.
const (
	promptForTool   = "USE_TOOL to make a file"    // calls the shell
	promptForMCP    = "USE_MCP to say how it goes" // calls report_status of KubeAgents' MCP server
	promptForDialog = "USE_DIALOG to read a file"  // calls Claude Code's shell twice at once: to read a file, which needs permission, and to sleep
	modelReply      = "All done."
)

// toolCall is a tool call by the model.
type toolCall struct {
	tool string
	args map[string]any
}

// startModelAPI serves the minimum of three vendors' APIs that their command-line tools need to run without a network:
// Anthropic's messages (https://platform.claude.com/docs/en/api/messages-streaming), OpenAI's responses
// (https://platform.openai.com/docs/api-reference/responses-streaming) and Gemini's streamGenerateContent
// (https://ai.google.dev/api/generate-content).
func startModelAPI(t testing.TB) (address string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		request := string(body)
		switch {
		case strings.HasSuffix(r.URL.Path, "/messages"):
			replyAnthropic(w, request)
		case strings.HasSuffix(r.URL.Path, "/responses"):
			replyOpenAI(w, request)
		case strings.Contains(r.URL.Path, ":streamGenerateContent"), strings.Contains(r.URL.Path, ":generateContent"):
			replyGemini(w, request, strings.Contains(r.URL.Path, ":stream"))
		default:
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"data":[],"models":[],"totalTokens":1,"input_tokens":1}`) //nolint:errcheck // fails only if the client is gone
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// callsFor returns the tool calls with which the model replies to a request. resultMarker occurs in requests that
// contain the result of a call.
func callsFor(request, resultMarker string) []toolCall {
	prompt, at := "", -1
	for _, known := range []string{promptForTool, promptForMCP, promptForDialog} {
		if i := strings.LastIndex(request, known); i > at {
			prompt, at = known, i
		}
	}
	if strings.LastIndex(request, resultMarker) > at {
		return nil // the tool was called already
	}
	offers := func(name string) bool { return strings.Contains(request, `"name":"`+name+`"`) }
	switch {
	case prompt == promptForMCP && offers("mcp__kubeagents__report_status"):
		return []toolCall{{"mcp__kubeagents__report_status", map[string]any{"agent_id": "by-mcp", "session_topic": "mcp", "status": "pending", "message": "Which one?"}}}
	case prompt == promptForDialog && offers("Bash"):
		return []toolCall{
			{"Bash", map[string]any{"command": "cat /etc/hostname", "description": "Read a file"}},
			{"Bash", map[string]any{"command": "sleep 2", "description": "Wait"}},
		}
	case prompt != promptForTool:
		return nil
	}
	for _, known := range []toolCall{
		{"Bash", map[string]any{"command": "touch made-by-tool", "description": "Make a file"}},
		{"bash", map[string]any{"command": "touch made-by-tool", "description": "Make a file"}},
		{"run_shell_command", map[string]any{"command": "touch made-by-tool"}},
		{"exec_command", map[string]any{"cmd": "touch made-by-tool"}},
		{"shell_command", map[string]any{"command": "touch made-by-tool"}},
		{"shell", map[string]any{"command": []string{"touch", "made-by-tool"}}},
	} {
		if offers(known.tool) {
			return []toolCall{known}
		}
	}
	return nil
}

// writeEvent writes an event to a stream.
func writeEvent(w io.Writer, name string, data map[string]any) {
	data["type"] = name
	text, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, text)
}

func replyAnthropic(w http.ResponseWriter, request string) {
	calls := callsFor(request, `"tool_result"`)
	message := map[string]any{"id": "msg_1", "type": "message", "role": "assistant", "model": "stand-in", "content": []any{}, "usage": map[string]any{"input_tokens": 1, "output_tokens": 1}}
	if !strings.Contains(request, `"stream":true`) {
		message["content"], message["stop_reason"] = []any{map[string]any{"type": "text", "text": modelReply}}, "end_turn"
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(message) //nolint:errcheck // fails only if the client is gone
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	writeEvent(w, "message_start", map[string]any{"message": message})
	stop := "end_turn"
	for i, c := range calls {
		stop = "tool_use"
		input, _ := json.Marshal(c.args)
		streamBlock(w, i, map[string]any{"type": "tool_use", "id": fmt.Sprintf("toolu_%d_%d", len(request), i), "name": c.tool, "input": map[string]any{}},
			map[string]any{"type": "input_json_delta", "partial_json": string(input)})
	}
	if len(calls) == 0 {
		streamBlock(w, 0, map[string]any{"type": "text", "text": ""}, map[string]any{"type": "text_delta", "text": modelReply})
	}
	writeEvent(w, "message_delta", map[string]any{"delta": map[string]any{"stop_reason": stop}, "usage": map[string]any{"output_tokens": 1}})
	writeEvent(w, "message_stop", map[string]any{})
}

// streamBlock writes one content block of a message of Anthropic's API.
func streamBlock(w io.Writer, index int, block, delta map[string]any) {
	writeEvent(w, "content_block_start", map[string]any{"index": index, "content_block": block})
	writeEvent(w, "content_block_delta", map[string]any{"index": index, "delta": delta})
	writeEvent(w, "content_block_stop", map[string]any{"index": index})
}

func replyOpenAI(w http.ResponseWriter, request string) {
	item := map[string]any{"type": "message", "id": "m1", "role": "assistant", "content": []any{map[string]any{"type": "output_text", "text": modelReply}}}
	if calls := callsFor(request, `"function_call_output"`); len(calls) > 0 {
		input, _ := json.Marshal(calls[0].args)
		item = map[string]any{"type": "function_call", "id": "f1", "call_id": "call1", "name": calls[0].tool, "arguments": string(input)}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	writeEvent(w, "response.created", map[string]any{"response": map[string]any{"id": "r1"}})
	writeEvent(w, "response.output_item.done", map[string]any{"output_index": 0, "item": item})
	writeEvent(w, "response.completed", map[string]any{"response": map[string]any{"id": "r1", "output": []any{item},
		"usage": map[string]any{"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}}})
}

func replyGemini(w http.ResponseWriter, request string, stream bool) {
	part := map[string]any{"text": modelReply}
	if calls := callsFor(request, `"functionResponse"`); len(calls) > 0 {
		part = map[string]any{"functionCall": map[string]any{"name": calls[0].tool, "args": calls[0].args}}
	}
	reply, _ := json.Marshal(map[string]any{
		"candidates":    []any{map[string]any{"content": map[string]any{"role": "model", "parts": []any{part}}, "finishReason": "STOP", "index": 0}},
		"usageMetadata": map[string]any{"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
	})
	if !stream {
		w.Header().Set("Content-Type", "application/json")
		w.Write(reply) //nolint:errcheck // fails only if the client is gone
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintf(w, "data: %s\n\n", reply)
}
