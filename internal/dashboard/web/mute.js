// Muting notifications: of one agent on its pages, and of a rule or everything on the page "Notifications".
import {html, useRef, useState} from './html.js'
import {Menu, allowed, send} from './acknowledge.js'
import {readAgain, useQuery} from './data.js'
import {href} from './route.js'
import {brief, exact, useNow} from './time.js'
import {Icon} from './parts.js'

const clock = new Intl.DateTimeFormat(undefined, {hour: 'numeric', minute: '2-digit'})

/** morning returns when it is 8:00 the next time, and what the menu calls that. */
export function morning(now = new Date()) {
  const at = new Date(now)
  at.setHours(8, 0, 0, 0)
  const today = at > now
  if (!today) at.setDate(at.getDate() + 1)
  return {until: at.toISOString(), text: `Until ${today ? '' : 'tomorrow '}${clock.format(at)}`}
}

/** spans returns what a mute may last, as pairs of a part of the request and its text. */
export function spans() {
  const {until, text} = morning()
  return [[{minutes: 60}, '1 hour'], [{minutes: 480}, '8 hours'], [{until}, text]]
}

const longer = [[{minutes: 3 * 1440}, '3 days'], [{minutes: 7 * 1440}, '1 week']]

/** mute adds a mute of {agent_id}, of {rule}, or of everything. It returns why that failed, if it did. */
export async function mute(of, span) {
  const {fault} = await send('api/notifications/mutes', {...of, ...span})
  readAgain()
  return fault
}

async function unmute({id}) {
  const {fault} = await send(`api/notifications/mutes/${encodeURIComponent(id)}`, undefined, 'DELETE')
  readAgain()
  return fault
}

/** MuteMenu is a button that opens a menu of durations. */
export function MuteMenu({label, name, of}) {
  const [open, setOpen] = useState(false)
  const [{busy, fault}, set] = useState({})
  const button = useRef()
  const close = (focus) => {
    setOpen(false)
    if (focus) button.current?.focus()
  }
  const choose = async (span) => {
    close(true)
    set({busy: true})
    set({fault: await mute(of, span)})
  }
  return html`<button type="button" ref=${button} aria-haspopup="menu" aria-expanded=${open} aria-label=${name} aria-disabled=${busy} onClick=${() => !busy && setOpen(!open)}><${Icon} name="bell-off" /><span>${label}</span></button>
    ${open && html`<${Menu} label=${name ?? label} button=${button} items=${[...spans(), ...longer]} onClose=${close} onChoose=${choose} />`}
    ${fault && html`<span class="fault" role="alert">${fault}</span>`}`
}

/** Left shows how long a mute lasts. */
export function Left({until}) {
  const now = useNow()
  return html`for another <time datetime=${until} title=${exact(until)}>${brief(Math.max(0, Date.parse(until) - now))}</time>`
}

/** Unmute is the button that removes a mute. name says what it unmutes. */
export function Unmute({of, name}) {
  const [{busy, fault}, set] = useState({})
  const act = async () => {
    if (busy) return
    set({busy: true})
    const fault = await unmute(of)
    set({fault})
    if (!fault) document.querySelector('h1')?.focus({preventScroll: true}) // the button disappears
  }
  return of.removable && html`<button type="button" aria-disabled=${busy} aria-label=${`Unmute ${name}`} onClick=${act}>Unmute</button>
    ${fault && html`<span class="fault" role="alert">${fault}</span>`}`
}

/** MuteAgent shows until when the notifications of an agent are muted, and mutes them. */
export function MuteAgent({agent}) {
  const {data = {mutes: []}} = useQuery('api/notifications/mutes', () => false, 30_000)
  const of = data.mutes.filter(({agent_id}) => agent_id === agent)
  const all = data.mutes.findLast(({agent_id, rule}) => !agent_id && !rule)
  const may = allowed || data.manages
  if (!of.length && !all && !may) return null
  return html`<div class="muting">
    ${all && html`<p class="muted"><${Icon} name="bell-off" /><span>All <a href=${href({view: 'notifications'})}>notifications</a> are muted <${Left} until=${all.until} /></span></p>`}
    ${of.map((one) => html`<p class="muted" key=${one.id}><${Icon} name="bell-off" /><span>Notifications of this agent are muted <${Left} until=${one.until} />${one.by && html` by <bdi>${one.by}</bdi>`}</span>
      <${Unmute} of=${one} name="this agent" /></p>`)}
    ${may && !of.length && html`<${MuteMenu} label="Mute notifications of this agent" of=${{agent_id: agent}} />`}
  </div>`
}
