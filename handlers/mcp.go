package handlers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// How many items a tool returns by default. It is few, because a model reads all of them.
const (
	defaultToolItems = 50
	defaultToolNeeds = 20 // of each kind
)

// toolBytes is the maximum size of the items that a tool returns, in bytes. A single item may be larger. The response
// contains the items twice.
const toolBytes = 64 << 10

// caller is the client that calls a tool.
type caller struct {
	reader
	excess error // set if the caller exceeds its rate limit for reports
}

// reportTools are the tools that report a status.
var reportTools = map[string]bool{"start_session": true, "report_status": true, "end_session": true}

// readTools are the tools that read.
var readTools = map[string]bool{"list_agents": true, "list_sessions": true, "get_session": true, "who_needs_me": true}

type callerKey struct{}

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// MCP returns the endpoint through which agents call tools: POST /mcp, the Streamable HTTP transport of the Model
// Context Protocol, without sessions (https://modelcontextprotocol.io/specification/2026-07-28/basic/transports).
// Earlier versions are supported as well.
func (h *Handler) MCP() Endpoint {
	server := h.mcpServer()
	transport := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{
		Stateless: true, JSONResponse: true, MaxRequestBodyBytes: maxCallBytes, PropagateRequestCancellation: true,
		DisableLocalhostProtection: true, // CheckHost and CheckOrigin do this, and allow proxies on the same machine
	})
	return func(w http.ResponseWriter, r *http.Request) error {
		c := caller{reader: reader{grant: grantOf(w), held: heldOf(w), most: toolBytes}}
		in := intake{room: room{h: h, ctx: r.Context(), env: envelopeOf(w)}} // only for its body, which the SDK reads again
		defer in.room.leave()
		call, err := readCall(&in, r)
		if err := h.countCall(w, &c, call); err != nil {
			return err
		}
		var refused *rpcError
		if errors.As(err, &refused) {
			refuseCall(w, http.StatusBadRequest, call.id, refused)
			return nil
		}
		if err != nil {
			return err
		}
		if err := h.reserveItems(r.Context(), c.held, callCost/itemCost); err != nil {
			return err
		}
		c.held = nil // the reservation covers everything
		if r, err = h.await(w, r); err != nil {
			return err
		}
		response := &callResponse{ResponseWriter: w}
		if call.changes() {
			response.before = func() { h.setPosition(w) }
		}
		transport.ServeHTTP(response, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
		response.finish(call)
		return nil
	}
}

// authorize returns an error if the caller may not use a tool that needs scope.
func (h *Handler) authorize(c caller, scope access.Scope) error {
	if scope == access.Report && h.Access.Tokens == nil && h.Access.guards(scope) {
		return models.Forbidden(onlySigned)
	}
	if !c.grant.Allows(scope) {
		return models.Forbidden("the token lacks the scope " + scope.String())
	}
	if scope == access.Report {
		return c.excess
	}
	return nil
}

