// What several views are made of.
import {html, useEffect, useLayoutEffect, useRef, useState} from './html.js'
import {keyOf} from './data.js'
import {sessionHref} from './route.js'
import {Ago} from './time.js'

export const statuses = ['running', 'pending', 'success', 'failed']

const icons = {running: 'activity', pending: 'hourglass', success: 'circle-check', failed: 'circle-x', idle: 'terminal', lost: 'ghost', expired: 'clock'}

/** statusOf returns the status of a session, or of an entry of its history: idle is one of its own here. */
export const statusOf = (of) => (of.idle ? 'idle' : of.current_status ?? of.status)

/** stateOf says in one word how a session stands: its status, or lost, or expired. */
export const stateOf = (row) => (row.lost ? 'lost' : row.expired ? 'expired' : statusOf(row))

export const titleOf = (row) => row.title || row.session_topic
export const agentOf = (row) => row.agent_name || row.agent_id

const sprite = new URL('./vendor/icons.svg', import.meta.url).href

export const Icon = ({name}) => html`<svg class="icon" aria-hidden="true" focusable="false"><use href=${`${sprite}#i-${name}`} /></svg>`

/** Status shows a status by word, icon and colour. */
export const Status = ({state}) => html`<span class=${`status ${state}`}><${Icon} name=${icons[state]} />${state}</span>`

/** sinceOf returns since when a session stands as it does, or, where a question is open, waits for the answer. */
export const sinceOf = (row) => (row.expired ? row.expires_at : row.question?.asked_at ?? row.status_since)

/** AgentName tells agents of the same name apart by their hosts. */
export const AgentName = ({name, host}) => html`<span class="agent-name"><bdi>${name}</bdi>${host && html`<span class="host">@<bdi>${host}</bdi></span>`}</span>`

/** nameAtHost is what AgentName shows, as text. */
export const nameAtHost = (name, host) => (host ? `${name}@${host}` : name)

/** Fact is one of a list of facts. A long text takes more room, and breaks between its parts rather than inside them. */
export const Fact = ({name, text}) => text && html`<div class=${text.length > 14 ? 'long' : ''}><dt>${name}</dt><dd dir="auto">${text.split(/(?=[.@])|(?<=[:/_])/).map((part, i) => html`${i > 0 && html`<wbr />`}${part}`)}</dd></div>`

/** Kind says what a question asks for, unless its text begins with that. */
export function Kind({of, text = ''}) {
  const kind = {permission: 'Permission', choice: 'Choice', plan: 'Plan', text: 'Question'}[of]
  return !new RegExp(`^${kind}([\\s:]|$)`, 'i').test(text) && html`<span class="kind">${kind}</span> `
}

/** Message is what a session says in a list, or what it asks. */
function Message({row: {question, open_question_count: open, current_message: message}}) {
  if (!question) return message && html`<span class="message" dir="auto">${message}</span>`
  const asides = [question.asked_by && html`by subagent <bdi>${question.asked_by}</bdi>`, open > 1 && `+${open - 1} more`].filter(Boolean)
  return html`<span class="message"><${Kind} of=${question.kind} text=${question.text || message} /><bdi>${question.text || message}</bdi></span>
    ${asides.length > 0 && html`<span class="asides">${asides.map((aside) => html`<span>${aside}</span>`)}</span>`}`
}

/** SessionRow is one session in a list. */
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
 * Rows shows sessions as they are, but moves none while the pointer or the focus is among them: what is new comes at
 * the end, and what is gone stays, faded, until the reader has left.
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

/** More reads the next page when the reader comes near it, or asks for it. */
export function More({more, loading}) {
  const end = useRef()
  const latest = useRef()
  latest.current = loading ? null : more
  useEffect(() => {
    const watch = new IntersectionObserver((seen) => { if (seen.at(-1).isIntersecting) latest.current?.() }, {rootMargin: '400px'}) // the last is how it is now
    if (end.current) watch.observe(end.current)
    return () => watch.disconnect()
  }, [more, loading])
  return more && html`<p class="more" ref=${end}><button type="button" onClick=${() => latest.current?.()} disabled=${loading}>${loading ? 'Loading…' : 'Show more'}</button></p>`
}

/** Trouble says what the server answered instead of what was asked for. */
export const Trouble = ({error}) => error && html`<p class="trouble" role="alert"><${Icon} name="circle-alert" />
  ${error.status ? `The server says: ${error.message}` : 'The server does not answer.'}${error.status === 404 || error.status === 400 ? '' : ' Trying again…'}</p>`

export const Nothing = ({icon = 'inbox', children}) => html`<p class="nothing"><${Icon} name=${icon} />${children}</p>`

export const Waiting = () => html`<div class="rows skeleton" aria-busy="true" aria-label="Loading">${[1, 2, 3, 4].map(() => html`<div class="row"><span /><span /><span /></div>`)}</div>`

/** Heading is a view's; it takes the focus when the reader comes from another one, so that a screen reader says where that is. */
export function Heading({children}) {
  const heading = useRef()
  useLayoutEffect(() => {
    if (Heading.moved) heading.current?.focus({preventScroll: true})
    Heading.moved = true
  }, [])
  return html`<h1 ref=${heading} tabindex="-1" dir="auto">${children}</h1>`
}

/** Copy is a text to be copied. */
export function Copy({text}) {
  const [copied, set] = useState(false)
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text)
    } catch { // pages without TLS have no clipboard
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

/** FirstReport shows a fleet that is empty how to begin. */
export function FirstReport() {
  const server = new URL('./', document.baseURI).href
  const command = `curl -s ${server}webhook/status -d '{
  "agent_id": "my-laptop:claude", "agent_source": "claude-code",
  "session_topic": "first-session", "status": "pending",
  "message": "Shall I go on?"}'`
  return html`<section class="first"><h2>No agent has reported yet</h2>
    <p><a class="go" href="connect">Connect your agent</a></p>
    <p>Claude Code, Codex, Gemini CLI, Cursor, Copilot and OpenCode need a few lines in their settings, and nothing else.</p>
    <p>Or try it first: an agent is in as soon as it sends its first status report. This one waits for you.</p>
    <${Copy} text=${command} />
    <p>It shows up here at once. What a report can say is in <a href="openapi.yaml">openapi.yaml</a>.</p></section>`
}
