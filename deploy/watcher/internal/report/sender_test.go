package report

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// counts is what a sender counts.
type counts struct {
	mu       sync.Mutex
	outcomes map[string]int
	failures int
}

func (c *counts) CountReports(outcome string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes[outcome] += n
}
func (c *counts) CountFailure()        { c.failures++ }
func (c *counts) SetReached(time.Time) {}

// fake is a server in the process: a transport whose responses a test decides.
type fake struct {
	respond  func(batch []Report) (status int, header http.Header, body string)
	received []Report // in the order of requests
	at       []time.Time
}

func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	var batch []Report
	if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
		return nil, err
	}
	f.at = append(f.at, time.Now())
	f.received = append(f.received, batch...)
	status, header, body := f.respond(batch)
	if status == 0 {
		return nil, fmt.Errorf("connection refused")
	}
	w := httptest.NewRecorder()
	for name, values := range header {
		w.Header()[name] = values
	}
	w.WriteHeader(status)
	w.WriteString(body) //nolint:errcheck // a buffer
	return w.Result(), nil
}

func acceptAll(batch []Report) (int, http.Header, string) {
	return 200, nil, fmt.Sprintf(`{"success":true,"accepted":%d,"rejected":0,"errors":[]}`, len(batch))
}

// newSender returns a sender to f, and its log.
func newSender(f *fake, capacity int) (*Sender, *strings.Builder) {
	u, _ := url.Parse("http://hub.example.com/kubeagents")
	c := NewClient(u, "", "", "")
	c.http = &http.Client{Transport: f}
	log := new(strings.Builder)
	return &Sender{Queue: NewQueue(capacity), Client: c, Counts: &counts{outcomes: map[string]int{}}, Logger: slog.New(slog.NewTextHandler(log, nil)), limit: maxBatch}, log
}

// runDry sends everything in the queue.
func runDry(s *Sender) {
	stop := make(chan struct{})
	close(stop)
	s.Run(context.Background(), stop)
}

func of(session, message string) Report {
	return Report{AgentID: "data/" + session, SessionTopic: session, Status: "running", Message: message, ReportID: session + "/" + message}
}

func messages(reports []Report) (list []string) {
	for _, r := range reports {
		list = append(list, r.SessionTopic+" "+r.Message)
	}
	return list
}

// TestAnOutageLosesNothing lets the server be away, starting and overloaded, and expects each report once, in order.
func TestAnOutageLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := 0
		var taken []Report
		f := &fake{}
		f.respond = func(batch []Report) (int, http.Header, string) {
			switch away++; {
			case away <= 8:
				return 0, nil, ""
			case away == 9:
				return 503, http.Header{"Retry-After": {"5"}}, `{"error":"unavailable","message":"the server is starting"}`
			case away == 10:
				return 502, nil, "<html>"
			}
			taken = append(taken, batch...)
			return acceptAll(batch)
		}
		s, log := newSender(f, DefaultCapacity)
		for i := range 3 {
			s.Queue.Put(of("a", fmt.Sprint(i)))
			s.Queue.Put(of("b", fmt.Sprint(i)))
		}
		began := time.Now()
		runDry(s)
		require.Equal(t, []string{"a 0", "b 0", "a 1", "b 1", "a 2", "b 2"}, messages(taken))
		require.Equal(t, 10, s.Counts.(*counts).failures)
		require.Less(t, time.Since(began), 8*time.Minute)
		for i := range 7 {
			require.LessOrEqual(t, f.at[i+1].Sub(f.at[i]), maxBackoff)
		}
		require.GreaterOrEqual(t, f.at[7].Sub(f.at[6]), maxBackoff/2, "the backoff grows")
		require.GreaterOrEqual(t, f.at[9].Sub(f.at[8]), 5*time.Second, "Retry-After counts")
		require.Equal(t, 1, strings.Count(log.String(), "connection refused"), "the same failure is logged once")
		require.Contains(t, log.String(), "the server takes reports again")
	})
}

func TestTooManyRequestsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.respond = func(batch []Report) (int, http.Header, string) {
			if len(f.at) == 1 {
				return 429, http.Header{"Retry-After": {"20"}}, `{"error":"too_many_requests","message":"more than 1000 reports per second: try again later"}`
			}
			return acceptAll(batch)
		}
		s, log := newSender(f, DefaultCapacity)
		s.Queue.Put(of("a", "1"))
		runDry(s)
		require.Len(t, f.at, 2)
		require.GreaterOrEqual(t, f.at[1].Sub(f.at[0]), 20*time.Second)
		require.LessOrEqual(t, f.at[1].Sub(f.at[0]), 22*time.Second)
		require.Contains(t, log.String(), "more than 1000 reports per second")
	})
}

// TestEachReportHasItsOwnOutcome lets the server take some reports of a batch, refuse some for good, some for now and
// some for their agents.
func TestEachReportHasItsOwnOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var taken []Report
		var covered atomic.Bool
		f := &fake{}
		f.respond = func(batch []Report) (int, http.Header, string) {
			if len(f.at) > 1 {
				for i, r := range batch {
					if r.SessionTopic == "foreign" && !covered.Load() {
						return 403, nil, fmt.Sprintf(`{"accepted":0,"rejected":1,"errors":[{"index":%d,"error":"forbidden","field":"agent_id","message":"this token does not cover agent"}]}`, i)
					}
				}
				taken = append(taken, batch...)
				return acceptAll(batch)
			}
			return 207, http.Header{"Retry-After": {"5"}}, `{"accepted":1,"rejected":3,"errors":[
				{"index":1,"error":"bad_request","field":"agent_id","message":"must not be blank"},
				{"index":2,"error":"unavailable","message":"there are MAX_SESSIONS sessions"},
				{"index":3,"error":"forbidden","field":"agent_id","message":"this token does not cover agent \"data/foreign\""}]}`
		}
		s, log := newSender(f, DefaultCapacity)
		for _, session := range []string{"good", "bad", "late", "foreign"} {
			s.Queue.Put(of(session, "1"))
		}
		time.AfterFunc(3*time.Minute, func() { covered.Store(true) })
		runDry(s)
		require.Equal(t, []string{"late 1", "foreign 1"}, messages(taken))
		require.GreaterOrEqual(t, f.at[1].Sub(f.at[0]), 5*time.Second)
		require.Contains(t, log.String(), `the server rejects a report`)
		require.Contains(t, log.String(), `agent_id=data/bad`)
		require.Contains(t, log.String(), "agents=*/*")
		require.Equal(t, 1, s.Counts.(*counts).outcomes["rejected"])
		require.Equal(t, 3, s.Counts.(*counts).outcomes["accepted"])
	})
}

// TestErrorsBeyondTheList answers a batch with more errors than a response lists.
func TestErrorsBeyondTheList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var taken []Report
		f := &fake{}
		f.respond = func(batch []Report) (int, http.Header, string) {
			if len(f.at) == 1 {
				return 207, nil, `{"accepted":1,"rejected":3,"errors":[{"index":1,"error":"bad_request","message":"no"}]}`
			}
			taken = append(taken, batch...)
			return acceptAll(batch)
		}
		s, _ := newSender(f, DefaultCapacity)
		for _, session := range []string{"a", "b", "c", "d"} {
			s.Queue.Put(of(session, "1"))
		}
		runDry(s)
		require.Equal(t, []string{"c 1", "d 1"}, messages(taken), "b is rejected, a was taken, and of c and d nobody knows")
	})
}

func TestABatchThatIsTooLargeIsHalved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		f := &fake{}
		f.respond = func(batch []Report) (int, http.Header, string) {
			sizes = append(sizes, len(batch))
			if len(batch) > 300 {
				return 413, nil, `{"error":"payload_too_large","message":"too large"}`
			}
			return acceptAll(batch)
		}
		s, _ := newSender(f, DefaultCapacity)
		for i := range 1000 {
			s.Queue.Put(of(fmt.Sprint(i), "1"))
		}
		runDry(s)
		require.Equal(t, []int{1000, 500, 250}, sizes[:3])
		require.Zero(t, s.Queue.Length())
	})
}