// The arguments and results of the tools.
type (
	sessionArgs struct {
		AgentID      string `json:"agent_id" jsonschema:"the agent's ID: always the same for one agent, such as payments-refactorer"`
		SessionTopic string `json:"session_topic" jsonschema:"the task that the agent works on: the same in all calls about the task"`
		AgentName    string `json:"agent_name,omitempty" jsonschema:"the agent's display name"`
		AgentSource  string `json:"agent_source,omitempty" jsonschema:"the tool that the agent runs in, such as claude-code"`
		AgentHost    string `json:"agent_host,omitempty" jsonschema:"the machine that the agent runs on"`
		SessionTitle string `json:"session_title,omitempty" jsonschema:"a short title of the task, for people"`
		Message      string `json:"message,omitempty" jsonschema:"one line for people: what you are doing, or what you need from them"`
		Content      string `json:"content,omitempty" jsonschema:"more detail, if one line is not enough"`
		TTLMinutes   int    `json:"ttl_minutes,omitempty" jsonschema:"the session counts as lost if it is not reported on for this many minutes; the default is 30"`
	}
	startArgs struct {
		sessionArgs
		Status models.Status `json:"status,omitempty" jsonschema:"the default is running"`
	}
	reportArgs struct {
		sessionArgs
		Status models.Status `json:"status" jsonschema:"running, pending (waiting for a person or a resource), success or failed"`
	}
	endArgs struct {
		sessionArgs
		Status models.Status `json:"status,omitempty" jsonschema:"the default is success"`
	}
	reportedResult struct {
		AgentID      string        `json:"agent_id"`
		SessionTopic string        `json:"session_topic"`
		Status       models.Status `json:"status" jsonschema:"the session's status after the report"`
		ExpiresAt    time.Time     `json:"expires_at" jsonschema:"report again before this time, or the session expires"`
		Note         string        `json:"note,omitempty" jsonschema:"set if the result may differ from what you expect"`
	}
	listAgentsArgs struct {
		Status  models.Status `json:"status,omitempty" jsonschema:"the status of the agent's latest report"`
		Source  string        `json:"source,omitempty" jsonschema:"the tool that the agent runs in"`
		Search  string        `json:"search,omitempty" jsonschema:"part of the agent's ID or name"`
		Active  *bool         `json:"active,omitempty" jsonschema:"whether the agent has a session that has not expired"`
		Waiting *bool         `json:"waiting,omitempty" jsonschema:"whether one of the agent's sessions is waiting for a person or a resource"`
		Sort    string        `json:"sort,omitempty" jsonschema:"agent_id, or -last_seen for most recently seen first"`
		Limit   int           `json:"limit,omitempty"`
		Cursor  string        `json:"cursor,omitempty" jsonschema:"the next_cursor of the previous page"`
	}
	listSessionsArgs struct {
		Status  models.Status `json:"status,omitempty"`
		AgentID string        `json:"agent_id,omitempty"`
		Source  string        `json:"source,omitempty" jsonschema:"the tool that the agent runs in"`
		Expired *bool         `json:"expired,omitempty" jsonschema:"whether the session was not renewed in time"`
		Idle    *bool         `json:"idle,omitempty" jsonschema:"whether the session is at an empty prompt and has done nothing yet"`
		Lost    *bool         `json:"lost,omitempty" jsonschema:"whether the session expired while running or pending, so that its outcome is unknown"`
		Search  string        `json:"search,omitempty" jsonschema:"part of the agent's ID or name, the topic or the title"`
		Sort    string        `json:"sort,omitempty" jsonschema:"-last_updated for most recently updated first, or last_updated"`
		Limit   int           `json:"limit,omitempty"`
		Cursor  string        `json:"cursor,omitempty" jsonschema:"the next_cursor of the previous page"`
	}
	getSessionArgs struct {
		AgentID      string `json:"agent_id"`
		SessionTopic string `json:"session_topic"`
		Limit        int    `json:"limit,omitempty" jsonschema:"the number of history entries, newest first"`
		Cursor       string `json:"cursor,omitempty" jsonschema:"the next_cursor of the previous page"`

		QuestionsFrom string `json:"questions_from,omitempty" jsonschema:"the next_question of an earlier result"`
	}
	acknowledgeArgs struct {
		AgentID      string    `json:"agent_id"`
		SessionTopic string    `json:"session_topic"`
		Minutes      int       `json:"minutes,omitempty" jsonschema:"how long to snooze; 0 for no end"`
		AsOf         time.Time `json:"as_of,omitzero" jsonschema:"the time up to which the session was seen: it is left alone if something new has happened to it later"`
	}
	muteArgs struct {
		AgentID string `json:"agent_id"`
		Minutes int    `json:"minutes" jsonschema:"for how long, at most 30 days"`
	}
	mutedResult struct {
		Until time.Time `json:"until" jsonschema:"when the mute ends by itself"`
	}
	unmuteArgs struct {
		AgentID string `json:"agent_id"`
	}
	unmutedResult struct {
		Unmuted int `json:"unmuted" jsonschema:"the number of mutes of the agent that were removed"`
	}
)

