package handlers

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/live"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

func newHandler(maxSessions int, logger *slog.Logger) *Handler {
	st := store.New(store.Options{DefaultTTL: time.Hour, SessionRetention: time.Hour, HistoryLimit: 100, HistoryMaxBytes: 1 << 30, MaxSessions: maxSessions})
	m := metrics.New(st, "test")
	return New(Options{Store: st, Recorder: recorder.New(st, nil, m), Hub: live.New(st, m, live.Options{}), Metrics: m, Logger: logger, Version: "test"})
}

// post sends a body to the webhook. Headers are "Name: value".
func post(h *Handler, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/webhook/status", strings.NewReader(body))
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.Handle(h.Webhook)(w, r)
	return w
}

// reportOf returns a report of agent a, with more fields appended.
func reportOf(topic, more string) string {
	return fmt.Sprintf(`{"agent_id":"a","session_topic":%q,"status":"running"%s}`, topic, more)
}

func historyLen(t *testing.T, h *Handler, topic string) int {
	t.Helper()
	_, page, ok := h.Store.Session("a", topic, nil, 1000)
	require.True(t, ok)
	return len(page.Items)
}

func TestOneReportIsAcknowledged(t *testing.T) {
	h := newHandler(10, slog.New(slog.DiscardHandler))
	for _, contentType := range []string{"application/json", "text/plain", "application/x-www-form-urlencoded", ""} {
		w := post(h, reportOf("t", ""), "Content-Type: "+contentType)
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, `{"success":true,"message":"Status reported successfully"}`+"\n", w.Body.String())
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	}
	require.Equal(t, 4, historyLen(t, h, "t"))
}

func TestRetriesChangeNothing(t *testing.T) {
	h := newHandler(10, slog.New(slog.DiscardHandler))
	for range 3 {
		require.Equal(t, http.StatusOK, post(h, reportOf("t", `,"report_id":"r1"`)).Code)
		require.Equal(t, http.StatusOK, post(h, reportOf("t", ""), "Idempotency-Key: r2").Code)
		require.Equal(t, http.StatusOK, post(h, reportOf("t", `,"report_id":"r3"`), "Idempotency-Key: r1").Code, "the report's own ID counts")
		require.Equal(t, http.StatusOK, post(h, "["+reportOf("t", "")+","+reportOf("t", `,"report_id":"r4"`)+"]", "Idempotency-Key: batch").Code)
		require.Equal(t, http.StatusOK, post(h, reportOf("other", `,"report_id":"r1"`)).Code, "another session may use the same ID")
	}
	require.Equal(t, 5, historyLen(t, h, "t"))
	require.Equal(t, 1, historyLen(t, h, "other"))

	before, _, _ := h.Store.Session("a", "t", nil, 1)
	post(h, reportOf("t", `,"report_id":"r1","ttl_minutes":9`))
	after, _, _ := h.Store.Session("a", "t", nil, 1)
	require.Equal(t, before, after)
}

func TestIdempotencyKeyIsValidated(t *testing.T) {
	h := newHandler(10, slog.New(slog.DiscardHandler))
	for _, key := range []string{strings.Repeat("k", 101), "\xff", "."} {
		w := post(h, reportOf("t", ""), "Idempotency-Key: "+key)
		require.Equal(t, http.StatusBadRequest, w.Code, key)
		require.Contains(t, w.Body.String(), `"field":"Idempotency-Key"`)
	}
	long := strings.Repeat("k", 100)
	require.Equal(t, http.StatusOK, post(h, reportOf("t", ""), "Idempotency-Key: "+long).Code)
	w := post(h, reportOf("t", "")+reportOf("t", ""), "Idempotency-Key: "+long)
	require.Equal(t, http.StatusBadRequest, w.Code, "with the index appended, it is too long")
}

