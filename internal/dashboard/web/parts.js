// Components shared by several views.
import {html, useEffect, useLayoutEffect, useRef, useState} from './html.js'
import {copyText} from './copy.js'
import {keyOf} from './data.js'
import {sessionHref} from './route.js'
import {Ago} from './time.js'

export const statuses = ['running', 'pending', 'success', 'failed']

const icons = {running: 'activity', pending: 'hourglass', success: 'circle-check', failed: 'circle-x', idle: 'terminal', lost: 'ghost'}

/** statusOf returns the status of a session or of a history entry. Here, idle is a separate status. */
export const statusOf = (of) => (of.idle ? 'idle' : of.current_status ?? of.status)

/** stateOf returns the state of a session in one word: its status, or lost. */
export const stateOf = (row) => (row.lost ? 'lost' : statusOf(row))

/** needing are functions by reason that report whether a session needs attention for that reason. */
export const needing = {
  waiting: (row) => row.current_status === 'pending' && !row.expired && !row.acknowledged,
  lost: (row) => row.lost && !row.acknowledged,
  failed: (row) => row.current_status === 'failed' && !row.expired && !row.acknowledged,
}

export const titleOf = (row) => row.title || row.session_topic
export const agentOf = (row) => row.agent_name || row.agent_id

const sprite = new URL('./vendor/icons.svg', import.meta.url).href

/** iconOf returns the name of the icon for a state. */
export const iconOf = (state) => icons[state]

export const Icon = ({name}) => html`<svg class="icon" aria-hidden="true" focusable="false"><use href=${`${sprite}#i-${name}`} /></svg>`

/** Status shows a status as a word, an icon and a colour. */
export const Status = ({state}) => html`<span class=${`status ${state}`}><${Icon} name=${icons[state]} />${state}</span>`

/**
 * sinceOf returns the time since which a session has been in its state or, if a question is open, has been waiting for
 * the answer.
 */
export const sinceOf = (row) => (row.lost ? row.expires_at : row.question?.asked_at ?? row.status_since)

/**
 * AgentName shows an agent's name with its host, which distinguishes agents of the same name, and with its ID if that is
 * given because neither the host nor the source distinguishes them.
 */
export const AgentName = ({name, host, id}) => html`<span class="agent-name"><bdi>${name}</bdi>${host && html`<span class="host">@<bdi>${host}</bdi></span>`}</span>${id && html`<span class="agent-id"><bdi>${id}</bdi></span>`}`

/** nameAtHost returns the content of AgentName as text. */
export const nameAtHost = (name, host) => (host ? `${name}@${host}` : name)

/**
 * Fact is an entry in a list of facts. A long text gets more space, and breaks between its parts rather than inside
 * them.
 */
export const Fact = ({name, text}) => text && html`<div class=${text.length > 14 ? 'long' : ''}><dt>${name}</dt><dd dir="auto">${text.split(/(?=[.@])|(?<=[:/_])/).map((part, i) => html`${i > 0 && html`<wbr />`}${part}`)}</dd></div>`

const kinds = {permission: 'Asks for permission', choice: 'Asks for a choice', plan: 'Asks to approve a plan', text: 'Asks a question'}

/** askedOf returns what a question asks for and its text, as one text. */
export const askedOf = ({kind, text}) => [kinds[kind], text].filter(Boolean).join(': ')

/** Kind shows what a question asks for. */
export const Kind = ({of}) => html`<span class="kind">${kinds[of]}</span> `

/** Message shows a session's message or question in a list. */
export function Message({row: {question, open_question_count: open, current_message: message}}) {
  if (!question) return message && html`<span class="message" dir="auto">${message}</span>`
  const asides = [question.asked_by && html`by subagent <bdi>${question.asked_by}</bdi>`, open > 1 && `+${open - 1} more`].filter(Boolean)
  return html`<span class="message"><${Kind} of=${question.kind} /><bdi>${question.text || message}</bdi></span>
    ${asides.length > 0 && html`<span class="asides">${asides.map((aside) => html`<span>${aside}</span>`)}</span>`}`
}

