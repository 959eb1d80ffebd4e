package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// TestPagesEndByBytes holds of every list that a page ends by bytes, that it gets on, and that all pages together are the list.
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
	walk := func(most, want int, page func(limit int) (n, bytes int, more bool)) {
		t.Helper()
		all := 0
		for more := true; more; {
			var n, bytes int
			n, bytes, more = page(1000)
			require.Positive(t, n)
			require.LessOrEqual(t, bytes, most)
			all += n
		}
		require.Equal(t, want, all)
	}
	for _, most := range []int{0, 64 << 10} {
		bound := max(most, 64<<10)
		if most == 0 {
			bound = store.PageBytes
		}
		var agent *store.AgentPosition
		walk(bound, sessions+1, func(limit int) (int, int, bool) {
			page, err := st.Agents(t.Context(), store.AgentQuery{Bytes: most}, agent, limit)
			require.NoError(t, err)
			agent = page.Next
			return len(page.Items), page.Bytes, page.Next != nil
		})
		var session *store.SessionPosition
		walk(bound, sessions+1, func(limit int) (int, int, bool) {
			page, err := st.Sessions(t.Context(), store.SessionQuery{Bytes: most}, session, limit)
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
		page.Cut(100 << 10)
		at = page.Next
		return len(page.Items), page.Bytes, page.Next != nil
	})
	page, err := st.Sessions(t.Context(), store.SessionQuery{Bytes: 1}, nil, 1000)
	require.NoError(t, err)
	require.Len(t, page.Items, 1, "what is larger than a page is one of its own")
	require.NotNil(t, page.Next)
}
