// The sessions that need attention: those that are waiting, the longest waiting first, those that are lost, and those
// that failed, the latest first.
import {html, useMemo, useState} from './html.js'
import {All, Chosen, FailedRow, LostRow, PendingRow, useChoice} from './choice.js'
import {useList, useQuery} from './data.js'
import {href} from './route.js'
import {Empty, FirstReport, Heading, Loading, needing, Rows, sinceOf, Trouble} from './parts.js'
import {compareTimes} from './time.js'

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

/** longerSince orders rows by how long they have been in their state. */
const longerSince = (a, b) => compareTimes(sinceOf(a), sinceOf(b))

const day = 24 * 60 * 60 * 1000

/** isEarlier returns whether a lost session was lost more than a day ago. */
const isEarlier = (row) => Date.parse(sinceOf(row)) < Date.now() - day

/**
 * useCounts returns how many sessions need attention, and the summary. Sessions lost more than a day ago are counted as
 * earlier, not as lost. Time alone changes that, so the counts are also read once a minute.
 */
export function useCounts() {
  const {data: summary, error} = useQuery(paths.summary, undefined, 60_000)
  const {waiting = 0, lost = 0, lost_over_a_day: earlier = 0, failed = 0} = summary?.needs ?? {}
  return {summary, error, waiting, lost: lost - earlier, earlier, failed}
}

export function Needs({counts}) {
  const {summary} = counts
  const waiting = useList(paths.waiting, 'sessions', {selects: needing.waiting, place: 'last', relevant: ofStatus('pending')})
  const lost = useList(paths.lost, 'sessions', {selects: needing.lost, place: 'first', relevant: ofLost})
  const failed = useList(paths.failed, 'sessions', {selects: needing.failed, place: 'first', relevant: ofStatus('failed')})
  const longest = useMemo(() => waiting.rows?.toSorted(longerSince), [waiting.rows])
  const lostLast = useLatest(lost.rows), failedLast = useLatest(failed.rows)
  const [unfolded, setUnfolded] = useUnfolded()
  const lately = lostLast?.filter((row) => !isEarlier(row)), earlier = lostLast?.filter(isEarlier) ?? []
  const choice = useChoice([...longest ?? [], ...lately ?? [], ...unfolded ? earlier : [], ...failedLast ?? []])
  if (summary?.sessions.total === 0) return html`<${Heading}>Needs you<//><${FirstReport} />`
  const error = waiting.error ?? lost.error ?? failed.error
  return html`
    <${Heading}>Needs you<//>
    ${summary && html`<${Fleet} ...${summary} />`}
    <${Trouble} error=${error} />
    <${Group} id="pending" title="Waiting for you" row=${PendingRow} count=${counts.waiting} list=${waiting} rows=${longest} needs="waiting" choice=${choice} empty="Nothing is waiting for you." icon="check" />
    <${Group} id="lost" title="Lost" row=${LostRow} count=${counts.lost} all=${counts.lost + counts.earlier} list=${lost} rows=${lately} needs="lost" choice=${choice}>
      <${Earlier} count=${counts.earlier} rows=${earlier} total=${counts.lost + counts.earlier} open=${unfolded} onToggle=${setUnfolded} choice=${choice} />
    <//>
    <${Group} id="failed" title="Failed" row=${FailedRow} count=${counts.failed} list=${failed} rows=${failedLast} needs="failed" choice=${choice} />
    <${Chosen} choice=${choice} />
  `
}

/** useLatest returns the rows that were lost, or failed, last. */
const useLatest = (rows) => useMemo(() => rows?.toSorted((a, b) => longerSince(b, a)).slice(0, shown), [rows])

function Fleet({agents, sessions: {by_status: {running}, idle, active}}) {
  const count = (n) => html`<strong>${n.toLocaleString()}</strong>`
  return html`<p class="fleet">${count(running)} running, ${idle > 0 && html`${count(idle)} idle, `}${count(active)} active sessions of ${count(agents)} agents</p>`
}

/**
 * Group shows the first rows of a list, and a link to all count of them. all is how many sessions its button
 * acknowledges. children come after the rows.
 */
function Group({id, title, row, count, all = count, list, rows, needs, choice, empty, icon, children}) {
  if (!rows) return list.error ? null : html`<section class="group"><div class="group-head"><h2>${title}</h2></div><${Loading} /></section>`
  const shown = choice ? rows.filter((row) => !choice.isHidden(row)) : rows
  if (!shown.length && !empty) return children ?? null
  const total = Math.max(count, shown.length)
  return html`<section class="group" aria-labelledby=${`group-${id}`}>
    <div class="group-head"><h2 id=${`group-${id}`}>${title} ${shown.length > 0 && html`<span class=${`count ${id}`}>${total.toLocaleString()}</span>`}</h2>
      ${shown.length > 0 && html`<${All} needs=${needs} n=${all > shown.length && all.toLocaleString()} choice=${choice} />`}</div>
    ${shown.length ? html`<${Rows} rows=${rows} row=${row} label=${title} choice=${choice} />` : html`<${Empty} icon=${icon}>${empty}<//>`}
    ${count > rows.length && html`<p class="more"><a href=${href({view: 'sessions', needs})}>All ${total.toLocaleString()}</a></p>`}
    ${children}
  </section>`
}

/**
 * Earlier shows how many sessions were lost more than a day ago, and their first rows once it is open. If the list has
 * none of them, because of all those that were lost since, it is a link to all lost sessions.
 */
function Earlier({count, rows, total, open, onToggle, choice}) {
  const n = Math.max(count, rows.length), all = href({view: 'sessions', needs: 'lost'})
  if (!n) return null
  const text = `${n.toLocaleString()} lost more than a day ago`
  if (!rows.length) return html`<p class="earlier"><a href=${all}>${text}</a></p>`
  return html`<details class="earlier" open=${open} onToggle=${(event) => onToggle(event.target.open)}>
    <summary>${text}</summary>
    ${open && html`<${Rows} rows=${rows} row=${LostRow} label=${text} choice=${choice} />
      ${n > rows.length && html`<p class="more"><a href=${all}>All ${total.toLocaleString()} lost sessions</a></p>`}
      ${total <= n && html`<${All} needs="lost" n=${n > rows.length && n.toLocaleString()} choice=${choice} />`}`}
  </details>`
}

const stored = 'kubeagents.earlier'

/** useUnfolded returns whether the sessions lost more than a day ago are shown, remembered for this visit, and a setter. */
function useUnfolded() {
  const [open, set] = useState(() => {
    try {
      return sessionStorage.getItem(stored) === 'open'
    } catch {
      return false
    }
  })
  const keep = (now) => {
    set(now)
    try {
      sessionStorage.setItem(stored, now ? 'open' : '')
    } catch { /* the browser keeps nothing: it is remembered until the page is left */ }
  }
  return [open, keep]
}
