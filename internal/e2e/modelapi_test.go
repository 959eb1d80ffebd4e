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

// What stand-in models do, by what a prompt says; to any other, they answer "All done.".
const (
	promptForTool   = "USE_TOOL to make a file"    // has the model call the shell
	promptForMCP    = "USE_MCP to say how it goes" // has the model call report_status of KubeAgents' MCP server
	promptForDialog = "USE_DIALOG to read a file"  // has the model call Claude Code's shell twice at once: to read a file, which somebody must allow, and to sleep
	modelSays       = "All done."
)

// toolCall is a call of a tool by the model.
type toolCall struct {
	tool string
	args map[string]any
}

// startModelAPI serves the least of three makers' APIs that their command lines need to run without a network: Anthropic's
// messages (https://platform.claude.com/docs/en/api/messages-streaming), OpenAI's responses
// (https://platform.openai.com/docs/api-reference/responses-streaming) and Gemini's streamGenerateContent
// (https://ai.google.dev/api/generate-content).
func startModelAPI(t testing.TB) (address string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asks := string(body)
		switch {
		case strings.HasSuffix(r.URL.Path, "/messages"):
			answerAnthropic(w, asks)
		case strings.HasSuffix(r.URL.Path, "/responses"):
			answerOpenAI(w, asks)
		case strings.Contains(r.URL.Path, ":streamGenerateContent"), strings.Contains(r.URL.Path, ":generateContent"):
			answerGemini(w, asks, strings.Contains(r.URL.Path, ":stream"))
		default:
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"data":[],"models":[],"totalTokens":1,"input_tokens":1}`) //nolint:errcheck // its client is gone
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// callsFor returns what the model is to call at once. result is what marks the result of a call.
func callsFor(asks, result string) []toolCall {
	prompt, at := "", -1
	for _, known := range []string{promptForTool, promptForMCP, promptForDialog} {
		if i := strings.LastIndex(asks, known); i > at {
			prompt, at = known, i
		}
	}
	if strings.LastIndex(asks, result) > at {
		return nil // it was called
	}
	offers := func(name string) bool { return strings.Contains(asks, `"name":"`+name+`"`) }
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

// streamed writes an event of a stream.
func streamed(w io.Writer, name string, data map[string]any) {
	data["type"] = name
	text, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, text)
}

func answerAnthropic(w http.ResponseWriter, asks string) {
	calls := callsFor(asks, `"tool_result"`)
	message := map[string]any{"id": "msg_1", "type": "message", "role": "assistant", "model": "stand-in", "content": []any{}, "usage": map[string]any{"input_tokens": 1, "output_tokens": 1}}
	if !strings.Contains(asks, `"stream":true`) {
		message["content"], message["stop_reason"] = []any{map[string]any{"type": "text", "text": modelSays}}, "end_turn"
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(message) //nolint:errcheck // its client is gone
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	streamed(w, "message_start", map[string]any{"message": message})
	stop := "end_turn"
	for i, c := range calls {
		stop = "tool_use"
		input, _ := json.Marshal(c.args)
		streamBlock(w, i, map[string]any{"type": "tool_use", "id": fmt.Sprintf("toolu_%d_%d", len(asks), i), "name": c.tool, "input": map[string]any{}},
			map[string]any{"type": "input_json_delta", "partial_json": string(input)})
	}
	if len(calls) == 0 {
		streamBlock(w, 0, map[string]any{"type": "text", "text": ""}, map[string]any{"type": "text_delta", "text": modelSays})
	}
	streamed(w, "message_delta", map[string]any{"delta": map[string]any{"stop_reason": stop}, "usage": map[string]any{"output_tokens": 1}})
	streamed(w, "message_stop", map[string]any{})
}

// streamBlock writes one block of the content of a message of Anthropic's API.
func streamBlock(w io.Writer, index int, block, delta map[string]any) {
	streamed(w, "content_block_start", map[string]any{"index": index, "content_block": block})
	streamed(w, "content_block_delta", map[string]any{"index": index, "delta": delta})
	streamed(w, "content_block_stop", map[string]any{"index": index})
}

func answerOpenAI(w http.ResponseWriter, asks string) {
	item := map[string]any{"type": "message", "id": "m1", "role": "assistant", "content": []any{map[string]any{"type": "output_text", "text": modelSays}}}
	if calls := callsFor(asks, `"function_call_output"`); len(calls) > 0 {
		input, _ := json.Marshal(calls[0].args)
		item = map[string]any{"type": "function_call", "id": "f1", "call_id": "call1", "name": calls[0].tool, "arguments": string(input)}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	streamed(w, "response.created", map[string]any{"response": map[string]any{"id": "r1"}})
	streamed(w, "response.output_item.done", map[string]any{"output_index": 0, "item": item})
	streamed(w, "response.completed", map[string]any{"response": map[string]any{"id": "r1", "output": []any{item},
		"usage": map[string]any{"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}}})
}

func answerGemini(w http.ResponseWriter, asks string, stream bool) {
	part := map[string]any{"text": modelSays}
	if calls := callsFor(asks, `"functionResponse"`); len(calls) > 0 {
		part = map[string]any{"functionCall": map[string]any{"name": calls[0].tool, "args": calls[0].args}}
	}
	answer, _ := json.Marshal(map[string]any{
		"candidates":    []any{map[string]any{"content": map[string]any{"role": "model", "parts": []any{part}}, "finishReason": "STOP", "index": 0}},
		"usageMetadata": map[string]any{"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
	})
	if !stream {
		w.Header().Set("Content-Type", "application/json")
		w.Write(answer) //nolint:errcheck // its client is gone
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintf(w, "data: %s\n\n", answer)
}
