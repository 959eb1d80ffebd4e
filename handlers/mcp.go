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
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// How many items a tool returns where the caller names no limit: a model reads all of them.
const (
	defaultToolItems = 50
	defaultToolNeeds = 20 // of each kind
)

// toolBytes is how many bytes the items take that a tool returns, unless a single one takes more. The answer has them twice.
const toolBytes = 64 << 10

// caller is who calls a tool.
type caller struct {
	reader
	excess error // why it may not report now
}

// reportTools are those that report a status.
var reportTools = map[string]bool{"start_session": true, "report_status": true, "end_session": true}

type callerKey struct{}

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// MCP returns the endpoint by which agents call tools: POST /mcp, Streamable HTTP of the Model Context Protocol, without sessions
// (https://modelcontextprotocol.io/specification/2026-07-28/basic/transports; earlier versions are understood as well).
func (h *Handler) MCP() Endpoint {
	server := h.mcpServer()
	transport := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{
		Stateless: true, JSONResponse: true, MaxRequestBodyBytes: maxCallBytes, PropagateRequestCancellation: true,
		DisableLocalhostProtection: true, // OwnHosts and OwnPages do that, and let proxies on the same machine through
	})
	return func(w http.ResponseWriter, r *http.Request) error {
		c := caller{reader: reader{grant: grantOf(w), held: heldOf(w), most: toolBytes}}
		in := intake{room: room{h: h, ctx: r.Context(), env: envelopeOf(w)}} // for its body alone, which the SDK reads again
		defer in.room.leave()
		call, err := readCall(&in, r)
		if err := h.countCall(w, &c, call); err != nil {
			return err
		}
		var refused *rpcError
		if errors.As(err, &refused) {
			refuseCall(w, refused)
			return nil
		}
		if err != nil {
			return err
		}
		if err := h.making(r.Context(), c.held, callMaking/itemMaking); err != nil {
			return err
		}
		c.held = nil // that covers all of it
		transport.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
		return nil
	}
}

// may returns why a caller may not do what needs a scope, or nil.
func (h *Handler) may(c caller, scope access.Scope) error {
	if scope == access.Report && h.Access.Tokens == nil && h.Access.guards(scope) {
		return models.Forbidden("this server accepts reports only as signed webhooks")
	}
	if !c.grant.Allows(scope) {
		return models.Forbidden("the token lacks the scope " + scope.String())
	}
	if scope == access.Report {
		return c.excess
	}
	return nil
}

