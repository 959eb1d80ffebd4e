// The sessions of all agents, as a list and as a board by status.
import {html, useEffect, useRef, useState} from './html.js'
import {get, useList} from './data.js'
import {go, href} from './route.js'
import {Chosen, FailedRow, LostRow, PendingRow, useChoice} from './choice.js'
import {Filtered, FirstReport, Heading, Icon, Loading, More, Rows, SessionRow, Status, Trouble, nameAtHost, needing, statusOf, statuses} from './parts.js'

const words = [...statuses, 'idle'] // the statuses as the page shows them

// What the filter for the status offers: parameters of the page by name. A session that expired while it was running or
// pending is lost. What needs attention is sorted by since when it does.
const offers = {
  'needs you: waiting': {needs: 'waiting'}, 'needs you: lost': {needs: 'lost'}, 'needs you: failed': {needs: 'failed'},
  running: {status: 'running', state: 'active'}, pending: {status: 'pending', state: 'active'}, success: {status: 'success'}, failed: {status: 'failed'},
  idle: {status: 'idle'}, lost: {state: 'lost'}, active: {state: 'active'}, expired: {state: 'expired'},
}

/** offerOf returns the name of the offer that matches the parameters of the page best. */
const offerOf = ({status, state, needs}) =>
  Object.keys(offers).find((name) => offers[name].status === status && offers[name].state === state && offers[name].needs === needs) ?? (words.includes(status) ? status : '')

const none = []

// The rows of a list of sessions that need attention, by the reason.
const rowsOf = {waiting: PendingRow, lost: LostRow, failed: FailedRow}

/** queryOf returns the API's path and query for the parameters of the page. */
function queryOf({status, state, source, agent_id, search, sort, needs}, limit = 50) {
  const query = new URLSearchParams()
  const add = (name, value) => { if (value) query.set(name, value) }
  if (needs in needing) {
    query.set('needs', needs)
    add('source', source)
    add('search', search)
    query.set('limit', limit)
    return `api/sessions?${query}`
  }
  if (status === 'idle') query.set('idle', 'true')
  add('status', statuses.includes(status) && status)
  if (status === 'success') query.set('idle', 'false')
  if (state === 'active') add('expired', 'false')
  if (state === 'expired') add('expired', 'true')
  if (state === 'lost') add('lost', 'true')
  add('source', source)
  add('agent_id', agent_id)
  add('search', search)
  add('sort', sort === 'last_updated' && sort)
  query.set('limit', limit)
  return `api/sessions?${query}`
}

/**
 * selecting returns a function that reports whether a listed row still matches after a change. It assumes that it still
 * matches the search.
 */
const selecting = ({status, state, source, needs}) => (row) =>
  (needs in needing ? needing[needs](row) : true) && (!status || statusOf(row) === status) && (!source || row.agent_source === source) &&
  (!state || (state === 'active' ? !row.expired : state === 'expired' ? row.expired : row.lost))

/**
 * placing returns where new sessions are added to the list, undefined if only the server can decide which sessions
 * match.
 */
const placing = ({agent_id, search, sort, needs}) => (agent_id || search || needs ? undefined : sort ? 'last' : 'first')

export function Sessions({params}) {
  const list = useList(queryOf(params), 'sessions', {selects: selecting(params), place: placing(params)})
  const choice = useChoice(params.needs in needing ? list.rows ?? none : none)
  return html`
    <${Head} params=${params} view="sessions" />
    <${Filters} params=${params} view="sessions" />
    <${Trouble} error=${list.error} />
    ${list.rows ? (list.rows.length ? html`<${Rows} rows=${list.rows} row=${rowsOf[params.needs] ?? SessionRow} label="Sessions" choice=${choice} />` : html`<${None} params=${params} view="sessions" what="sessions" />`) : !list.error && html`<${Loading} />`}
    <${More} ...${list} />
    <${Chosen} choice=${choice} />
  `
}