// TestFailuresInWords checks what the log says about responses that concern every report.
func TestFailuresInWords(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		token  string
		want   string
	}{
		"no token":        {401, `{"error":"unauthorized","message":"a token is required"}`, "", "requires a token with the scope report: set KUBEAGENTS_TOKEN_FILE"},
		"a wrong token":   {401, `{"error":"unauthorized","message":"unknown token"}`, "x", "does not accept the token: unknown token"},
		"a missing scope": {403, `{"error":"forbidden","message":"the token lacks the scope report"}`, "x", "refuses: the token lacks the scope report"},
		"a foreign host":  {421, `{"error":"misdirected_request","message":"it answers only under its own names: set PUBLIC_URL"}`, "", "refuses: it answers only under its own names: set PUBLIC_URL"},
		"another server":  {404, `not found`, "", "unlike a KubeAgents server: check KUBEAGENTS_SERVER"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{respond: func([]Report) (int, http.Header, string) { return test.status, nil, test.body }}
			s, log := newSender(f, DefaultCapacity)
			s.Client.token = test.token
			s.Queue.Put(of("a", "1"))
			batch, _ := s.Queue.take(1, time.Now())
			require.Positive(t, s.send(t.Context(), batch))
			require.Contains(t, log.String(), test.want)
			require.Contains(t, log.String(), "http://hub.example.com/kubeagents")
			require.Equal(t, 1, s.Queue.Length())
		})
	}
}

// TestTLSFailuresInWords sends to a server whose certificate nobody trusts, and then trusts it.
func TestTLSFailuresInWords(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(`{"accepted":1,"rejected":0,"errors":[]}`)) //nolint:errcheck // as below
	}))
	defer server.Close()
	u, err := url.Parse(server.URL)
	require.NoError(t, err)
	_, _, _, err = NewClient(u, "", "", "").post(t.Context(), []Report{of("a", "1")})
	require.ErrorContains(t, err, "set KUBEAGENTS_CA_FILE to the certificate of the CA")

	file := t.TempDir() + "/ca.pem"
	writeCertificate(t, file, server.Certificate().Raw)
	verdicts, _, _, err := NewClient(u, "", "", file).post(t.Context(), []Report{of("a", "1")})
	require.NoError(t, err)
	require.Equal(t, []verdict{{}}, verdicts)
}

// TestTheTokenFileIsReadAgain changes the token between two requests.
func TestTheTokenFileIsReadAgain(t *testing.T) {
	var sent []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent = append(sent, r.Header.Get("Authorization"))
		w.Write([]byte(`{"accepted":1,"rejected":0,"errors":[]}`)) //nolint:errcheck // as below
	}))
	defer server.Close()
	u, err := url.Parse(server.URL)
	require.NoError(t, err)
	file := t.TempDir() + "/token"
	c := NewClient(u, "", file, "")
	_, _, _, err = c.post(t.Context(), []Report{of("a", "1")})
	require.ErrorContains(t, err, "KUBEAGENTS_TOKEN_FILE")
	for _, token := range []string{"one\n", "two"} {
		writeFile(t, file, token)
		_, _, _, err = c.post(t.Context(), []Report{of("a", "1")})
		require.NoError(t, err)
	}
	require.Equal(t, []string{"Bearer one", "Bearer two"}, sent)
}

// TestTheNewestReportSurvives puts reports into a small queue while some are being sent, and expects the newest report of
// each session to stay, the reports of each session in order, and no more than the capacity as long as something can be
// dropped.
func TestTheNewestReportSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const capacity = 5
		q := NewQueue(capacity)
		newest := map[string]string{}
		var sent []Report
		var batch []Report
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "action") {
			default:
				session := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "session")
				r := of(session, fmt.Sprintf("%03d", step))
				q.Put(r)
				newest[session] = r.Message
			case 3:
				if batch == nil {
					batch, _ = q.take(2, time.Now())
				}
			case 4:
				for _, r := range batch {
					if rapid.Bool().Draw(t, "taken") {
						q.done(r)
						sent = append(sent, r)
					} else {
						q.again(r, time.Time{})
					}
				}
				batch = nil
			}
			if q.Length() > capacity+1 {
				t.Fatalf("%d reports wait", q.Length())
			}
		}
		for _, r := range batch {
			q.again(r, time.Time{})
		}
		for {
			batch, _ := q.take(2, time.Now())
			if len(batch) == 0 {
				break
			}
			for _, r := range batch {
				q.done(r)
				sent = append(sent, r)
			}
		}
		last := map[string]string{}
		for _, r := range sent {
			if r.Message <= last[r.SessionTopic] {
				t.Fatalf("%s comes after %s", r.Message, last[r.SessionTopic])
			}
			last[r.SessionTopic] = r.Message
		}
		for session, message := range newest {
			if last[session] != message {
				t.Fatalf("the newest report of %s is %s, not %s", session, message, last[session])
			}
		}
	})
}

