package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// TestPagesEndByBytes checks for every list that pages are limited by bytes, that paging advances, and that all pages
// together are the whole list.
func TestPagesEndByBytes(t *testing.T) {
	st := newStore(nil)
	const sessions, statuses = 600, 60
	for i := range sessions {
		r := running(fmt.Sprintf("%03d", i), strings.Repeat("ü", 400)+fmt.Sprint(i))
		r.AgentName, r.Message = strings.Repeat("n", 200), strings.Repeat("ü", models.MaxMessage)
		accept(st, epoch, r)
	}
	for i := range statuses {
		r := running("one", "t")
		r.Message, r.Content = fmt.Sprint(i), strings.Repeat("𝕏", models.MaxContent)
		accept(st, epoch, r)
	}
	walk := func(maxBytes, want int, page func(limit int) (n, bytes int, more bool)) {
		t.Helper()
		all := 0
		for more := true; more; {
			var n, bytes int
			n, bytes, more = page(1000)
			require.Positive(t, n)
			require.LessOrEqual(t, bytes, maxBytes)
			all += n
		}
		require.Equal(t, want, all)
	}
	for _, maxBytes := range []int{0, 64 << 10} {
		bound := max(maxBytes, 64<<10)
		if maxBytes == 0 {
			bound = store.PageBytes
		}
		var agent *store.AgentPosition
		walk(bound, sessions+1, func(limit int) (int, int, bool) {
			page, err := st.Agents(t.Context(), store.AgentQuery{Bytes: maxBytes}, agent, limit)
			require.NoError(t, err)
			agent = page.Next
			return len(page.Items), page.Bytes, page.Next != nil
		})
		var session *store.SessionPosition
		walk(bound, sessions+1, func(limit int) (int, int, bool) {
			page, err := st.Sessions(t.Context(), store.SessionQuery{Bytes: maxBytes}, session, limit)
			require.NoError(t, err)
			session = page.Next
			return len(page.Items), page.Bytes, page.Next != nil
		})
	}
	var at *store.StatusPosition
	walk(store.PageBytes, statuses, func(limit int) (int, int, bool) {
		_, page, ok := st.Session("one", "t", at, limit)
		require.True(t, ok)
		at = page.Next
		return len(page.Items), page.Bytes, page.Next != nil
	})
	at = nil
	walk(100<<10, statuses, func(limit int) (int, int, bool) {
		_, page, ok := st.AgentStatus("one", at, limit)
		require.True(t, ok)
		page.TruncateTo(100 << 10)
		at = page.Next
		return len(page.Items), page.Bytes, page.Next != nil
	})
	page, err := st.Sessions(t.Context(), store.SessionQuery{Bytes: 1}, nil, 1000)
	require.NoError(t, err)
	require.Len(t, page.Items, 1, "an item larger than a page forms its own page")
	require.NotNil(t, page.Next)
}
