// Acknowledging and snoozing sessions that need attention.
import {html, useLayoutEffect, useRef, useState} from './html.js'
import {changedAt, seenUntil} from './data.js'
import {Icon, needing} from './parts.js'
import {Ago, brief, exact, useNow} from './time.js'

/** allowed is whether the server accepts acknowledgements from this person. */
export const allowed = 'acknowledges' in document.documentElement.dataset

// The durations of a snooze in minutes, as the menu shows them. 0 has no end.
const snoozes = [[30, '30 minutes'], [60, '1 hour'], [240, '4 hours'], [1440, '1 day'], [0, 'Until something new happens']]

const together = 25 // sessions in a request: with the longest names, they fit into the server's limit for a body

/** send sends a request to the API. It returns {result}, or {fault} if that failed. */
export async function send(path, body, method = 'POST') {
  try {
    const answer = await fetch(path, {method, headers: {'Content-Type': 'application/json'}, body: body && JSON.stringify(body)})
    changedAt(answer)
    const result = answer.status === 204 ? {} : await answer.json()
    return answer.ok ? {result} : {fault: result.message}
  } catch {
    return {fault: "The server can't be reached."}
  }
}

/**
 * acknowledge acknowledges sessions or, if minutes is not 0, snoozes them, unless something new has happened to them
 * since their rows were shown. It returns how many, the rows of those for which that may have failed, and why, unless it
 * is because of something new.
 */
export async function acknowledge(rows, minutes) {
  let n = 0
  const failed = []
  for (let i = 0; i < rows.length; i += together) {
    const some = rows.slice(i, i + together)
    const sessions = some.map((row) => ({agent_id: row.agent_id, session_topic: row.session_topic, as_of: seenUntil(row)}))
    const {result, fault} = await send('api/acknowledge', {sessions, minutes})
    if (fault) return {n, failed: [...failed, ...rows.slice(i)], fault}
    n += result.acknowledged
    if (result.acknowledged < some.length) failed.push(...some)
  }
  return {n, failed}
}

/**
 * acknowledgeAll acknowledges all sessions that need attention for a reason, except those to which something new has
 * happened after as_of. It returns why that failed, if it did.
 */
export async function acknowledgeAll(needs, minutes, as_of) {
  for (;;) {
    const {result, fault} = await send('api/acknowledge', {needs, minutes, as_of})
    if (fault || !result.more || !result.acknowledged) return fault
  }
}

/** Snooze is a button that opens a menu of durations. With forever, a snooze may also have no end. */
export function Snooze({label, name, icon, forever, disabled, onSnooze}) {
  const [open, setOpen] = useState(false)
  const button = useRef()
  const close = (focus) => {
    setOpen(false)
    if (focus) button.current?.focus()
  }
  return html`<button type="button" class="snooze" ref=${button} aria-haspopup="menu" aria-expanded=${open} aria-label=${name} disabled=${disabled} onClick=${() => setOpen(!open)}>
      ${icon && html`<${Icon} name="clock" />`}<span>${label}</span></button>
    ${open && html`<${Menu} label=${name ?? label} button=${button} items=${snoozes.filter(([minutes]) => minutes || forever)} onClose=${close} onChoose=${(minutes) => { close(false); onSnooze(minutes) }} />`}`
}

/** Menu is a menu below its button, or above it if there is no room below. items are pairs of a value and its text. */
export function Menu({label, button, items, onClose, onChoose}) {
  const menu = useRef()
  useLayoutEffect(() => {
    const {style} = menu.current
    menu.current.showPopover()
    const {offsetWidth: width, offsetHeight: height} = menu.current
    const {left, right, top, bottom} = button.current.getBoundingClientRect()
    style.left = `${Math.max(8, Math.min(left, right - width < 8 ? left : right - width, innerWidth - width - 8))}px`
    style.top = `${bottom + 4 + height > innerHeight - 8 ? Math.max(8, top - 4 - height) : bottom + 4}px`
    menu.current.firstElementChild.focus({preventScroll: true})
  }, [])
  useLayoutEffect(() => {
    const away = (event) => { if (!menu.current?.contains(event.target) && !button.current?.contains(event.target)) onClose(false) }
    const from = scrollY
    const moved = () => { if (Math.abs(scrollY - from) > 8) onClose(false) }
    const resized = () => onClose(false)
    addEventListener('pointerdown', away)
    addEventListener('focusin', away)
    addEventListener('scroll', moved, {passive: true})
    addEventListener('resize', resized)
    return () => {
      removeEventListener('pointerdown', away)
      removeEventListener('focusin', away)
      removeEventListener('scroll', moved)
      removeEventListener('resize', resized)
    }
  }, [])
  const press = (event) => {
    const all = [...menu.current.children]
    const at = all.indexOf(document.activeElement)
    const next = {ArrowDown: at + 1, ArrowUp: at - 1 + all.length, Home: 0, End: all.length - 1}[event.key]
    event.stopPropagation()
    if (next !== undefined) all[next % all.length].focus()
    else if (event.key === 'Escape' || event.key === 'Tab') onClose(true)
    else return
    event.preventDefault()
  }
  return html`<div class="durations" popover="manual" role="menu" aria-label=${label} ref=${menu} onKeyDown=${press}>
    ${items.map(([value, text]) => html`<button type="button" role="menuitem" tabindex="-1" onClick=${() => onChoose(value)}>${text}</button>`)}
  </div>`
}

/** Acknowledge shows who acknowledged a session or, if it needs attention, the buttons that do. */
export function Acknowledge({session}) {
  const [{busy, fault}, set] = useState({})
  const act = async (minutes) => {
    set({busy: true})
    const {failed, fault = failed.length > 0 && 'Something new has happened.'} = await acknowledge([session], minutes)
    set({fault})
    if (!fault) document.querySelector('h1')?.focus() // the buttons are gone
  }
  if (session.acknowledged) return html`<${Acknowledged} of=${session.acknowledged} />`
  if (!allowed || !Object.values(needing).some((needs) => needs(session))) return null
  return html`<p class="acknowledge">
    ${needing.waiting(session) && html`<${Snooze} label="Snooze" icon disabled=${busy} onSnooze=${act} />`}
    <button type="button" disabled=${busy} onClick=${() => act(0)}><${Icon} name="check" /><span>Acknowledge</span></button>
    ${fault && html`<span class="fault" role="alert">${fault}</span>`}</p>`
}

function Acknowledged({of: {at, by, until}}) {
  const now = useNow()
  return html`<p class="acknowledge quiet"><span>${until ? 'Snoozed' : 'Acknowledged'}${by && html` by <bdi>${by}</bdi>`} <${Ago} time=${at} after=" ago" />${until && html`, for another <span title=${exact(until)}>${brief(Math.max(0, Date.parse(until) - now))}</span>`}</span></p>`
}