// TestIdleReportsGiveWay puts renewals and news into a queue.
func TestIdleReportsGiveWay(t *testing.T) {
	q := NewQueue(10)
	idle := of("a", "0")
	idle.Idle = true
	q.Put(idle)
	q.Put(idle)
	q.Put(of("a", "1"))
	q.Put(idle)
	batch, _ := q.take(10, time.Now())
	require.Equal(t, []string{"a 1"}, messages(batch))
	q.done(batch[0])
	require.Zero(t, q.Length())

	q.Put(idle)
	batch, _ = q.take(10, time.Now())
	q.Put(of("a", "2"))
	require.Equal(t, 2, q.Length(), "what is being sent stays")
	q.done(batch[0])
	batch, _ = q.take(10, time.Now())
	require.Equal(t, []string{"a 2"}, messages(batch))
}

// TestSessionsTakeTurns sends reports of two sessions one by one.
func TestSessionsTakeTurns(t *testing.T) {
	q := NewQueue(10)
	for _, session := range []string{"a", "b"} {
		for i := range 2 {
			q.Put(of(session, fmt.Sprint(i)))
		}
	}
	var sent []Report
	for range 4 {
		batch, _ := q.take(1, time.Now())
		q.done(batch[0])
		sent = append(sent, batch...)
	}
	require.Equal(t, []string{"a 0", "b 0", "a 1", "b 1"}, messages(sent))
}

// TestAClockThatIsAhead lets the server refuse timestamps, as it does if they are more than five minutes ahead of its
// clock. The reports arrive without one.
func TestAClockThatIsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var taken []Report
		f := &fake{}
		f.respond = func(batch []Report) (int, http.Header, string) {
			if !batch[0].Timestamp.IsZero() {
				return 400, nil, `{"accepted":0,"rejected":2,"errors":[
					{"index":0,"error":"bad_request","field":"timestamp","message":"timestamp must not be more than 5 minutes ahead of the server"},
					{"index":1,"error":"bad_request","field":"timestamp","message":"timestamp must not be more than 5 minutes ahead of the server"}]}`
			}
			taken = append(taken, batch...)
			return acceptAll(batch)
		}
		s, log := newSender(f, DefaultCapacity)
		for _, session := range []string{"a", "b"} {
			r := of(session, "1")
			r.Timestamp = time.Now().Add(10 * time.Minute)
			s.Queue.Put(r)
		}
		runDry(s)
		require.Equal(t, []string{"a 1", "b 1"}, messages(taken))
		require.Equal(t, 1, strings.Count(log.String(), "the clock of this node is ahead"))
		require.Zero(t, s.Counts.(*counts).outcomes["rejected"])
	})
}

// TestTheNameOfAnAgentSurvives drops the report that has it.
func TestTheNameOfAnAgentSurvives(t *testing.T) {
	q := NewQueue(1)
	first := of("a", "1")
	first.AgentName = "import"
	q.Put(first)
	q.Put(of("a", "2"))
	require.Equal(t, 1, q.Dropped())
	batch, _ := q.take(10, time.Now())
	require.Equal(t, []string{"a 2"}, messages(batch))
	require.Equal(t, "import", batch[0].AgentName)
}

// TestAStopDoesNotWait stops a sender that waits to try again, because the server was away for long. It tries at once.
func TestAStopDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away, f := true, &fake{}
		f.respond = func(batch []Report) (int, http.Header, string) {
			if away {
				return 0, nil, ""
			}
			return acceptAll(batch)
		}
		s, _ := newSender(f, DefaultCapacity)
		s.Queue.Put(of("a", "1"))
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			s.Run(t.Context(), stop)
			close(done)
		}()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		away = false
		tries := len(f.at)
		close(stop)
		synctest.Wait()
		require.Len(t, f.at, tries+1)
		<-done
		require.Zero(t, s.Queue.Length())
	})
}