// mcpServer returns the MCP server with its tools.
func (h *Handler) mcpServer() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "kubeagents", Title: "KubeAgents", Version: h.Version}, &mcp.ServerOptions{
		Instructions: "KubeAgents shows people what their agents are doing. Call start_session when you begin a task. Call report_status with pending " +
			"and your question when you wait for somebody, and with running when you continue, and at least every ttl_minutes. Call end_session when " +
			"you are done. Use the same agent_id and session_topic for all calls about one task. If you lead other agents, who_needs_me tells you " +
			"where to look first.",
		Logger:       slog.New(slog.DiscardHandler), // errors are in the response, and requests are logged by Observe
		Capabilities: &mcp.ServerCapabilities{},
		SetCacheable: func(_ context.Context, _ mcp.Request, c *mcp.Cacheable) { c.CacheScope = "private" },
	})
	reports := func(name, title, description string, idempotent bool) *mcp.Tool {
		return &mcp.Tool{Name: name, Title: title, Description: description, Annotations: &mcp.ToolAnnotations{
			DestructiveHint: new(false), IdempotentHint: idempotent, OpenWorldHint: new(false)}}
	}
	reads := func(name, title, description string) *mcp.Tool {
		return &mcp.Tool{Name: name, Title: title, Description: description, Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true, OpenWorldHint: new(false)}}
	}
	addTool(h, s, access.Report, reports("start_session", "Start a session", "Report that an agent begins a task.", true),
		func(_ context.Context, c caller, in startArgs) (reportedResult, error) {
			return h.reportFor(c, in.sessionArgs, cmp.Or(in.Status, models.Running))
		})
	addTool(h, s, access.Report, reports("report_status", "Report a status", "Report the current status of an agent's task: running, pending (waiting for somebody), success or failed.", true),
		func(_ context.Context, c caller, in reportArgs) (reportedResult, error) {
			return h.reportFor(c, in.sessionArgs, in.Status)
		})
	addTool(h, s, access.Report, reports("end_session", "End a session", "Report that an agent's task has ended, with success or failed.", true),
		func(_ context.Context, c caller, in endArgs) (reportedResult, error) {
			if in.Status.Unfinished() {
				return reportedResult{}, models.BadRequest("status", "must be success or failed: the session ends")
			}
			return h.reportFor(c, in.sessionArgs, cmp.Or(in.Status, models.Success))
		})
	addTool(h, s, access.Read, reads("list_agents", "List agents", "List agents with their latest status and number of sessions."),
		func(ctx context.Context, c caller, in listAgentsArgs) (agentList, error) {
			list, _, err := h.listAgents(ctx, c.reader, paramsOf("status", in.Status, "source", in.Source, "search", in.Search, "active", in.Active, "waiting", in.Waiting,
				"sort", in.Sort, "limit", cmp.Or(in.Limit, defaultToolItems), "cursor", in.Cursor))
			return list, err
		})
	addTool(h, s, access.Read, reads("list_sessions", "List sessions", "List sessions of all agents, most recently updated first. Use status=pending with expired=false for those that are waiting for somebody."),
		func(ctx context.Context, c caller, in listSessionsArgs) (sessionList[models.FleetSession], error) {
			list, _, err := h.listSessions(ctx, c.reader, paramsOf("status", in.Status, "agent_id", in.AgentID, "source", in.Source, "expired", in.Expired,
				"lost", in.Lost, "idle", in.Idle, "search", in.Search, "sort", in.Sort, "limit", cmp.Or(in.Limit, defaultToolItems), "cursor", in.Cursor))
			return list, err
		})
	addTool(h, s, access.Read, reads("get_session", "Get a session", "Get a session and its status history, newest first."),
		func(ctx context.Context, c caller, in getSessionArgs) (sessionDetail, error) {
			detail, _, err := h.readSession(ctx, c.reader, store.SessionKey{AgentID: in.AgentID, Topic: in.SessionTopic},
				paramsOf("limit", cmp.Or(in.Limit, defaultToolItems), "cursor", in.Cursor, "questions_from", in.QuestionsFrom))
			return detail, err
		})
	addTool(h, s, access.Read, reads("who_needs_me", "Who needs me", "List the sessions that need attention: those that are waiting, longest first, those that went silent, and those that failed, until their TTL runs out."),
		func(ctx context.Context, c caller, _ struct{}) (models.Needs, error) {
			needs, err := h.Store.Needs(ctx, c.grant.Team(), defaultToolNeeds)
			cutNeeds(&needs, toolBytes)
			return needs, err
		})
	addTool(h, s, access.Acknowledge, reports("acknowledge", "Acknowledge or snooze", "Take a session off the list of those that need attention, until something new happens to it or the snooze ends.", true),
		func(_ context.Context, c caller, in acknowledgeArgs) (acknowledgeResult, error) {
			return h.acknowledgeFor(c, in)
		})
	addTool(h, s, access.Acknowledge, reports("mute", "Mute an agent", "Hold back the notifications about an agent for some minutes. What still holds then is sent.", true),
		func(ctx context.Context, c caller, in muteArgs) (mutedResult, error) {
			return h.muteFor(ctx, c, in)
		})
	addTool(h, s, access.Acknowledge, reports("unmute", "Unmute an agent", "Send the notifications about an agent again that a mute of this agent holds back.", true),
		func(ctx context.Context, c caller, in unmuteArgs) (unmutedResult, error) {
			return h.unmuteFor(ctx, c, in)
		})

	s.AddResourceTemplate(&mcp.ResourceTemplate{
		Name: "session", Title: "A session's history", MIMEType: "application/json", URITemplate: sessionResource,
		Description: "A session and its most recent statuses. IDs and topics are percent-encoded.",
	}, h.readResource)
	return s
}

