// Acknowledging and snoozing sessions that need attention.
import {html, useState} from './html.js'
import {needing} from './parts.js'
import {Ago, brief, exact, useNow} from './time.js'

// Whether the server accepts it from this person.
const allowed = 'acknowledges' in document.documentElement.dataset

const snoozes = [30, 240] // minutes

/** useAcknowledge returns the buttons that send a request to path with these members, and why the last one failed. */
function useAcknowledge(path, members) {
  const [{busy, error}, set] = useState({})
  const send = async (minutes) => {
    set({busy: true})
    try {
      const answer = await fetch(path, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({...members, minutes})})
      set({error: answer.ok ? '' : (await answer.json()).message})
    } catch {
      set({error: "The server can't be reached."})
    }
  }
  const button = (label, minutes) => html`<button type="button" disabled=${busy} onClick=${() => send(minutes)}>${label}</button>`
  return [button, error && html`<span class="fault" role="alert">${error}</span>`]
}

/** Acknowledge shows who acknowledged a session or, if it needs attention, the buttons that do. */
export function Acknowledge({path, session}) {
  const [button, fault] = useAcknowledge(`${path}/acknowledge`, {})
  if (session.acknowledged) return html`<${Acknowledged} of=${session.acknowledged} />`
  if (!allowed || !Object.values(needing).some((needs) => needs(session))) return null
  return html`<p class="acknowledge">${needing.waiting(session) && snoozes.map((minutes) => button(`Snooze ${brief(minutes * 60_000)}`, minutes))}${button('Acknowledge', 0)}${fault}</p>`
}

function Acknowledged({of: {at, by, until}}) {
  const now = useNow()
  return html`<p class="acknowledge quiet"><span>${until ? 'Snoozed' : 'Acknowledged'}${by && html` by <bdi>${by}</bdi>`} <${Ago} time=${at} after=" ago" />${until && html`, for another <span title=${exact(until)}>${brief(Math.max(0, Date.parse(until) - now))}</span>`}</span></p>`
}

/** AcknowledgeAll acknowledges every session that needs attention for a reason; those that wait are snoozed. */
export function AcknowledgeAll({needs}) {
  const [button, fault] = useAcknowledge('api/acknowledge', {needs})
  if (!allowed) return null
  return html`<p class="acknowledge">${needs === 'waiting' ? button(`Snooze all ${brief(snoozes[0] * 60_000)}`, snoozes[0]) : button('Acknowledge all', 0)}${fault}</p>`
}
