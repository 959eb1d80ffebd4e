// The sessions that need attention: those that are waiting, the longest waiting first, those that are lost, and those
// that failed, the latest first.
import {html, useMemo} from './html.js'
import {AcknowledgeAll} from './acknowledge.js'
import {useList, useQuery} from './data.js'
import {href} from './route.js'
import {Empty, FailedRow, FirstReport, Heading, Loading, LostRow, needing, PendingRow, Rows, sinceOf, Trouble} from './parts.js'

const shown = 20 // lost sessions, and failed ones

export const paths = {
  summary: 'api/summary',
  waiting: 'api/sessions?needs=waiting',
  lost: `api/sessions?needs=lost&limit=${shown}`,
  failed: `api/sessions?needs=failed&limit=${shown}`,
}

// Which changes may bring sessions that a list does not show yet.
const ofStatus = (status) => (change) => change.status === status || change.previous_status === status || change.type === 'acknowledged'
const ofLost = (change) => change.lost || change.revived || change.type !== 'status'

/**
 * longerSince orders rows by how long they have been in their state. It compares times within the same millisecond as
 * text.
 */
function longerSince(a, b) {
  const [from, to] = [sinceOf(a), sinceOf(b)]
  return Date.parse(from) - Date.parse(to) || (from < to ? -1 : from > to ? 1 : 0)
}

/** useCounts returns how many sessions need attention, and the summary. */
export function useCounts() {
  const {data: summary, error} = useQuery(paths.summary)
  return {summary, error, waiting: summary?.needs.waiting ?? 0, lost: summary?.needs.lost ?? 0, failed: summary?.needs.failed ?? 0}
}

export function Needs({counts}) {
  const {summary} = counts
  const waiting = useList(paths.waiting, 'sessions', {selects: needing.waiting, place: 'last', relevant: ofStatus('pending')})
  const lost = useList(paths.lost, 'sessions', {selects: needing.lost, place: 'first', relevant: ofLost})
  const failed = useList(paths.failed, 'sessions', {selects: needing.failed, place: 'first', relevant: ofStatus('failed')})
  const longest = useMemo(() => waiting.rows?.toSorted(longerSince), [waiting.rows])
  const lostLast = useLatest(lost.rows), failedLast = useLatest(failed.rows)
  if (summary?.sessions.total === 0) return html`<${Heading}>Needs you<//><${FirstReport} />`
  const error = waiting.error ?? lost.error ?? failed.error
  return html`
    <${Heading}>Needs you<//>
    ${summary && html`<${Fleet} ...${summary} />`}
    <${Trouble} error=${error} />
    <${Group} id="pending" title="Waiting for you" row=${PendingRow} count=${counts.waiting} list=${waiting} rows=${longest} needs="waiting" empty="Nothing is waiting for you." icon="check" />
    <${Group} id="lost" title="Lost" row=${LostRow} count=${counts.lost} list=${lost} rows=${lostLast} needs="lost" />
    <${Group} id="failed" title="Failed" row=${FailedRow} count=${counts.failed} list=${failed} rows=${failedLast} needs="failed" />
  `
}

/** useLatest returns the rows that were lost, or failed, last. */
const useLatest = (rows) => useMemo(() => rows?.toSorted((a, b) => longerSince(b, a)).slice(0, shown), [rows])

function Fleet({agents, sessions: {by_status: {running}, idle, active}}) {
  const count = (n) => html`<strong>${n.toLocaleString()}</strong>`
  return html`<p class="fleet">${count(running)} running, ${idle > 0 && html`${count(idle)} idle, `}${count(active)} active sessions of ${count(agents)} agents</p>`
}

/** Group shows the first rows of a list, and a link to all count of them. */
function Group({id, title, row, count, list, rows, needs, empty, icon}) {
  if (!rows) return list.error ? null : html`<section class="group"><h2>${title}</h2><${Loading} /></section>`
  if (!rows.length && !empty) return null
  const total = Math.max(count, rows.length).toLocaleString()
  return html`<section class="group" aria-labelledby=${`group-${id}`}>
    <h2 id=${`group-${id}`}>${title} ${rows.length > 0 && html`<span class=${`count ${id}`}>${total}</span>`}</h2>
    ${rows.length ? html`<${Rows} rows=${rows} row=${row} label=${title} />` : html`<${Empty} icon=${icon}>${empty}<//>`}
    ${rows.length > 0 && html`<${AcknowledgeAll} needs=${needs} />`}
    ${count > rows.length && html`<p class="more"><a href=${href({view: 'sessions', needs})}>All ${total}</a></p>`}
  </section>`
}