func TestFaultyReportsDontAffectOthers(t *testing.T) {
	h := newHandler(10, slog.New(slog.DiscardHandler))
	w := post(h, strings.Join([]string{
		reportOf("1", ""), `{"agent_id":"a"}`, `[1]`, reportOf("2", `,"ttl_minutes":"5"`), reportOf("3", ""),
	}, "\n"))
	require.Equal(t, http.StatusMultiStatus, w.Code)
	require.JSONEq(t, `{"success":false,"message":"2 of 5 reports were accepted","accepted":2,"rejected":3,"errors":[
		{"index":1,"error":"bad_request","message":"session_topic is required: 1 to 500 characters","field":"session_topic"},
		{"index":2,"error":"bad_request","message":"a report must be an object, not an array"},
		{"index":3,"error":"bad_request","message":"ttl_minutes must be a number, not a string","field":"ttl_minutes"}]}`, w.Body.String())
	require.Equal(t, 2, h.Store.Summary().Sessions.Total)

	w = post(h, "["+reportOf("1", "")+"]")
	require.Equal(t, http.StatusOK, w.Code)
	require.JSONEq(t, `{"success":true,"message":"Statuses reported successfully","accepted":1,"rejected":0,"errors":[]}`, w.Body.String())
}

func TestInvalidUnicodeDoesNotAffectOtherReports(t *testing.T) {
	bad := []string{
		reportOf("2", `,"agent_id":"b"`), `{"agent_id":"\ud83d","session_topic":"3","status":"running"}`,
		"{\"agent_id\":\"a\",\"session_topic\":\"4\xff\",\"status\":\"running\"}", reportOf("5", `,"x":{"y":1,"y":2},"x":"`+"\xff"+`\ud83d"`),
	}
	for name, body := range map[string]string{
		"in an array":       "[" + reportOf("1", "") + "," + strings.Join(bad, ",") + "," + reportOf("6", `,"message":"\ud83d"`) + "]",
		"one after another": reportOf("1", "") + "\n" + strings.Join(bad, "\n") + reportOf("6", `,"message":"\ud83d"`),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHandler(10, slog.New(slog.DiscardHandler))
			w := post(h, body)
			require.Equal(t, http.StatusMultiStatus, w.Code)
			require.JSONEq(t, `{"success":false,"message":"3 of 6 reports were accepted","accepted":3,"rejected":3,"errors":[
				{"index":1,"error":"bad_request","message":"agent_id must not occur twice in one object","field":"agent_id"},
				{"index":2,"error":"bad_request","message":"agent_id must be valid Unicode: no lone surrogates, no invalid UTF-8","field":"agent_id"},
				{"index":3,"error":"bad_request","message":"session_topic must be valid Unicode: no lone surrogates, no invalid UTF-8","field":"session_topic"}]}`, w.Body.String())
			for _, topic := range []string{"1", "5", "6"} {
				require.Equal(t, 1, historyLen(t, h, topic))
			}
		})
	}
}

func TestMalformedJSONStoresNothing(t *testing.T) {
	h := newHandler(10, slog.New(slog.DiscardHandler))
	for _, body := range []string{
		reportOf("1", "") + reportOf("2", "") + "{",
		"[" + reportOf("1", "") + ",",
		"[" + reportOf("1", "") + "] x",
	} {
		require.Equal(t, http.StatusBadRequest, post(h, body).Code, body)
	}
	require.Zero(t, h.Store.Summary())
}

func TestTheFirst100ErrorsOfABatchAreListed(t *testing.T) {
	h := newHandler(10, slog.New(slog.DiscardHandler))
	w := post(h, "["+strings.Repeat("{},", 149)+"{}]")
	require.Equal(t, http.StatusBadRequest, w.Code)
	var result batchResult
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &result))
	require.Equal(t, 150, result.Rejected)
	require.Len(t, result.Errors, 100)
	require.Equal(t, 99, result.Errors[99].Index)
}

func TestFullServerSetsRetryAfter(t *testing.T) {
	h := newHandler(1, slog.New(slog.DiscardHandler))
	require.Equal(t, http.StatusOK, post(h, reportOf("1", "")).Code)
	for body, status := range map[string]int{
		reportOf("2", ""):                     http.StatusServiceUnavailable,
		reportOf("2", "") + reportOf("3", ""): http.StatusServiceUnavailable,
		reportOf("1", "") + reportOf("3", ""): http.StatusMultiStatus,
		reportOf("1", ""):                     http.StatusOK,
	} {
		w := post(h, body)
		require.Equal(t, status, w.Code, body)
		if status != http.StatusOK {
			require.Equal(t, retryAfter, w.Header().Get("Retry-After"))
			require.Contains(t, w.Body.String(), string(models.CodeUnavailable))
		}
	}
}
