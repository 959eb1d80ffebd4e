// Says to the server what the person looks at, so that their devices are not notified of it. As long as they have no
// devices, the page says nothing.
import {useLayoutEffect} from './html.js'
import {watchDevices} from './devices.js'

const everyMs = 20_000
const usedForMs = 60_000 // after the pointer, a key, the wheel or a finger was used

const page = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('')
let wanted = false
let where = null // {agent_id, session_topic} of what the page shows, null if nothing is to be said of it
let used = performance.now()
let said = ''
let pointer = ''
let timer = 0

/** shownBy returns what a view shows, as the API takes it, or null if it does not show what devices are notified of. */
export function shownBy(view, {agent, session}) {
  return {needs: {}, agent: {agent_id: agent}, session: {agent_id: agent, session_topic: session}}[view] ?? null
}

const post = (body) => fetch('api/presence', {method: 'POST', keepalive: true, headers: {'Content-Type': 'application/json'}, body: JSON.stringify({page, ...body})}).catch(() => {})

/** tell says what the page shows if it is being used, and takes it back otherwise. */
function tell() {
  clearTimeout(timer)
  timer = 0
  if (wanted && where && !document.hidden && performance.now() - used < usedForMs) {
    said = JSON.stringify(where)
    post(where)
    timer = setTimeout(tell, everyMs)
  } else if (said) {
    leave()
  }
}

function leave() {
  clearTimeout(timer)
  timer = 0
  if (said) post({left: true})
  said = ''
}

function use() {
  used = performance.now()
  if (!said) tell()
}

/** moved is use if the pointer really moved, and not only what is below it. */
function moved({screenX, screenY}) {
  const at = `${screenX} ${screenY}`
  if (pointer && at !== pointer) use()
  pointer = at
}

function listen() {
  // Scrolling is not among them: the page scrolls by itself when rows are added above.
  for (const event of ['pointerdown', 'keydown', 'wheel', 'touchstart', 'touchmove']) addEventListener(event, use, {passive: true, capture: true})
  addEventListener('pointermove', moved, {passive: true, capture: true})
  addEventListener('visibilitychange', tell)
  addEventListener('pagehide', leave)
  addEventListener('pageshow', ({persisted}) => { if (persisted) use() })
}

let listening = false

function want(devices) {
  if (wanted === devices) return
  wanted = devices
  if (!listening) listen()
  listening = true
  tell()
}

want('devices' in document.documentElement.dataset)
watchDevices(({list}) => { if (list) want(list.devices.length > 0) })

/** usePresence says what a view shows while the person uses it. */
export function usePresence(view, params) {
  const now = JSON.stringify(shownBy(view, params))
  useLayoutEffect(() => {
    where = JSON.parse(now)
    if (now !== said) tell()
  }, [now])
}