// addTool adds a tool that needs scope. If call returns an error, the model gets its text.
func addTool[In, Out any](h *Handler, s *mcp.Server, scope access.Scope, t *mcp.Tool, call func(context.Context, caller, In) (Out, error)) {
	t.InputSchema, t.OutputSchema = schemaOf[In](), schemaOf[Out]()
	mcp.AddTool(s, t, func(ctx context.Context, _ *mcp.CallToolRequest, in In) (_ *mcp.CallToolResult, out Out, err error) {
		c := callerOf(ctx)
		if err := h.authorize(c, scope); err != nil {
			return nil, out, err
		}
		if scope == access.Read {
			h.refresh()
		}
		if out, err = call(ctx, c, in); err != nil {
			return nil, out, h.callerError(err)
		}
		return nil, out, nil
	})
}

// callerError returns an error that a caller may see. It logs internal errors instead of returning their text.
func (h *Handler) callerError(err error) error {
	if known := knownError(err); known != nil {
		return known
	}
	h.Logger.Error("tool call failed", "error", err.Error())
	return errors.New("an internal error occurred: see the server's log")
}

// schemaOf returns the JSON Schema of a tool's arguments or result.
func schemaOf[T any]() *jsonschema.Schema {
	statuses := []any{}
	for _, status := range models.Statuses {
		statuses = append(statuses, status.String())
	}
	// Without these, the schema would describe as numbers what JSON encodes as strings.
	schema, err := jsonschema.For[T](&jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[models.Status]():          {Type: "string", Enum: statuses},
		reflect.TypeFor[models.QuestionKind]():    {Type: "string", Enum: namesOf[models.QuestionKind]()},
		reflect.TypeFor[models.QuestionOutcome](): {Type: "string", Enum: namesOf[models.QuestionOutcome]()},
	}})
	if err != nil {
		panic("make a tool's schema: " + err.Error()) // can't happen: the types are fixed
	}
	for name, limit := range map[string]int{"agent_id": models.MaxAgentID, "session_topic": models.MaxSessionTopic, "agent_name": models.MaxAgentName,
		"agent_source": models.MaxAgentSource, "agent_host": models.MaxAgentHost, "session_title": models.MaxSessionTitle, "message": models.MaxMessage, "content": models.MaxContent} {
		if p := schema.Properties[name]; p != nil {
			p.MaxLength = new(limit)
		}
	}
	if p := schema.Properties["ttl_minutes"]; p != nil {
		p.Minimum, p.Maximum = new(0.0), new(float64(models.MaxTTLMinutes))
	}
	if p := schema.Properties["limit"]; p != nil {
		p.Minimum, p.Maximum = new(1.0), new(float64(maxLimit))
	}
	return schema
}

// namesOf returns the names of all values of a type, except for its zero value.
func namesOf[T interface {
	~uint8
	String() string
}]() (names []any) {
	for value := T(1); value.String() != ""; value++ {
		names = append(names, value.String())
	}
	return names
}