/** Who shows whose session a row is. */
export const Who = ({row, alike}) => html`<span class="who"><${AgentName} name=${agentOf(row)} host=${row.agent_host} id=${alike && row.agent_id} />${row.agent_source && html` <span class="source">${row.agent_source}</span>`}</span>`

/** SessionRow is a session in a list that is sorted by the last report. */
export const SessionRow = ({row, gone, alike}) => html`<li class=${gone ? 'gone' : ''}>
  <a class="row" href=${sessionHref(row.agent_id, row.session_topic)}>
    <${Status} state=${stateOf(row)} />
    <span class="what">
      <span class="name" dir="auto">${titleOf(row)}</span>
      ${row.current_message !== titleOf(row) && html`<${Message} row=${row} />`}
    </span>
    <${Who} row=${row} alike=${alike} />
    <${Ago} time=${row.last_updated} label="last report" after=" ago" />
  </a>
</li>`

/** lookOf returns what a list of sessions or agents shows of an agent: its name, host and source. */
const lookOf = (row) => JSON.stringify([(row.agent_name ?? row.name) || row.agent_id, row.agent_host ?? row.host, row.agent_source ?? row.source])

/** namesakes returns the IDs of agents in a list of sessions or agents that look like another one: see lookOf. */
function namesakes(rows) {
  const byLook = new Map()
  for (const row of rows) {
    const look = lookOf(row)
    byLook.set(look, (byLook.get(look) ?? new Set()).add(row.agent_id))
  }
  return new Set([...byLook.values()].filter((ids) => ids.size > 1).flatMap((ids) => [...ids]))
}

/**
 * Rows shows a list that follows changes, but moves no row while the pointer or the focus is in the list: new rows are
 * added at the end, and removed ones stay, faded, until the pointer and the focus have left. Only what the person
 * acknowledged leaves at once: see choice.js.
 */
export function Rows({rows, row: Row = SessionRow, by: key = keyOf, label, choice}) {
  const [held, hold] = useState(false)
  const shown = useRef([])
  const list = useRef()
  const byKey = new Map(rows.map((row) => [key(row), row]))
  const isHidden = choice?.isHidden ?? (() => false)
  if (held) {
    const kept = shown.current.map(({row}) => ({row: byKey.get(key(row)) ?? row, gone: !byKey.has(key(row))})).filter(({row, gone}) => !gone || !isHidden(row))
    const known = new Set(kept.map(({row}) => key(row)))
    shown.current = [...kept, ...rows.filter((row) => !known.has(key(row))).map((row) => ({row}))]
  } else {
    shown.current = rows.map((row) => ({row}))
  }
  useEffect(() => {
    const check = () => hold(Boolean(list.current?.matches(':hover, :focus-within')))
    addEventListener('pointermove', check, {passive: true})
    addEventListener('focusin', check)
    document.documentElement.addEventListener('pointerleave', check)
    return () => {
      removeEventListener('pointermove', check)
      removeEventListener('focusin', check)
      document.documentElement.removeEventListener('pointerleave', check)
    }
  }, [])
  const alike = namesakes(rows)
  return html`<ul class="rows" ref=${list} aria-label=${label}>
    ${shown.current.map(({row, gone}) => !isHidden(row) && html`<${Row} key=${key(row)} row=${row} gone=${gone} alike=${alike.has(row.agent_id)} choice=${choice} />`)}
  </ul>`
}

/** More reads the next page when the user scrolls near the end, or clicks the button. */
export function More({more, loading}) {
  const end = useRef()
  const latest = useRef()
  latest.current = loading ? null : more
  useEffect(() => {
    const watch = new IntersectionObserver((seen) => { if (seen.at(-1).isIntersecting) latest.current?.() }, {rootMargin: '400px'}) // the last one is the current state
    if (end.current) watch.observe(end.current)
    return () => watch.disconnect()
  }, [more, loading])
  return more && html`<p class="more" ref=${end}><button type="button" onClick=${() => latest.current?.()} disabled=${loading}>${loading ? 'Loading…' : 'Show more'}</button></p>`
}