// What the tools take and return.
type (
	sessionArgs struct {
		AgentID      string `json:"agent_id" jsonschema:"the agent: always the same for one agent, such as payments-refactorer"`
		SessionTopic string `json:"session_topic" jsonschema:"the task that the agent works on: the same in all calls about it"`
		AgentName    string `json:"agent_name,omitempty" jsonschema:"the agent's name for people"`
		AgentSource  string `json:"agent_source,omitempty" jsonschema:"the tool that the agent runs in, such as claude-code"`
		AgentHost    string `json:"agent_host,omitempty" jsonschema:"the machine that the agent runs on"`
		SessionTitle string `json:"session_title,omitempty" jsonschema:"the task in a few words, for people"`
		Message      string `json:"message,omitempty" jsonschema:"one line for people: what is done, or what is asked of them"`
		Content      string `json:"content,omitempty" jsonschema:"more to read, where one line is not enough"`
		TTLMinutes   int    `json:"ttl_minutes,omitempty" jsonschema:"the session counts as lost unless it is reported on within so many minutes; 30 unless said"`
	}
	startArgs struct {
		sessionArgs
		Status models.Status `json:"status,omitempty" jsonschema:"running unless said"`
	}
	reportArgs struct {
		sessionArgs
		Status models.Status `json:"status" jsonschema:"running; pending: waits for a person or a resource; success; failed"`
	}
	endArgs struct {
		sessionArgs
		Status models.Status `json:"status,omitempty" jsonschema:"success unless said"`
	}
	reportedResult struct {
		AgentID      string        `json:"agent_id"`
		SessionTopic string        `json:"session_topic"`
		Status       models.Status `json:"status" jsonschema:"of the session, now that it was reported on"`
		ExpiresAt    time.Time     `json:"expires_at" jsonschema:"report again before then, or the session counts as expired"`
		Note         string        `json:"note,omitempty" jsonschema:"what is not as the call would have it"`
	}
	listAgentsArgs struct {
		Status  models.Status `json:"status,omitempty" jsonschema:"of the agent's latest report"`
		Source  string        `json:"source,omitempty" jsonschema:"the tool that it runs in"`
		Search  string        `json:"search,omitempty" jsonschema:"part of its ID or name"`
		Active  *bool         `json:"active,omitempty" jsonschema:"whether it has a session that is not expired"`
		Waiting *bool         `json:"waiting,omitempty" jsonschema:"whether one of its sessions waits for a person or a resource"`
		Sort    string        `json:"sort,omitempty" jsonschema:"agent_id, or -last_seen for the newest first"`
		Limit   int           `json:"limit,omitempty"`
		Cursor  string        `json:"cursor,omitempty" jsonschema:"the next_cursor of the page before"`
	}
	listSessionsArgs struct {
		Status  models.Status `json:"status,omitempty"`
		AgentID string        `json:"agent_id,omitempty"`
		Source  string        `json:"source,omitempty" jsonschema:"the tool that the agent runs in"`
		Expired *bool         `json:"expired,omitempty" jsonschema:"whether it was not renewed in time"`
		Idle    *bool         `json:"idle,omitempty" jsonschema:"whether it is at an empty prompt and has done nothing yet"`
		Lost    *bool         `json:"lost,omitempty" jsonschema:"whether it expired while running or pending: nobody knows what became of it"`
		Search  string        `json:"search,omitempty" jsonschema:"part of the agent's ID or name, the topic or the title"`
		Sort    string        `json:"sort,omitempty" jsonschema:"-last_updated for the newest first, or last_updated"`
		Limit   int           `json:"limit,omitempty"`
		Cursor  string        `json:"cursor,omitempty" jsonschema:"the next_cursor of the page before"`
	}
	getSessionArgs struct {
		AgentID      string `json:"agent_id"`
		SessionTopic string `json:"session_topic"`
		Limit        int    `json:"limit,omitempty" jsonschema:"how many entries of the history, newest first"`
		Cursor       string `json:"cursor,omitempty" jsonschema:"the next_cursor of the page before"`

		QuestionsFrom string `json:"questions_from,omitempty" jsonschema:"the next_question of an earlier answer"`
	}
)

