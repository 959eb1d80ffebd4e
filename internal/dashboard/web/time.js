// Times: relative, and exact in the user's time zone on hover.
import {html, useEffect, useState} from './html.js'

/** brief formats milliseconds with their two largest units: 42s, 7m, 3h 5m, 2d 4h. */
export function brief(ms) {
  const seconds = Math.floor(Math.max(ms, 0) / 1000)
  const minutes = Math.floor(seconds / 60), hours = Math.floor(seconds / 3600), days = Math.floor(seconds / 86400)
  const two = (a, unitA, b, unitB) => (b ? `${a}${unitA} ${b}${unitB}` : `${a}${unitA}`)
  if (seconds < 60) return `${seconds}s`
  if (minutes < 60) return `${minutes}m`
  if (hours < 24) return two(hours, 'h', minutes % 60, 'm')
  return two(days, 'd', hours % 24, 'h')
}

const exactly = new Intl.DateTimeFormat(undefined, {dateStyle: 'medium', timeStyle: 'long'})
const clock = new Intl.DateTimeFormat(undefined, {hour: '2-digit', minute: '2-digit', second: '2-digit'})
const day = new Intl.DateTimeFormat(undefined, {weekday: 'short', day: 'numeric', month: 'short'})

export const exact = (time) => exactly.format(new Date(time))
export const clockTime = (time) => clock.format(new Date(time))
export const dayOf = (time) => day.format(new Date(time))

// One ticker updates all relative times. It pauses while the page is hidden.
const tickers = new Set()
setInterval(() => { if (!document.hidden) for (const tick of tickers) tick() }, 1000)
addEventListener('visibilitychange', () => { if (!document.hidden) for (const tick of tickers) tick() })

/** useNow returns the current time, updated every second. */
export function useNow() {
  const [now, set] = useState(Date.now)
  useEffect(() => {
    const tick = () => set(Date.now())
    tickers.add(tick)
    return () => tickers.delete(tick)
  }, [])
  return now
}

/** Ago shows how long ago a time was, between the texts before and after. */
export function Ago({time, label, before = '', after = ''}) {
  const now = useNow()
  return html`<time class="when" datetime=${time} title=${`${label ? `${label} ` : ''}${exact(time)}`}>${before}${brief(now - Date.parse(time))}${after}</time>`
}

/** compareTimes orders times of the API. It compares those within the same millisecond as text, up to the Z. */
export const compareTimes = (a, b) => Date.parse(a) - Date.parse(b) || (a.slice(0, -1) < b.slice(0, -1) ? -1 : a === b ? 0 : 1)