// paramsOf returns params made from pairs of names and values. Empty values are left out.
func paramsOf(pairs ...any) *params {
	p := &params{values: url.Values{}}
	for pair := range slices.Chunk(pairs, 2) {
		text := ""
		switch value := pair[1].(type) {
		case string:
			text = value
		case int:
			text = strconv.Itoa(value)
		case models.Status:
			text = value.String()
		case *bool:
			if value != nil {
				text = strconv.FormatBool(*value)
			}
		}
		if text != "" {
			p.values.Set(pair[0].(string), text)
		}
	}
	return p
}

// reportFor records a report from a caller.
func (h *Handler) reportFor(c caller, args sessionArgs, status models.Status) (result reportedResult, err error) {
	in := intakes.Get().(*intake)
	defer in.release()
	in.reports = append(in.reports[:0], models.StatusReport{
		AgentID: args.AgentID, AgentName: args.AgentName, AgentSource: args.AgentSource, AgentHost: args.AgentHost, SessionTopic: args.SessionTopic, SessionTitle: args.SessionTitle,
		Status: status, Message: args.Message, Content: args.Content, TTLMinutes: args.TTLMinutes,
	})
	in.faults = append(in.faults[:0], nil)
	h.accept(in, c.grant, nil)
	if in.faults[0] != nil {
		return result, in.faults[0]
	}
	result = reportedResult{AgentID: args.AgentID, SessionTopic: args.SessionTopic}
	session, _, ok := h.Store.Session(args.AgentID, args.SessionTopic, nil, 1)
	if !ok {
		return result, models.Unavailable("the report was accepted, but the session has since been removed")
	}
	result.Status, result.ExpiresAt = session.CurrentStatus, session.ExpiresAt
	if session.CurrentStatus != status {
		result.Note = fmt.Sprintf("%s was recorded, but the session's status is %s, which was reported with a later timestamp",
			status, session.CurrentStatus)
	} else if session.LastUpdated.Equal(session.Created) && !status.Unfinished() {
		result.Note = "this started a new session: if you meant an existing one, call again with its agent_id and session_topic"
	}
	return result, nil
}

// cutNeeds drops the last session of the longest list until all lists together take at most most bytes, or no list has
// more than one.
func cutNeeds(n *models.Needs, most int) {
	bytes := 0
	for _, list := range [...][]models.FleetSession{n.Pending, n.Lost, n.Failed} {
		for i := range list {
			bytes += store.FleetSessionBytes(&list[i])
		}
	}
	for bytes > most {
		longest := &n.Pending
		for _, list := range [...]*[]models.FleetSession{&n.Lost, &n.Failed} {
			if len(*list) > len(*longest) {
				longest = list
			}
		}
		last := len(*longest) - 1
		if last < 1 {
			return
		}
		bytes -= store.FleetSessionBytes(&(*longest)[last])
		*longest, n.More = (*longest)[:last], true
	}
}

// sessionResource is the URI template of a session's history (RFC 6570).
const sessionResource = "kubeagents://agents/{agent_id}/sessions/{session_topic}"

// readResource returns the history of a session.
func (h *Handler) readResource(ctx context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	c := callerOf(ctx)
	if err := h.authorize(c, access.Read); err != nil {
		return nil, err
	}
	path, _ := strings.CutPrefix(r.Params.URI, "kubeagents://agents/")
	agent, topic, _ := strings.Cut(path, "/sessions/")
	agentID, err1 := url.PathUnescape(agent)
	sessionTopic, err2 := url.PathUnescape(topic)
	if err1 != nil || err2 != nil {
		return nil, mcp.ResourceNotFoundError(r.Params.URI)
	}
	h.refresh()
	detail, _, err := h.readSession(ctx, c.reader, store.SessionKey{AgentID: agentID, Topic: sessionTopic}, paramsOf())
	var known *models.Error
	if errors.As(err, &known) && known.Code == models.CodeNotFound {
		return nil, mcp.ResourceNotFoundError(r.Params.URI)
	}
	if err != nil {
		return nil, h.callerError(err)
	}
	text, err := json.Marshal(detail)
	if err != nil {
		return nil, h.callerError(err)
	}
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, MIMEType: "application/json", Text: string(text)}}}, nil
}