// mcpServer returns the server of the tools.
func (h *Handler) mcpServer() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "kubeagents", Title: "KubeAgents", Version: h.Version}, &mcp.ServerOptions{
		Instructions: "KubeAgents shows people what agents do. Call start_session when you begin a task, report_status with pending and what you ask " +
			"when you wait for somebody, with running when you go on or at the latest every ttl_minutes, and end_session when you are done. " +
			"Use the same agent_id and session_topic for all calls about one task. If you lead other agents, who_needs_me tells where to look first.",
		Logger:       slog.New(slog.DiscardHandler), // what goes wrong is in the answer, and requests are in the log
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
	addTool(h, s, access.Report, reports("start_session", "Start a session", "Say that an agent begins a task.", true),
		func(_ context.Context, c caller, in startArgs) (reportedResult, error) {
			return h.reportFor(c, in.sessionArgs, cmp.Or(in.Status, models.Running))
		})
	addTool(h, s, access.Report, reports("report_status", "Report a status", "Say what a task of an agent is doing now: running, pending (waits for somebody), success or failed.", true),
		func(_ context.Context, c caller, in reportArgs) (reportedResult, error) {
			return h.reportFor(c, in.sessionArgs, in.Status)
		})
	addTool(h, s, access.Report, reports("end_session", "End a session", "Say that a task of an agent is over: success, or failed.", true),
		func(_ context.Context, c caller, in endArgs) (reportedResult, error) {
			if in.Status.Unfinished() {
				return reportedResult{}, models.BadRequest("status", "must be success or failed: the session ends")
			}
			return h.reportFor(c, in.sessionArgs, cmp.Or(in.Status, models.Success))
		})
	addTool(h, s, access.Read, reads("list_agents", "List agents", "List agents, with their latest status and how many sessions they have."),
		func(ctx context.Context, c caller, in listAgentsArgs) (agentList, error) {
			list, _, err := h.listAgents(ctx, c.reader, asked("status", in.Status, "source", in.Source, "search", in.Search, "active", in.Active, "waiting", in.Waiting,
				"sort", in.Sort, "limit", cmp.Or(in.Limit, defaultToolItems), "cursor", in.Cursor))
			return list, err
		})
	addTool(h, s, access.Read, reads("list_sessions", "List sessions", "List sessions of all agents, newest update first. status=pending with expired=false are those that wait for somebody."),
		func(ctx context.Context, c caller, in listSessionsArgs) (sessionList[models.FleetSession], error) {
			list, _, err := h.listSessions(ctx, c.reader, asked("status", in.Status, "agent_id", in.AgentID, "source", in.Source, "expired", in.Expired,
				"lost", in.Lost, "idle", in.Idle, "search", in.Search, "sort", in.Sort, "limit", cmp.Or(in.Limit, defaultToolItems), "cursor", in.Cursor))
			return list, err
		})
	addTool(h, s, access.Read, reads("get_session", "Get a session", "Get a session and its status history, newest first."),
		func(ctx context.Context, c caller, in getSessionArgs) (sessionDetail, error) {
			detail, _, err := h.readSession(ctx, c.reader, store.SessionKey{AgentID: in.AgentID, Topic: in.SessionTopic},
				asked("limit", cmp.Or(in.Limit, defaultToolItems), "cursor", in.Cursor, "questions_from", in.QuestionsFrom))
			return detail, err
		})
	addTool(h, s, access.Read, reads("who_needs_me", "Who needs me", "List the sessions that need somebody: those that wait, longest first, those that went silent, and those that failed in the last hour."),
		func(ctx context.Context, c caller, _ struct{}) (models.Needs, error) {
			needs, err := h.Store.Needs(ctx, c.grant.Team(), time.Now(), defaultToolNeeds)
			cutNeeds(&needs, toolBytes)
			return needs, err
		})

	s.AddResourceTemplate(&mcp.ResourceTemplate{
		Name: "session", Title: "A session's history", MIMEType: "application/json", URITemplate: sessionResource,
		Description: "A session and its newest statuses. IDs and topics are percent-encoded.",
	}, h.readResource)
	return s
}

// addTool adds a tool for callers who have a scope. Where it returns an error, the model gets its text, to act on.
func addTool[In, Out any](h *Handler, s *mcp.Server, scope access.Scope, t *mcp.Tool, call func(context.Context, caller, In) (Out, error)) {
	t.InputSchema, t.OutputSchema = schemaOf[In](), schemaOf[Out]()
	mcp.AddTool(s, t, func(ctx context.Context, _ *mcp.CallToolRequest, in In) (_ *mcp.CallToolResult, out Out, err error) {
		c := callerOf(ctx)
		if err := h.may(c, scope); err != nil {
			return nil, out, err
		}
		if scope == access.Read {
			h.Store.Expire(time.Now())
		}
		if out, err = call(ctx, c, in); err != nil {
			return nil, out, h.told(err)
		}
		return nil, out, nil
	})
}

// told returns what a caller may know of an error.
func (h *Handler) told(err error) error {
	var known *models.Error
	var failure *journal.Failure
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &failure):
		return models.Unavailable("the journal is unavailable: " + failure.Cause)
	}
	h.Logger.Error("answer a call of a tool", "error", err.Error())
	return errors.New("an internal error occurred: see the server's log")
}

