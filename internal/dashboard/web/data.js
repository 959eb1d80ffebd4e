// What the API answers, kept up to date: read again when something that it shows has changed, but no faster than the
// server answers; rows on the screen follow at once.
import {useCallback, useEffect, useRef, useState} from './html.js'
import {subscribe} from './live.js'

const cache = new Map()
const remembered = 50

// A tab that nobody sees only has to keep its title right.
const hiddenMs = 1000

class Refused extends Error {
  constructor(status, message) {
    super(message)
    this.status = status
  }
}

/** get reads from the API. It throws a Refused with the server's own words, or what fetch throws. */
export const get = async (path, signal) => (await read(path, signal)).data

/** read is get, and says after which event of the stream the answer was made. */
async function read(path, signal) {
  const answer = await fetch(path, {signal, headers: {Accept: 'application/json'}})
  if (answer.ok) return {data: await answer.json(), after: numberOf(answer.headers.get('X-Event-Id') ?? '')}
  if (answer.status === 401) location.reload() // the sign-in has ended: the server shows its form
  const {message} = await answer.json().catch(() => ({}))
  throw new Refused(answer.status, message ?? answer.statusText)
}

/**
 * warm reads ahead, so that the first view is whole when it is shown. It returns the ID of the event from which on the stream
 * misses nothing of that: the one that came first.
 */
export async function warm(paths) {
  const answers = await Promise.allSettled(paths.map(async (path) => {
    const answer = await fetch(path, {headers: {Accept: 'application/json'}})
    if (answer.ok) remember(path, await answer.json())
    return answer.headers.get('X-Event-Id')
  }))
  const ids = answers.map(({value}) => value).filter(Boolean)
  return ids.sort((a, b) => numberOf(a) - numberOf(b))[0] ?? ''
}

/** numberOf returns the place of an event among all of them, by its ID. */
const numberOf = (id) => Number(id.split('-')[1])

function remember(path, value) {
  cache.delete(path)
  cache.set(path, value)
  if (cache.size > remembered) cache.delete(cache.keys().next().value)
}

/** useRefresh calls load now, and again when relevant says that one of the changes matters. load gets an AbortSignal. */
function useRefresh(load, relevant, key) {
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
      next = ended + Math.max(80, 3 * (ended - started)) // a busy fleet leaves the server three quarters of its time
      busy = false
      if (!ok) soon(2000)
      else if (again) soon(0)
      again = false
    }
    const leave = subscribe((changes) => {
      if (!changes || changes.some((change) => latest.current.relevant(change))) soon(document.hidden ? hiddenMs : 0)
    })
    const shown = () => {
      if (!timer || document.hidden) return
      clearTimeout(timer)
      timer = 0
      soon(0)
    }
    addEventListener('visibilitychange', shown)
    run()
    return () => {
      control.abort()
      clearTimeout(timer)
      leave()
      removeEventListener('visibilitychange', shown)
    }
  }, [key])
}

/** useQuery returns {data, error} of a path; data is what was read last, undefined before. */
export function useQuery(path, relevant = () => true) {
  const [state, set] = useState({})
  useRefresh(async (signal) => {
    try {
      const data = await get(path, signal)
      remember(path, data)
      set({path, data})
      return true
    } catch (error) {
      if (!signal.aborted) set((old) => ({path, data: old.path === path ? old.data : cache.get(path), error}))
      return error.status === 404 || error.status === 400
    }
  }, relevant, path)
  return state.path === path ? state : {path, data: cache.get(path)}
}

/** keyOf tells sessions apart. */
export const keyOf = (row) => `${row.agent_id}\n${row.session_topic}`

/** changed returns the row of a session as it is after a change of it. */
export function changed(row, change) {
  if (change.type === 'removed') return null
  return {
    ...row, title: change.title, current_status: change.status, current_message: change.message, status_since: change.status_since,
    last_updated: change.last_updated, expires_at: change.expires_at, expired: change.expired, lost: change.lost, ttl_minutes: change.ttl_minutes,
    idle: change.idle, question: change.question, open_question_count: change.open_question_count,
    agent_name: change.agent_name, agent_source: change.agent_source, agent_host: change.agent_host,
  }
}

/** renamed returns the row of a session after a change of another one of its agent: of that, name and host hold for all. */
const renamed = (row, {agent_name, agent_host}) =>
  (row.agent_name === agent_name && row.agent_host === agent_host ? row : {...row, agent_name, agent_host})

/**
 * useList returns {rows, page, error, more, loading} of a list of the API, page by page: page is the first one, and more, where there
 * is more, reads the next. name is that of the list in the answer. selects says whether a row still belongs to the list after a change. Where that can be said of any
 * session, place is where new ones come, 'first' or 'last', even before the server says so.
 */
export function useList(path, name, {selects = () => true, relevant = () => true, key = keyOf, patch = changed, place} = {}) {
  const first = cache.get(path)
  const [state, set] = useState(() => opened(path, first, name))
  const [loading, setLoading] = useState(false)
  const [pages, setPages] = useState(0) // read so far: with each, more is another one, even where it brought nothing new
  const current = state.path === path ? state : opened(path, first, name)

  const keep = useRef()
  keep.current = {selects, patch, key, place}
  const meanwhile = useRef() // changes during a read, which may not show them

  useRefresh(async (signal) => {
    const changes = meanwhile.current = []
    try {
      const {data: page, after} = await read(path, signal)
      remember(path, page)
      const missed = changes.filter((change) => numberOf(change.id) > after)
      set((old) => {
        const next = old.path === path ? joined(old, page, name, key) : opened(path, page, name)
        return missed.length ? {...next, rows: followed(next, missed, keep.current)} : next
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
    set((old) => (old.rows ? {...old, rows: followed(old, changes, keep.current)} : old))
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

/** followed returns the rows of a list after changes. */
function followed({rows, cursor}, changes, {selects, patch, key, place}) {
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

/** opened is the state of a list of which the first page has been read, or nothing yet. */
const opened = (path, page, name) => ({path, page, rows: page?.[name], cursor: page?.next_cursor})

/** joined puts a first page, read again, before the rows that were read after it. */
function joined(old, page, name, key) {
  const known = new Set(page[name].map(key))
  const rest = (old.rows ?? []).filter((row) => !known.has(key(row)))
  const overlaps = old.rows?.length > rest.length
  if (!page.next_cursor || !overlaps || old.rows.length <= page[name].length) return opened(old.path, page, name)
  return {path: old.path, page, rows: [...page[name], ...rest], cursor: old.cursor}
}
