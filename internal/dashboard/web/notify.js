// The bell: notifications of this device by Web Push and, where those are off, of the page itself: when a session starts
// waiting, fails, or is lost. Each can be switched on and off.
import {html, inOrder, useEffect, useLayoutEffect, useRef, useState} from './html.js'
import {subscribe} from './live.js'
import {go, sessionHref} from './route.js'
import {ThisDevice, blocked, isOn, pushes, unsupportedBecause, useDevices} from './devices.js'
import {Icon, agentOf, askedOf} from './parts.js'

const kinds = {
  pending: {label: 'is waiting for you', option: 'A session starts waiting'},
  failed: {label: 'failed', option: 'A session fails'},
  lost: {label: 'lost contact', option: 'A session is lost'},
}
const stored = 'kubeagents.notify'
const supported = 'Notification' in window && window.isSecureContext

const read = () => {
  try {
    return JSON.parse(localStorage.getItem(stored)) ?? {}
  } catch {
    return {}
  }
}

/** kindOf returns the kind of notification for a change, if there is one. */
export function kindOf(change) {
  if (change.type === 'expired') return change.lost ? 'lost' : null
  if (change.asked) return 'pending'
  if (change.type !== 'status' || change.previous_status === change.status && !change.revived) return null
  return change.status === 'pending' || change.status === 'failed' ? change.status : null
}

async function notify(kind, change) {
  const title = inOrder(`${agentOf(change)}${change.agent_host ? ` on ${change.agent_host}` : ''} ${kinds[kind].label}`)
  const url = sessionHref(change.agent_id, change.session_topic)
  const options = {
    body: inOrder([change.title || change.session_topic, change.asked ? askedOf(change.asked) : change.message].filter(Boolean).join('\n')).slice(0, 300),
    tag: `${kind}\n${change.agent_id}\n${change.session_topic}`, // one notification, however many tabs are open
    icon: new URL('favicon.svg', document.baseURI).href,
  }
  try {
    const note = new Notification(title, options)
    note.onclick = () => {
      window.focus()
      go(url)
      note.close()
    }
  } catch {
    // Browsers on Android show only notifications of service workers.
    await navigator.serviceWorker?.register('sw.js')
    const registration = await navigator.serviceWorker?.ready
    await registration?.showNotification(title, {...options, data: {url}})
  }
}

/** Bell is the button for notifications, with its menu. */
export function Bell() {
  const [wanted, want] = useState(read)
  const [granted, grant] = useState(() => supported && Notification.permission === 'granted')
  const [open, setOpen] = useState(false)
  const menu = useRef()
  const button = useRef()
  const some = Object.values(wanted).some(Boolean)

  const choice = useRef(wanted) // takes effect with the click, not with the next rendering

  useEffect(() => subscribe((changes) => {
    if (!supported || Notification.permission !== 'granted' || pushes()) return
    for (const change of changes ?? []) {
      const kind = kindOf(change)
      if (kind && choice.current[kind]) notify(kind, change)
    }
  }), [])
  useLayoutEffect(() => {
    if (!open) return
    const away = (event) => {
      const escaped = event.key === 'Escape'
      if (!escaped && (event.type !== 'pointerdown' || menu.current?.contains(event.target))) return
      setOpen(false)
      if (escaped) button.current?.focus()
    }
    addEventListener('pointerdown', away)
    addEventListener('keydown', away)
    return () => {
      removeEventListener('pointerdown', away)
      removeEventListener('keydown', away)
    }
  }, [open])

  const choose = async (kind, on) => {
    if (on && !granted) {
      const answer = await Notification.requestPermission()
      grant(answer === 'granted')
      if (answer !== 'granted') return
    }
    choice.current = {...choice.current, [kind]: on}
    localStorage.setItem(stored, JSON.stringify(choice.current))
    want(choice.current)
  }
  const device = useDevices()
  const pushed = isOn(device)
  const on = pushed || granted && some
  return html`<div class="menu" ref=${menu}>
    <button type="button" class="plain" ref=${button} aria-expanded=${open} aria-haspopup="true" onClick=${() => setOpen(!open)} title="Notifications" aria-label=${`Notifications: ${on ? 'on' : 'off'}`}><${Icon} name=${on ? 'bell' : 'bell-off'} /></button>
    ${open && html`<div class="sheet" role="group" aria-label="Notify me">
      <${ThisDevice} />
      ${!pushed && html`<fieldset><legend>While a page is open, notify me when</legend>
        ${Object.entries(kinds).map(([kind, {option}]) => html`<label><input type="checkbox" checked=${granted && Boolean(wanted[kind])} disabled=${!supported} onChange=${(event) => choose(kind, event.target.checked)} />${option}</label>`)}
        <${WhyNot} off=${device.list?.off} />
      </fieldset>`}
    </div>`}
  </div>`
}

/** WhyNot says why notifications can't be shown, or only while a page is open. off is why the server has no Web Push. */
function WhyNot({off}) {
  const unsupported = unsupportedBecause()
  if (!supported) return html`<p class="quiet">${unsupported}</p>`
  return html`${(unsupported || off) && html`<p class="quiet">Only while a page is open${unsupported ? `. ${unsupported}` : `, because Web Push is off: ${off}`}</p>`}
    ${Notification.permission === 'denied' && (unsupported || off) && html`<p class="quiet">${blocked}</p>`}`
}
