// Data of the API, kept up to date. It is read again when something in it has changed, but no faster than the server
// responds. Rows on the screen follow changes immediately.
import {useCallback, useEffect, useRef, useState} from './html.js'
import {subscribe} from './live.js'
import {compareTimes} from './time.js'

const cache = new Map()
let newest = '' // time of the newest thing that the page was told of

/** knownUntil returns the server's time up to which the page knows what has happened. */
export const knownUntil = () => newest

function learn(time) {
  if (!newest || compareTimes(time, newest) > 0) newest = time
}

let heard = '' // the ID of the last event of the stream

subscribe((changes) => {
  for (const change of changes ?? []) {
    learn(seenUntil(change))
    heard = change.id
  }
})

let position = '' // in a cluster, that of the person's last change

/** changedAt notes the position in the response to a request that changed something. Later reads name it. */
export function changedAt(answer) { position = answer.headers.get('X-Position') ?? position }

/** seenUntil returns the time up to which a row or a change shows what happened to its session. */
export const seenUntil = (row) => (row.lost ? row.expires_at : row.last_updated)

const remembered = 50

// What a load returns if the response is older than what the page knows from the stream, and how long it then waits.
const late = 'late', lateMs = 300

// A hidden tab only has to keep its title up to date.
const hiddenMs = 1000

class APIError extends Error {
  constructor(status, message) {
    super(message)
    this.status = status
  }
}

/** get reads from the API. It throws an APIError with the server's message, or the error of fetch. */
export const get = async (path, signal) => (await read(path, signal)).data

/**
 * read is like get. It also returns, as after, the ID of the last event of the stream before the response and, as late,
 * whether the page had read a later event when it sent the request: in a cluster, the two may come from different servers.
 */
async function read(path, signal) {
  const known = heard
  const answer = await fetchAfter(path, signal)
  const date = Date.parse(answer.headers.get('Date')) // in whole seconds, rounded down
  if (answer.ok && date) learn(new Date(date).toISOString())
  const after = answer.headers.get('X-Event-Id') ?? ''
  if (answer.ok) return {data: await answer.json(), after, late: compareEvents(after, known) < 0}
  if (answer.status === 401) location.reload() // the sign-in has ended: the server shows the sign-in form
  const {message} = await answer.json().catch(() => ({}))
  throw new APIError(answer.status, message ?? answer.statusText)
}

/** fetchAfter reads a path. In a cluster, the response includes the person's last change, unless the server can't wait for it. */
export async function fetchAfter(path, signal) {
  const options = {signal, headers: {Accept: 'application/json'}}
  if (!position) return fetch(path, options)
  const answer = await fetch(`${path}${path.includes('?') ? '&' : '?'}after=${encodeURIComponent(position)}`, options)
  if (![400, 409, 503].includes(answer.status)) return answer
  position = '' // there is no cluster any more, or another stream, or the server is too far behind
  return fetch(path, options)
}

/**
 * prefetch reads paths into the cache, so that the first view is complete when it is shown. It returns the ID of the
 * event after which the stream must begin to miss no change: the earliest of all responses.
 */
export async function prefetch(paths) {
  const answers = await Promise.allSettled(paths.map(async (path) => {
    const answer = await fetch(path, {headers: {Accept: 'application/json'}})
    if (answer.ok) remember(path, await answer.json())
    return answer.headers.get('X-Event-Id')
  }))
  const ids = answers.map(({value}) => value).filter(Boolean)
  return ids.sort((a, b) => compareEvents(a, b) || 0)[0] ?? ''
}

/**
 * compareEvents orders IDs of events: a number after the run of a server or, in a cluster, two numbers after the stream. It
 * returns NaN for those of different runs or streams.
 */
export function compareEvents(a, b) {
  const [[, of, n, k = 0], [, other, m, l = 0]] = [a, b].map((id) => /^(.+?)-(\d+)(?:-(\d+))?$/.exec(id) ?? [])
  return of && of === other ? n - m || k - l : NaN
}