/** None says why a list is empty: because of the filters, or because no agent has reported yet. */
export const None = ({params, view, what}) => (isFiltered(params, view) ? html`<${Filtered} what=${what} all=${href({view})} />` : html`<${FirstReport} />`)

/** Board shows active sessions in a column for each status, and lost ones in a column of their own. */
export function Board({params, counts: {summary}}) {
  const counts = !isFiltered(params, 'board') && summary && {...summary.sessions.by_status, idle: summary.sessions.idle, lost: summary.sessions.lost}
  return html`
    <${Head} params=${params} view="board" />
    <${Filters} params=${params} view="board" />
    ${counts && !summary.sessions.total ? html`<${FirstReport} />` : html`<div class="board">
      ${[...words, 'lost'].map((status) => html`<${Column} key=${status} status=${status} params=${params} count=${counts ? counts[status] : undefined} />`)}
    </div>`}
  `
}

function Column({status, params, count}) {
  const of = {...params, ...(status === 'lost' ? {status: '', state: 'lost'} : {status, state: 'active'})}
  const reported = status === 'idle' ? 'success' : status
  const list = useList(queryOf(of, 30), 'sessions', {
    selects: selecting(of), place: placing(of),
    relevant: (change) => (status === 'lost' ? change.lost || change.revived || change.type !== 'status' : change.status === reported || change.previous_status === reported),
  })
  return html`<section class="column" aria-labelledby=${`column-${status}`}>
    <h2 id=${`column-${status}`}><${Status} state=${status} /> ${count !== undefined && html`<span class="count">${count.toLocaleString()}</span>`}</h2>
    <${Trouble} error=${list.error} />
    ${list.rows ? (list.rows.length ? html`<${Rows} rows=${list.rows} label=${status} />` : html`<p class="nothing">None.</p>`) : !list.error && html`<${Loading} />`}
    <${More} ...${list} />
  </section>`
}

function Head({params, view}) {
  const {status, state, needs, sort, ...shared} = params
  const tab = (to, icon, label) => html`<a href=${href({...(to === 'board' ? shared : params), view: to})} aria-current=${view === to ? 'page' : undefined}><${Icon} name=${icon} />${label}</a>`
  return html`<div class="head"><${Heading}>Sessions<//><nav class="switch" aria-label="View as">${tab('sessions', 'list', 'List')}${tab('board', 'columns-3', 'Board')}</nav></div>`
}

const filters = {
  sessions: ['search', 'status', 'state', 'needs', 'source', 'agent_id', 'sort'],
  board: ['search', 'source', 'agent_id'],
  agents: ['search', 'status', 'waiting', 'source'],
}

const isFiltered = (params, view) => filters[view].some((name) => name !== 'sort' && params[name])

/** Filters changes the URL, which determines everything else. */
export function Filters({params, view}) {
  const set = (change) => go(href({...params, view, ...change}), {replace: 'search' in change || 'source' in change || 'agent_id' in change})
  return html`<form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
    <${Search} value=${params.search} onChange=${(search) => set({search})} />
    ${view === 'sessions' && html`
      <${Choice} label="Status" value=${offerOf(params)} of=${Object.keys(offers)} onChange=${(name) => set({status: '', state: '', needs: '', ...offers[name]})} />`}
    ${view === 'agents' && html`<${Choice} label="Status" value=${params.status} of=${statuses} onChange=${(status) => set({status})} />
      <label class="choice check"><input type="checkbox" checked=${params.waiting === 'true'} onChange=${(event) => set({waiting: event.target.checked && 'true'})} />Waiting for you</label>`}
    <${Suggested} label="Source" name="source" value=${params.source} onChange=${(source) => set({source})} />
    ${view !== 'agents' && !params.needs && html`<${Suggested} label="Agent" name="agent_id" value=${params.agent_id} onChange=${(agent_id) => set({agent_id})} />`}
    ${view === 'sessions' && !params.needs && html`<label class="choice">Order <select value=${params.sort ?? ''} onChange=${(event) => set({sort: event.target.value})}>
      <option value="">latest report first</option><option value="last_updated">oldest report first</option></select></label>`}
    ${filters[view].some((name) => params[name]) && html`<a class="clear" href=${href({view})}><${Icon} name="x" />Clear</a>`}
  </form>`
}