/** Trouble shows why a read failed. */
export const Trouble = ({error}) => error && html`<p class="trouble" role="alert"><${Icon} name="circle-alert" />
  ${error.status ? `The server reports: ${error.message}` : 'The server is not responding.'}${error.status === 404 || error.status === 400 ? '' : ' Retrying…'}</p>`

/** Empty says why a list is empty. */
export const Empty = ({icon = 'inbox', children}) => html`<p class="nothing"><${Icon} name=${icon} />${children}</p>`

export const Loading = () => html`<div class="rows skeleton" aria-busy="true" aria-label="Loading">${[1, 2, 3, 4].map(() => html`<div class="row"><span /><span /><span /></div>`)}</div>`

/**
 * Heading is the heading of a view. It takes the focus when the user comes from another view, so that screen readers
 * announce it.
 */
export function Heading({children}) {
  const heading = useRef()
  useLayoutEffect(() => {
    if (Heading.moved) heading.current?.focus({preventScroll: true})
    Heading.moved = true
  }, [])
  return html`<h1 ref=${heading} tabindex="-1" dir="auto">${children}</h1>`
}

/** Copy is a text with a copy button. */
export function Copy({text}) {
  const [copied, set] = useState(false)
  const copy = async () => {
    await copyText(text)
    set(true)
    setTimeout(() => set(false), 2000)
  }
  return html`<div class="copy"><pre tabindex="0">${text}</pre><button type="button" onClick=${copy}><${Icon} name=${copied ? 'check' : 'copy'} />${copied ? 'Copied' : 'Copy'}</button></div>`
}

/** Missing explains what to do about a session or an agent that does not exist. children are links to other views. */
export const Missing = ({what, children}) => html`<div class="missing">
  <p>The server knows no ${what} of this name, or your token does not cover it. Sessions are forgotten a while after their last report.</p>
  <p>If it reports, it appears here immediately. Until then:</p>
  <ul>${children.map((link) => link && html`<li>${link}</li>`)}</ul>
</div>`

/** Filtered says that no items match the filters of a view. */
export const Filtered = ({what, all}) => html`<${Empty} icon="search"><span>No ${what} match these filters. <a href=${all}>Show all ${what}</a></span><//>`

/** FirstReport explains how to begin, if no agent has reported yet. */
export function FirstReport() {
  const server = new URL('./', document.baseURI).href
  const {reports} = document.documentElement.dataset
  return html`<section class="first"><h2>No agent has reported yet</h2>
    <p><a class="go" href="connect">Connect your agent</a></p>
    ${reports === 'signature' ? html`<p>This server accepts only signed webhooks. <a href="connect">Connect your agent</a> says how to send them.</p>` : html`
      <p>Claude Code, Codex, Gemini CLI, Cursor, Copilot and OpenCode need only one command.</p>
      <p>Or try it first: an agent is registered by its first status report. This one waits for your answer.${reports === 'token' && ' Put a token with the scope “report” into the variable KUBEAGENTS_TOKEN first.'}</p>
      <${Copy} text=${firstReport(server, reports === 'token')} />`}
    <p>It appears here immediately. See <a href="openapi.yaml">openapi.yaml</a> for everything that a report can contain.</p></section>`
}

/** firstReport returns a command that sends a report to a server. */
const firstReport = (server, token) => `curl -s ${server}webhook/status ${token ? '-H "Authorization: Bearer $KUBEAGENTS_TOKEN" ' : ''}-d '{
  "agent_id": "my-laptop:claude", "agent_source": "claude-code",
  "session_topic": "first-session", "status": "pending",
  "message": "Shall I continue?"}'`