// schemaOf returns the JSON Schema of what a tool takes or returns.
func schemaOf[T any]() *jsonschema.Schema {
	statuses := []any{}
	for _, status := range models.Statuses {
		statuses = append(statuses, status.String())
	}
	// Without these, the schema would have the numbers of what is text in JSON.
	schema, err := jsonschema.For[T](&jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[models.Status]():          {Type: "string", Enum: statuses},
		reflect.TypeFor[models.QuestionKind]():    {Type: "string", Enum: namesOf[models.QuestionKind]()},
		reflect.TypeFor[models.QuestionOutcome](): {Type: "string", Enum: namesOf[models.QuestionOutcome]()},
	}})
	if err != nil {
		panic("make a tool's schema: " + err.Error()) // its type is ours
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

// namesOf returns the names of all values of a type but that of its zero value.
func namesOf[T interface {
	~uint8
	String() string
}]() (names []any) {
	for value := T(1); value.String() != ""; value++ {
		names = append(names, value.String())
	}
	return names
}

// asked makes parameters of pairs of names and values; those that are empty are left out.
func asked(pairs ...any) *params {
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

// reportFor records a report of a caller.
func (h *Handler) reportFor(c caller, args sessionArgs, status models.Status) (result reportedResult, err error) {
	in := intakes.Get().(*intake)
	defer in.release()
	in.reports = append(in.reports[:0], models.StatusReport{
		AgentID: args.AgentID, AgentName: args.AgentName, AgentSource: args.AgentSource, AgentHost: args.AgentHost, SessionTopic: args.SessionTopic, SessionTitle: args.SessionTitle,
		Status: status, Message: args.Message, Content: args.Content, TTLMinutes: args.TTLMinutes,
	})
	in.faults = append(in.faults[:0], nil)
	h.accept(in, c.grant)
	if in.faults[0] != nil {
		return result, in.faults[0]
	}
	result = reportedResult{AgentID: args.AgentID, SessionTopic: args.SessionTopic}
	session, _, ok := h.Store.Session(args.AgentID, args.SessionTopic, nil, 1)
	if !ok {
		return result, models.Unavailable("the report was accepted, but the session was removed since")
	}
	result.Status, result.ExpiresAt = session.CurrentStatus, session.ExpiresAt
	if session.CurrentStatus != status {
		result.Note = fmt.Sprintf("%s was recorded, but is not the session's status: it is %s, which was reported with a later timestamp",
			status, session.CurrentStatus)
	} else if session.LastUpdated.Equal(session.Created) && !status.Unfinished() {
		result.Note = "no session of this agent_id and session_topic was known: if you meant one that goes on, call again with its names"
	}
	return result, nil
}

// cutNeeds leaves out the last sessions of the longest list until all take at most most bytes, or each list has one at most.
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

// sessionResource is where a session's history is, as a template by RFC 6570.
const sessionResource = "kubeagents://agents/{agent_id}/sessions/{session_topic}"

// readResource returns the history of a session.
func (h *Handler) readResource(ctx context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	c := callerOf(ctx)
	if err := h.may(c, access.Read); err != nil {
		return nil, err
	}
	path, _ := strings.CutPrefix(r.Params.URI, "kubeagents://agents/")
	agent, topic, _ := strings.Cut(path, "/sessions/")
	agentID, err1 := url.PathUnescape(agent)
	sessionTopic, err2 := url.PathUnescape(topic)
	if err1 != nil || err2 != nil {
		return nil, mcp.ResourceNotFoundError(r.Params.URI)
	}
	h.Store.Expire(time.Now())
	detail, _, err := h.readSession(ctx, c.reader, store.SessionKey{AgentID: agentID, Topic: sessionTopic}, asked())
	var known *models.Error
	if errors.As(err, &known) && known.Code == models.CodeNotFound {
		return nil, mcp.ResourceNotFoundError(r.Params.URI)
	}
	if err != nil {
		return nil, h.told(err)
	}
	text, err := json.Marshal(detail)
	if err != nil {
		return nil, h.told(err)
	}
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, MIMEType: "application/json", Text: string(text)}}}, nil
}