function remember(path, value) {
  cache.delete(path)
  cache.set(path, value)
  if (cache.size > remembered) cache.delete(cache.keys().next().value)
}

const refreshers = new Set()

/** readAgain reads everything again that the page shows, because the person has changed something that causes no event. */
export const readAgain = () => { for (const refresh of refreshers) refresh() }

/**
 * useRefresh calls load now, again after each change for which relevant returns true and, if every is set, every so many
 * milliseconds while the page is visible. load gets an AbortSignal. It returns whether it succeeded, or late.
 */
function useRefresh(load, relevant, key, every) {
  const latest = useRef()
  latest.current = {load, relevant}
  useEffect(() => {
    const control = new AbortController()
    let timer = 0, busy = false, again = false, next = 0
    const soon = (ms) => { timer ||= setTimeout(run, Math.max(ms, next - performance.now(), 0)) }
    async function run() {
      timer = 0
      if (busy) {
        again = true
        return
      }
      busy = true
      const started = performance.now()
      const ok = await latest.current.load(control.signal)
      if (control.signal.aborted) return
      const ended = performance.now()
      next = ended + Math.max(80, 3 * (ended - started)) // reads of a busy fleet take at most a quarter of the server's time
      busy = false
      if (ok === late) soon(lateMs)
      else if (!ok) soon(2000)
      else if (again) soon(0)
      again = false
    }
    const leave = subscribe((changes) => {
      if (!changes || changes.some((change) => latest.current.relevant(change))) soon(document.hidden ? hiddenMs : 0)
    })
    const refresh = () => soon(0)
    refreshers.add(refresh)
    const shown = () => {
      if (!timer || document.hidden) return
      clearTimeout(timer)
      timer = 0
      soon(0)
    }
    addEventListener('visibilitychange', shown)
    run()
    const beat = every && setInterval(() => { if (!document.hidden) soon(0) }, every)
    return () => {
      control.abort()
      clearTimeout(timer)
      clearInterval(beat)
      leave()
      refreshers.delete(refresh)
      removeEventListener('visibilitychange', shown)
    }
  }, [key])
}

/**
 * useQuery returns {data, error} for a path. data is the last response, undefined before the first one. It is read again
 * after relevant changes and, if every is set, every so many milliseconds.
 */
export function useQuery(path, relevant = () => true, every = 0) {
  const [state, set] = useState({})
  useRefresh(async (signal) => {
    try {
      const {data, late: older} = await read(path, signal)
      if (older && cache.has(path)) return late
      remember(path, data)
      set({path, data})
      return true
    } catch (error) {
      if (!signal.aborted) set((old) => ({path, data: old.path === path ? old.data : cache.get(path), error}))
      return error.status === 404 || error.status === 400
    }
  }, relevant, path, every)
  return state.path === path ? state : {path, data: cache.get(path)}
}

/** keyOf returns a key that identifies a session. */
export const keyOf = (row) => `${row.agent_id}\n${row.session_topic}`

/** changed returns the row of a session after a change, null if the session was removed. */
export function changed(row, change) {
  if (change.type === 'removed') return null
  return {
    ...row, title: change.title, current_status: change.status, current_message: change.message, status_since: change.status_since,
    last_updated: change.last_updated, expires_at: change.expires_at, expired: change.expired, lost: change.lost, ttl_minutes: change.ttl_minutes,
    idle: change.idle, question: change.question, open_question_count: change.open_question_count, acknowledged: change.acknowledged,
    agent_name: change.agent_name, agent_source: change.agent_source, agent_host: change.agent_host,
  }
}

/**
 * renamed returns the row of a session after a change of another session of the same agent, which may change the
 * agent's name and host.
 */
const renamed = (row, {agent_name, agent_host}) =>
  (row.agent_name === agent_name && row.agent_host === agent_host ? row : {...row, agent_name, agent_host})

/**
 * useList returns {rows, page, error, more, loading} for a list of the API. page is the first page. more reads the next
 * page, and is null if there is none. name is the name of the list in the response. selects reports whether a row still
 * belongs to the list after a change. If it can decide that for any session, place is where new sessions are added,
 * 'first' or 'last', before the next read.
 */
