// The page of one session: its current state and its history.
import {html, useEffect, useMemo, useRef} from './html.js'
import {Acknowledge} from './acknowledge.js'
import {useList} from './data.js'
import {NotifyOfAgent} from './devices.js'
import {MuteAgent} from './mute.js'
import {agentHref, href} from './route.js'
import {Ago, brief, clockTime, dayOf, exact, useNow} from './time.js'
import {AgentName, Fact, Heading, Icon, Kind, Loading, Missing, More, Status, Trouble, sinceOf, stateOf, statusOf, titleOf} from './parts.js'

const keyOfStatus = (row) => `${row.timestamp}\n${row.received_at}`
const unpatched = (row) => row

export function Session({params: {agent, session: topic}, onName}) {
  const path = `api/agents/${encodeURIComponent(agent)}/sessions/${encodeURIComponent(topic)}`
  const relevant = (change) => change.agent_id === agent && change.session_topic === topic
  const list = useList(path, 'status_history', {key: keyOfStatus, patch: unpatched, relevant})
  const {error} = list
  const session = list.page?.session
  const missing = error?.status === 404
  const title = session ? titleOf(session) : topic
  useEffect(() => onName(title), [title])
  return html`
    <p class="back"><a href=${agentHref(agent)}><${Icon} name="arrow-left" /><${AgentName} name=${session?.agent_name || agent} host=${session?.agent_host} /></a></p>
    <${Heading}>${missing ? 'Session not found' : title}<//>
    ${missing ? html`<p class="sought" dir="auto">${topic}</p><${Missing} what="session">${[
      html`<a href=${agentHref(agent)}>All sessions of this agent</a>`, html`<a href=${href({view: 'sessions', search: topic})}>Search all sessions for this name</a>`, html`<a href=${href({view: 'sessions'})}>All sessions</a>`]}<//>`
      : html`<${Trouble} error=${error} />`}
    ${session && !missing && html`
      <${Questions} questions=${list.page.questions ?? []} />
      ${session.current_message && !session.question && html`<p class=${`current-message ${stateOf(session)}`} dir="auto">${session.current_message}</p>`}
      <${Acknowledge} session=${session} />
      <${CurrentState} session=${session} entries=${list.rows} />
      <div class="own-notices"><${NotifyOfAgent} agent=${agent} /><${MuteAgent} agent=${agent} /></div>
      ${list.rows && html`<${Timeline} session=${session} entries=${list.rows} whole=${!list.more} />`}
      <h2>History</h2>`}
    ${!missing && (list.rows ? html`<${History} entries=${list.rows} questions=${list.page.questions ?? []} />` : !error && html`<${Loading} />`)}
    ${!missing && html`<${More} ...${list} />`}
  `
}

/**
 * startOf returns when a session started: at the timestamp of its first status or, as long as that has not been read, at
 * the receipt of its first report.
 */
export const startOf = ({created}, entries) => [created, entries?.at(-1)?.timestamp ?? created].reduce((a, b) => (Date.parse(b) < Date.parse(a) ? b : a))

/** CurrentState shows a session's state, and how much of its TTL is left. */
function CurrentState({session, entries}) {
  return html`
    <dl class="facts">
      <div class="long"><dt>Status</dt><dd><${Status} state=${stateOf(session)} /> <${Ago} time=${sinceOf(session)} label="since" before="for " />${session.lost && html` (was ${statusOf(session)})`}</dd></div>
      <${Fact} name="Host" text=${session.agent_host} />
      <${Fact} name="Source" text=${session.agent_source} />
      ${session.title && html`<${Fact} name="Topic" text=${session.session_topic} />`}
      <div><dt>Started</dt><dd><${Ago} time=${startOf(session, entries)} after=" ago" /></dd></div>
      <div><dt>Last report</dt><dd><${Ago} time=${session.last_updated} after=" ago" /></dd></div>
      <div class="wide"><dt>TTL</dt><dd><${TTL} session=${session} /></dd></div>
    </dl>
  `
}

/** Questions shows the open questions in full. */
function Questions({questions}) {
  if (!questions.length) return null
  const several = questions.length > 1
  return html`<section aria-label="Open questions">
    ${several && html`<h2>Open questions <span class="count pending">${questions.length}</span></h2>`}
    <ol class="questions">${questions.map((question) => html`<${Question} key=${question.id} question=${question} />`)}</ol>
  </section>`
}

/** Question shows one question. If it has choices, its content is collapsed. */
function Question({question: {kind, text, content, content_truncated, choices, asked_at, asked_by}}) {
  const full = html`
    ${content && content !== text && html`<pre dir="auto" tabindex="0">${readable(content)}</pre>`}
    ${content_truncated && html`<p class="quiet">Truncated at 64 KiB.</p>`}`
  return html`<li>
    <p class="asked"><${Kind} of=${kind} /><span>asked <${Ago} time=${asked_at} after=" ago" />${asked_by && html` by subagent <bdi>${asked_by}</bdi>`}</span></p>
    ${text && html`<p class=${text.length > 200 ? '' : 'text'} dir="auto">${text}</p>`}
    ${choices && html`<ul class="choices" aria-label="Choices">${choices.map((choice) => html`<li dir="auto">${choice}</li>`)}</ul>`}
    ${choices && content && content !== text ? html`<details><summary>Show in full</summary>${full}</details>` : full}
  </li>`
}

/**
 * readable formats the JSON of a tool's input, and keeps the line breaks of its texts. It returns any other content
 * unchanged.
 */
export function readable(content) {
  try {
    const input = JSON.parse(content)
    return typeof input === 'object' && input ? fieldsOf(input, '') : content
  } catch {
    return content
  }
}

/** fieldsOf writes one field per line. The content of a field is indented, so that no text can look like a field. */
function fieldsOf(of, indent) {
  const list = Array.isArray(of), inner = `${indent}  `
  const write = (value) => {
    if (value && typeof value === 'object') return list ? ` ${fieldsOf(value, inner).trimStart()}` : `\n${fieldsOf(value, inner)}`
    const text = String(value).replace(/\n$/, '')
    return text.includes('\n') ? `\n${text.replace(/^/gm, inner)}` : ` ${text}`
  }
  const name = (key) => (list ? '-' : `${/^[\w-]+$/.test(key) ? key : JSON.stringify(key)}:`)
  return Object.entries(of).map(([key, value]) => `${indent}${name(key)}${write(value)}`).join('\n')
}

function TTL({session}) {
  const now = useNow()
  const expires = Date.parse(session.expires_at)
  const own = session.ttl_minutes * 60_000
  const whole = session.question ? Math.max(own, expires - Date.parse(session.last_updated)) : own
  const left = Math.min(whole, Math.max(0, expires - now))
  const text = left ? `expires in ${brief(left)}` : `expired ${brief(now - expires)} ago`
  return html`<span class="ttl"><progress max=${whole} value=${left} aria-label="TTL left" /><span title=${exact(session.expires_at)}>${text} (TTL ${brief(own)}${whole > own ? ', longer while a question is open' : ''})</span></span>`
}

/**
 * stretches returns the periods in which a session had the same status, oldest first: {status, from, to} in
 * milliseconds.
 */
export function stretches(session, entries, now) {
  const list = []
  for (const entry of entries.toReversed()) {
    const at = Date.parse(entry.timestamp)
    const last = list.at(-1)
    const status = statusOf(entry)
    if (last?.status === status) continue
    if (last) last.to = at
    list.push({status, from: at})
  }
  const last = list.at(-1)
  if (!last) return list
  const heard = Math.max(last.from, Date.parse(session.last_updated))
  const ended = last.status === 'success' || last.status === 'failed'
  last.to = ended ? Math.max(last.from, Math.min(heard, last.from + 1)) : session.expired ? heard : Math.max(heard, now)
  if (session.lost) list.push({status: 'lost', from: heard, to: Math.max(heard, Date.parse(session.expires_at))})
  return list
}

/** Timeline shows the stretches of a session as a bar, and the total for each status. */
function Timeline({session, entries, whole}) {
  const now = useNow()
  const list = useMemo(() => stretches(session, entries, Math.floor(now / 1000) * 1000), [session, entries, Math.floor(now / 1000)])
  if (!list.length) return null
  const from = list[0].from, to = list.at(-1).to
  const total = Math.max(1, to - from)
  const sums = new Map()
  for (const {status, from, to} of list) sums.set(status, (sums.get(status) ?? 0) + to - from)
  const bars = list.length > 300 ? merged(list, total / 300) : list
  const words = [...sums].filter(([, ms]) => ms >= 1000).map(([status, ms]) => `${label(status)} ${brief(ms)}`)
  return html`<section class="timeline" aria-label="Timeline">
    <div class="bar-of" role="img" aria-label=${`Over ${brief(total)}: ${words.join(', ') || 'one report'}`}>
      ${bars.map((stretch) => html`<span class=${`stretch ${stretch.status}`} style=${{flexGrow: Math.max(stretch.to - stretch.from, total / 500)}} title=${`${label(stretch.status)} for ${brief(stretch.to - stretch.from)}, from ${exact(stretch.from)}`} />`)}
    </div>
    <p class="ends"><time datetime=${new Date(from).toISOString()} title=${exact(from)}>${whole ? '' : '… '}${clockTime(from)}</time><span>${brief(total)}</span><time datetime=${new Date(to).toISOString()} title=${exact(to)}>${clockTime(to)}</time></p>
    <ul class="sums" aria-label="Legend">${[...sums].map(([status, ms]) => html`<li><span class=${`dot ${status}`} />${label(status)} ${ms >= 1000 && html`<strong>${brief(ms)}</strong>`}</li>`)}</ul>
  </section>`
}

const label = (status) => ({lost: 'no contact', running: 'running', pending: 'pending', success: 'success', failed: 'failed', idle: 'idle'})[status]

/** merged combines stretches that are too short to be visible. */
function merged(list, least) {
  const out = []
  for (const stretch of list) {
    const last = out.at(-1)
    if (last && last.to - last.from < least) last.to = stretch.to
    else out.push({...stretch})
  }
  return out
}

function History({entries, questions}) {
  const day = useRef()
  day.current = ''
  const texts = new Map(entries.map((entry) => [entry.question_id, entry.message])) // texts of questions by ID
  const open = new Map(questions.map((question) => [question.id, question]))
  return html`<ol class="history">${entries.map((entry) => {
    const on = dayOf(entry.timestamp)
    const first = on !== day.current
    day.current = on
    return html`<${Entry} key=${keyOfStatus(entry)} entry=${entry} day=${first && on} open=${open.get(entry.question_id)} texts=${texts} />`
  })}</ol>`
}

/** Entry is an entry of the history. It omits the content of its question if that is open, since it is shown above. */
function Entry({entry, day, open, texts}) {
  const kind = entry.question_kind ?? open?.kind
  const content = open ? '' : entry.question_id ? readable(entry.content ?? '') : entry.content
  const hasContent = content && content !== entry.message
  const long = hasContent && (content.length > 600 || content.split('\n').length > 8)
  return html`<li class="entry">
    ${day && html`<p class="day">${day}</p>`}
    <div class="line"><time datetime=${entry.timestamp} title=${exact(entry.timestamp)}>${clockTime(entry.timestamp)}</time><${Status} state=${statusOf(entry)} />
      ${entry.message && html`<span class="message" dir="auto">${kind && html`<${Kind} of=${kind} />`}${entry.message}</span>`}</div>
    ${hasContent && (long
      ? html`<details><summary>Content, ${content.length.toLocaleString()} characters</summary><pre dir="auto" tabindex="0">${content}</pre></details>`
      : html`<pre dir="auto">${content}</pre>`)}
    ${entry.closed_questions?.map((closed) => html`<${Closed} key=${closed.id} closed=${closed} text=${texts.get(closed.id)} />`)}
  </li>`
}

/** Closed shows how a question was closed. text is the text of the question, if the history contains it. */
const Closed = ({closed: {outcome, by, answer}, text}) => html`<p class="closed">
  ${text ? html`<q dir="auto">${text}</q>` : 'A question'} ${outcome}${by && html` by <bdi>${by}</bdi>`}${answer && html`: <bdi class="answer">${answer}</bdi>`}</p>`
