// The sessions that need attention: those that are waiting, longest first, those that are lost, and those that failed
// in the last hour.
import {html, useMemo} from './html.js'
import {useList, useQuery} from './data.js'
import {href} from './route.js'
import {useNow} from './time.js'
import {Empty, FirstReport, Heading, Loading, Rows, Trouble, sinceOf} from './parts.js'

const hour = 3_600_000
const lostShown = 20

export const paths = {
  summary: 'api/summary',
  pending: 'api/sessions?status=pending&expired=false&sort=last_updated',
  lost: `api/sessions?lost=true&limit=${lostShown}`,
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
    failing: failed.rows?.length ?? 0,
    failingMore: failed.whole === false,
  }
}

function useFailed() {
  const now = useNow()
  const list = useList(paths.failed, 'sessions', {selects: isFailed, place: 'first', relevant: (change) => change.status === 'failed' || change.previous_status === 'failed'})
  const recent = list.rows?.filter((row) => now - Date.parse(row.last_updated) < hour)
  return {...list, rows: recent, whole: recent?.length < list.rows?.length || !list.more}
}

export function Needs({counts}) {
  const {summary, waiting, lost, failed} = counts
  const pending = useList(paths.pending, 'sessions', {selects: isPending, place: 'last', relevant: (change) => change.status === 'pending' || change.previous_status === 'pending'})
  const gone = useList(paths.lost, 'sessions', {selects: isLost, place: 'first', relevant: (change) => change.lost || change.revived || change.type !== 'status'})
  const longest = useMemo(() => pending.rows?.toSorted(longerSince), [pending.rows])
  if (summary?.sessions.total === 0) return html`<${Heading}>Needs you<//><${FirstReport} />`
  const error = pending.error ?? gone.error ?? failed.error
  return html`
    <${Heading}>Needs you<//>
    ${summary && html`<${Fleet} ...${summary} />`}
    <${Trouble} error=${error} />
    <${Group} id="pending" title="Pending" count=${waiting} list=${pending} rows=${longest} all=${{view: 'sessions', status: 'pending', state: 'active', sort: 'last_updated'}} empty="Nothing is waiting for you." icon="check" />
    <${Group} id="lost" title="Lost" count=${lost} list=${gone} rows=${gone.rows} all=${{view: 'sessions', state: 'lost'}} />
    <${Group} id="failed" title="Failed in the last hour" count=${failed.rows?.length} list=${{...failed, more: !failed.whole}} rows=${failed.rows} all=${{view: 'sessions', status: 'failed'}} />
  `
}

function Fleet({agents, sessions: {by_status: {running}, idle, active}}) {
  const count = (n) => html`<strong>${n.toLocaleString()}</strong>`
  return html`<p class="fleet">${count(running)} running, ${idle > 0 && html`${count(idle)} idle, `}${count(active)} active sessions of ${count(agents)} agents</p>`
}

function Group({id, title, count, list, rows, all, empty, icon}) {
  if (!rows) return list.error ? null : html`<section class="group"><h2>${title}</h2><${Loading} /></section>`
  if (!rows.length && !empty) return null
  const rest = Math.max(0, count - rows.length)
  return html`<section class="group" aria-labelledby=${`group-${id}`}>
    <h2 id=${`group-${id}`}>${title} ${rows.length > 0 && html`<span class=${`count ${id}`}>${count.toLocaleString()}${list.more && !rest ? '+' : ''}</span>`}</h2>
    ${rows.length ? html`<${Rows} rows=${rows} label=${title} />` : html`<${Empty} icon=${icon}>${empty}<//>`}
    ${list.more && html`<p class="more"><a href=${href(all)}>${rest ? `Show all ${count.toLocaleString()}` : 'Show all'}</a></p>`}
  </section>`
}
