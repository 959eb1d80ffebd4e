// The sessions that need attention: those that are waiting, longest first, those that are lost, and those that failed
// in the last hour.
import {html, useEffect, useMemo} from './html.js'
import {useList, useQuery} from './data.js'
import {href} from './route.js'
import {useNow} from './time.js'
import {Empty, FailedRow, FirstReport, Heading, LostRow, Loading, PendingRow, Rows, Trouble, sinceOf} from './parts.js'

const hour = 3_600_000
const shown = 20 // lost sessions, and failed ones

export const paths = {
  summary: 'api/summary',
  pending: 'api/sessions?status=pending&expired=false&sort=last_updated',
  lost: `api/sessions?lost=true&limit=${shown}`,
  failed: 'api/sessions?status=failed&limit=100',
}

const isPending = (row) => row.current_status === 'pending' && !row.expired
const isFailed = (row) => row.current_status === 'failed'
const isLost = (row) => row.lost

/**
 * longerSince orders rows by how long they have been waiting. It compares times within the same millisecond as text.
 */
function longerSince(a, b) {
  const [from, to] = [sinceOf(a), sinceOf(b)]
  return Date.parse(from) - Date.parse(to) || (from < to ? -1 : from > to ? 1 : 0)
}

/** useCounts returns how many sessions need attention, and the summary. */
export function useCounts() {
  const {data: summary, error} = useQuery(paths.summary)
  const failed = useFailed()
  return {
    summary, error, failed,
    waiting: summary?.sessions.by_status.pending ?? 0,
    lost: summary?.sessions.lost ?? 0,
    failing: failed.count ?? 0,
  }
}

/**
 * useFailed returns all sessions that failed in the last hour, for which it reads as many pages as it takes. Their count
 * is undefined until all are read.
 */
function useFailed() {
  const now = useNow()
  const list = useList(paths.failed, 'sessions', {selects: isFailed, place: 'first', relevant: (change) => change.status === 'failed' || change.previous_status === 'failed'})
  const recent = list.rows?.filter((row) => now - Date.parse(row.last_updated) < hour)
  const whole = recent && (recent.length < list.rows.length || !list.more)
  const next = recent && !whole && !list.loading && !list.error ? list.more : null
  useEffect(() => { next?.() }, [next])
  return {...list, rows: recent, count: whole ? recent.length : undefined}
}

export function Needs({counts}) {
  const {summary, waiting, lost, failed} = counts
  const pending = useList(paths.pending, 'sessions', {selects: isPending, place: 'last', relevant: (change) => change.status === 'pending' || change.previous_status === 'pending'})
  const gone = useList(paths.lost, 'sessions', {selects: isLost, place: 'first', relevant: (change) => change.lost || change.revived || change.type !== 'status'})
  const longest = useMemo(() => pending.rows?.toSorted(longerSince), [pending.rows])
  const latest = useMemo(() => gone.rows?.toSorted((a, b) => longerSince(b, a)), [gone.rows])
  if (summary?.sessions.total === 0) return html`<${Heading}>Needs you<//><${FirstReport} />`
  const error = pending.error ?? gone.error ?? failed.error
  return html`
    <${Heading}>Needs you<//>
    ${summary && html`<${Fleet} ...${summary} />`}
    <${Trouble} error=${error} />
    <${Group} id="pending" title="Waiting for you" row=${PendingRow} count=${waiting} list=${pending} rows=${longest} all=${{view: 'sessions', status: 'pending', state: 'active', sort: 'last_updated'}} empty="Nothing is waiting for you." icon="check" />
    <${Group} id="lost" title="Lost" row=${LostRow} count=${lost} list=${gone} rows=${latest?.slice(0, shown)} all=${{view: 'sessions', state: 'lost'}} />
    <${Group} id="failed" title="Failed in the last hour" row=${FailedRow} count=${failed.count} list=${failed} rows=${failed.rows?.slice(0, shown)} all=${{view: 'sessions', status: 'failed'}} />
  `
}

function Fleet({agents, sessions: {by_status: {running}, idle, active}}) {
  const count = (n) => html`<strong>${n.toLocaleString()}</strong>`
  return html`<p class="fleet">${count(running)} running, ${idle > 0 && html`${count(idle)} idle, `}${count(active)} active sessions of ${count(agents)} agents</p>`
}

/** Group shows the first rows of a list, and a link to all count of them. */
function Group({id, title, row, count, list, rows, all, empty, icon}) {
  if (!rows) return list.error ? null : html`<section class="group"><h2>${title}</h2><${Loading} /></section>`
  if (!rows.length && !empty) return null
  const total = count !== undefined && Math.max(count, rows.length).toLocaleString()
  return html`<section class="group" aria-labelledby=${`group-${id}`}>
    <h2 id=${`group-${id}`}>${title} ${rows.length > 0 && total && html`<span class=${`count ${id}`}>${total}</span>`}</h2>
    ${rows.length ? html`<${Rows} rows=${rows} row=${row} label=${title} />` : html`<${Empty} icon=${icon}>${empty}<//>`}
    ${count > rows.length && html`<p class="more"><a href=${href(all)}>All ${total}</a></p>`}
  </section>`
}