/** useDebounced calls onChange when the user stops typing. It returns the current text and a function that sets it. */
function useDebounced(value = '', onChange) {
  const [text, setText] = useState(value)
  const timer = useRef(0)
  const latest = useRef()
  latest.current = onChange
  useEffect(() => {
    if (!timer.current) setText(value)
  }, [value])
  useEffect(() => () => clearTimeout(timer.current), [])
  const write = (next, ms) => {
    setText(next)
    clearTimeout(timer.current)
    timer.current = setTimeout(() => {
      timer.current = 0
      latest.current(next)
    }, ms)
  }
  return [text, write]
}

function Search({value, onChange}) {
  const [text, write] = useDebounced(value, onChange)
  return html`<label class="search"><${Icon} name="search" /><span class="unseen">Search</span>
    <input type="search" id="search" placeholder="Search" dir="auto" maxlength="500" autocomplete="off" spellcheck=${false} value=${text} onInput=${(event) => write(event.target.value, 150)} />
    <kbd aria-hidden="true">/</kbd></label>`
}

function Choice({label, value = '', of, onChange}) {
  return html`<label class="choice">${label} <select value=${value} onChange=${(event) => onChange(event.target.value)}>
    <option value="">any</option>${of.map((option) => html`<option value=${option}>${option}</option>`)}</select></label>`
}

const suggestions = {
  source: () => ({path: 'api/agents?sort=-last_seen&limit=1000', of: ({source}) => source && {value: source}}),
  agent_id: (text) => ({
    path: `api/agents?${new URLSearchParams({search: text, sort: '-last_seen', limit: 50})}`,
    of: ({agent_id, name, host}) => ({value: agent_id, label: name && nameAtHost(name, host)}),
  }),
}

/**
 * useSuggestions returns the values of existing agents that match the last text, and a function that takes another text.
 */
function useSuggestions(name) {
  const [offered, offer] = useState([])
  const asked = useRef()
  const timer = useRef(0)
  useEffect(() => () => clearTimeout(timer.current), [])
  const suggest = (text) => {
    const {path, of} = suggestions[name](text)
    if (asked.current === path) return
    asked.current = path
    clearTimeout(timer.current)
    timer.current = setTimeout(async () => {
      const page = await get(path).catch(() => ({agents: []}))
      if (asked.current !== path) return
      const byValue = new Map(page.agents.map(of).filter(Boolean).map((one) => [one.value, one]))
      offer([...byValue.values()].sort((a, b) => (a.value < b.value ? -1 : 1)))
    }, 150)
  }
  return [offered, suggest]
}

/**
 * Suggested is a text field that suggests the values of existing agents as the user types. The filter applies to a
 * complete value: one that is suggested, or whatever the user confirms with Enter or leaves in the field.
 */
function Suggested({label, name, value = '', onChange}) {
  const [text, setText] = useState(value)
  const [offered, suggest] = useSuggestions(name)
  useEffect(() => setText(value), [value])
  const type = ({target: {value: next}}) => {
    setText(next)
    suggest(next)
    if (!next || offered.some((one) => one.value === next)) onChange(next)
  }
  return html`<label class="choice">${label} <input type="text" list=${`known-${name}`} placeholder="any" dir="auto" maxlength="200" autocomplete="off" spellcheck=${false} value=${text}
      onFocus=${() => suggest(text)} onInput=${type} onChange=${(event) => onChange(event.target.value)} />
    <datalist id=${`known-${name}`}>${offered.map(({value: known, label: also}) => html`<option value=${known} label=${also} />`)}</datalist></label>`
}