export function useList(path, name, {selects = () => true, relevant = () => true, key = keyOf, patch = changed, place} = {}) {
  const first = cache.get(path)
  const [state, set] = useState(() => initial(path, first, name))
  const [loading, setLoading] = useState(false)
  const [pages, setPages] = useState(0) // number of pages read: each makes a new function of more, even if it added no rows
  const current = state.path === path ? state : initial(path, first, name)

  const keep = useRef()
  keep.current = {selects, patch, key, place}
  const meanwhile = useRef() // changes during a read, which the response may not contain

  useRefresh(async (signal) => {
    const changes = meanwhile.current = []
    try {
      const {data: page, after, late: older} = await read(path, signal)
      if (older && cache.has(path)) return late
      remember(path, page)
      const missed = changes.filter((change) => compareEvents(change.id, after) > 0)
      set((old) => {
        const next = old.path === path ? joined(old, page, name, key) : initial(path, page, name)
        return missed.length ? {...next, rows: applied(next, missed, keep.current)} : next
      })
      return true
    } catch (error) {
      if (!signal.aborted) set((old) => ({...(old.path === path ? old : current), error}))
      return error.status === 404 || error.status === 400
    } finally {
      if (meanwhile.current === changes) meanwhile.current = null
    }
  }, relevant, path)

  useEffect(() => subscribe((changes) => {
    if (!changes) return
    meanwhile.current?.push(...changes)
    set((old) => (old.rows ? {...old, rows: applied(old, changes, keep.current)} : old))
  }), [])

  const more = useCallback(async () => {
    setLoading(true)
    try {
      const page = await get(`${path}${path.includes('?') ? '&' : '?'}cursor=${encodeURIComponent(current.cursor)}`)
      set((old) => {
        if (old.path !== path || old.cursor !== current.cursor) return old
        const known = new Set(old.rows.map(key))
        return {...old, rows: [...old.rows, ...page[name].filter((row) => !known.has(key(row)))], cursor: page.next_cursor}
      })
      setPages((n) => n + 1)
    } catch (error) {
      set((old) => ({...old, error}))
    }
    setLoading(false)
  }, [path, current.cursor, pages])

  return {rows: current.rows, page: current.page, error: current.error, more: current.cursor ? more : null, loading}
}

/** applied returns the rows of a list after changes. */
function applied({rows, cursor}, changes, {selects, patch, key, place}) {
  const byKey = new Map(changes.map((change) => [key(change), change]))
  const ofAgent = new Map(patch === changed ? changes.map((change) => [change.agent_id, change]) : [])
  const known = rows.filter((row) => byKey.has(key(row)))
  const next = (row) => {
    const own = byKey.get(key(row)), other = ofAgent.get(row.agent_id)
    const after = own ? patch(row, own) : row
    return after && other ? renamed(after, other) : after
  }
  const after = known.length || ofAgent.size ? rows.map(next).filter((row) => row && selects(row)) : rows
  if (!place || place === 'last' && cursor) return after
  for (const row of known) byKey.delete(key(row))
  const begun = [...byKey.values()].map((change) => patch({agent_id: change.agent_id, session_topic: change.session_topic, created: change.created}, change))
    .filter((row) => row && selects(row))
  if (!begun.length) return after
  return place === 'last' ? [...after, ...begun] : [...begun.reverse(), ...after]
}

/** initial returns the state of a list after its first page was read, or before, if page is undefined. */
const initial = (path, page, name) => ({path, page, rows: page?.[name], cursor: page?.next_cursor})

/** joined puts a new version of the first page before the rows of later pages. */
function joined(old, page, name, key) {
  const known = new Set(page[name].map(key))
  const rest = (old.rows ?? []).filter((row) => !known.has(key(row)))
  const overlaps = old.rows?.length > rest.length
  if (!page.next_cursor || !overlaps || old.rows.length <= page[name].length) return initial(old.path, page, name)
  return {path: old.path, page, rows: [...page[name], ...rest], cursor: old.cursor}
}
