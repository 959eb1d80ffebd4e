// Components shared by several views.
import {html, useEffect, useLayoutEffect, useRef, useState} from './html.js'
import {keyOf} from './data.js'
import {sessionHref} from './route.js'
import {Ago} from './time.js'

export const statuses = ['running', 'pending', 'success', 'failed']

const icons = {running: 'activity', pending: 'hourglass', success: 'circle-check', failed: 'circle-x', idle: 'terminal', lost: 'ghost', expired: 'clock'}

/** statusOf returns the status of a session or of a history entry. Here, idle is a separate status. */
export const statusOf = (of) => (of.idle ? 'idle' : of.current_status ?? of.status)

/** stateOf returns the state of a session in one word: its status, or lost or expired. */
export const stateOf = (row) => (row.lost ? 'lost' : row.expired ? 'expired' : statusOf(row))

export const titleOf = (row) => row.title || row.session_topic
export const agentOf = (row) => row.agent_name || row.agent_id

const sprite = new URL('./vendor/icons.svg', import.meta.url).href

export const Icon = ({name}) => html`<svg class="icon" aria-hidden="true" focusable="false"><use href=${`${sprite}#i-${name}`} /></svg>`

/** Status shows a status as a word, an icon and a colour. */
export const Status = ({state}) => html`<span class=${`status ${state}`}><${Icon} name=${icons[state]} />${state}</span>`

/**
 * sinceOf returns the time since which a session has been in its state or, if a question is open, has been waiting for
 * the answer.
 */
export const sinceOf = (row) => (row.expired ? row.expires_at : row.question?.asked_at ?? row.status_since)

/** AgentName shows an agent's name with its host, which distinguishes agents of the same name. */
export const AgentName = ({name, host}) => html`<span class="agent-name"><bdi>${name}</bdi>${host && html`<span class="host">@<bdi>${host}</bdi></span>`}</span>`

/** nameAtHost returns the content of AgentName as text. */
export const nameAtHost = (name, host) => (host ? `${name}@${host}` : name)

/**
 * Fact is an entry in a list of facts. A long text gets more space, and breaks between its parts rather than inside
 * them.
 */
export const Fact = ({name, text}) => text && html`<div class=${text.length > 14 ? 'long' : ''}><dt>${name}</dt><dd dir="auto">${text.split(/(?=[.@])|(?<=[:/_])/).map((part, i) => html`${i > 0 && html`<wbr />`}${part}`)}</dd></div>`

/** Kind shows the kind of a question, unless its text begins with it. */
export function Kind({of, text = ''}) {
  const kind = {permission: 'Permission', choice: 'Choice', plan: 'Plan', text: 'Question'}[of]
  return !new RegExp(`^${kind}([\\s:]|$)`, 'i').test(text) && html`<span class="kind">${kind}</span> `
}

/** Message shows a session's message or question in a list. */
function Message({row: {question, open_question_count: open, current_message: message}}) {
  if (!question) return message && html`<span class="message" dir="auto">${message}</span>`
  const asides = [question.asked_by && html`by subagent <bdi>${question.asked_by}</bdi>`, open > 1 && `+${open - 1} more`].filter(Boolean)
  return html`<span class="message"><${Kind} of=${question.kind} text=${question.text || message} /><bdi>${question.text || message}</bdi></span>
    ${asides.length > 0 && html`<span class="asides">${asides.map((aside) => html`<span>${aside}</span>`)}</span>`}`
}

/** SessionRow is a session in a list. */
export function SessionRow({row, gone}) {
  const state = stateOf(row)
  return html`<li class=${gone ? 'gone' : ''}>
    <a class="row" href=${sessionHref(row.agent_id, row.session_topic)}>
      <${Status} state=${state} />
      <span class="what">
        <span class="name" dir="auto">${titleOf(row)}</span>
        <${Message} row=${row} />
      </span>
      <span class="who"><${AgentName} name=${agentOf(row)} host=${row.agent_host} />${row.agent_source && html` <span class="source">${row.agent_source}</span>`}</span>
      <${Ago} time=${sinceOf(row)} label=${row.question ? 'asked' : `${state} since`} />
    </a>
  </li>`
}

/**
 * Rows shows a list that follows changes, but moves no row while the pointer or the focus is in the list: new rows are
 * added at the end, and removed ones stay, faded, until the pointer and the focus have left.
 */
export function Rows({rows, row: Row = SessionRow, by: key = keyOf, label}) {
  const [held, hold] = useState(false)
  const shown = useRef([])
  const list = useRef()
  const byKey = new Map(rows.map((row) => [key(row), row]))
  if (held) {
    const kept = shown.current.map(({row}) => ({row: byKey.get(key(row)) ?? row, gone: !byKey.has(key(row))}))
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
  return html`<ul class="rows" ref=${list} aria-label=${label}>
    ${shown.current.map(({row, gone}) => html`<${Row} key=${key(row)} row=${row} gone=${gone} />`)}
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
    try {
      await navigator.clipboard.writeText(text)
    } catch { // the clipboard API needs HTTPS
      const area = Object.assign(document.createElement('textarea'), {value: text})
      document.body.append(area)
      area.select()
      document.execCommand('copy')
      area.remove()
    }
    set(true)
    setTimeout(() => set(false), 2000)
  }
  return html`<div class="copy"><pre tabindex="0">${text}</pre><button type="button" onClick=${copy}><${Icon} name=${copied ? 'check' : 'copy'} />${copied ? 'Copied' : 'Copy'}</button></div>`
}

/** FirstReport explains how to begin, if no agent has reported yet. */
export function FirstReport() {
  const server = new URL('./', document.baseURI).href
  const command = `curl -s ${server}webhook/status -d '{
  "agent_id": "my-laptop:claude", "agent_source": "claude-code",
  "session_topic": "first-session", "status": "pending",
  "message": "Shall I continue?"}'`
  return html`<section class="first"><h2>No agent has reported yet</h2>
    <p><a class="go" href="connect">Connect your agent</a></p>
    <p>Claude Code, Codex, Gemini CLI, Cursor, Copilot and OpenCode only need a few lines in their settings.</p>
    <p>Or try it first: an agent is registered by its first status report. This one waits for your answer.</p>
    <${Copy} text=${command} />
    <p>It appears here immediately. See <a href="openapi.yaml">openapi.yaml</a> for everything that a report can contain.</p></section>`
}
