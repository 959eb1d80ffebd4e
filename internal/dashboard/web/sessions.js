// The sessions of all agents, as a list and as a board by status.
import {html, useEffect, useRef, useState} from './html.js'
import {get, useList} from './data.js'
import {go, href} from './route.js'
import {Empty, Heading, Icon, Loading, More, Rows, Status, Trouble, statusOf, statuses} from './parts.js'

const states = ['active', 'expired', 'lost']
const words = [...statuses, 'idle'] // the statuses as the page shows them

/** queryOf returns the API's path and query for the parameters of the page. */
function queryOf({status, state, source, agent_id, search, sort}, limit = 50) {
  const query = new URLSearchParams()
  const add = (name, value) => { if (value) query.set(name, value) }
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
const selecting = ({status, state, source}) => (row) =>
  (!status || statusOf(row) === status) && (!source || row.agent_source === source) &&
  (!state || (state === 'active' ? !row.expired : state === 'expired' ? row.expired : row.lost))

/**
 * placing returns where new sessions are added to the list, undefined if only the server can decide which sessions
 * match.
 */
const placing = ({agent_id, search, sort}) => (agent_id || search ? undefined : sort ? 'last' : 'first')

export function Sessions({params}) {
  const list = useList(queryOf(params), 'sessions', {selects: selecting(params), place: placing(params)})
  return html`
    <${Head} params=${params} view="sessions" />
    <${Filters} params=${params} view="sessions" />
    <${Trouble} error=${list.error} />
    ${list.rows ? (list.rows.length ? html`<${Rows} rows=${list.rows} label="Sessions" />` : html`<${Empty} icon="search">No sessions match these filters.<//>`) : !list.error && html`<${Loading} />`}
    <${More} ...${list} />
  `
}

export function Board({params, counts}) {
  const filtered = params.source || params.agent_id || params.search
  return html`
    <${Head} params=${params} view="board" />
    <${Filters} params=${params} view="board" />
    <div class="board">
      ${words.map((status) => html`<${Column} key=${status} status=${status} params=${params} count=${filtered || !counts.summary ? undefined : {idle: counts.summary.sessions.idle, ...counts.summary.sessions.by_status}[status]} />`)}
    </div>
  `
}

function Column({status, params, count}) {
  const of = {...params, status, state: 'active'}
  const reported = status === 'idle' ? 'success' : status
  const list = useList(queryOf(of, 30), 'sessions', {
    selects: selecting(of), place: placing(of), relevant: (change) => change.status === reported || change.previous_status === reported,
  })
  return html`<section class="column" aria-labelledby=${`column-${status}`}>
    <h2 id=${`column-${status}`}><${Status} state=${status} /> ${count !== undefined && html`<span class="count">${count.toLocaleString()}</span>`}</h2>
    <${Trouble} error=${list.error} />
    ${list.rows ? (list.rows.length ? html`<${Rows} rows=${list.rows} label=${status} />` : html`<p class="nothing">None.</p>`) : !list.error && html`<${Loading} />`}
    <${More} ...${list} />
  </section>`
}

function Head({params, view}) {
  const {status, state, sort, ...shared} = params
  const tab = (to, icon, label) => html`<a href=${href({...(to === 'board' ? shared : params), view: to})} aria-current=${view === to ? 'page' : undefined}><${Icon} name=${icon} />${label}</a>`
  return html`<div class="head"><${Heading}>Sessions<//><nav class="switch" aria-label="View as">${tab('sessions', 'list', 'List')}${tab('board', 'columns-3', 'Board')}</nav></div>`
}

const filters = {
  sessions: ['search', 'status', 'state', 'source', 'agent_id', 'sort'],
  board: ['search', 'source', 'agent_id'],
  agents: ['search', 'status', 'waiting', 'source'],
}

/** Filters changes the URL, which determines everything else. */
export function Filters({params, view}) {
  const set = (change) => go(href({...params, view, ...change}), {replace: 'search' in change || 'source' in change || 'agent_id' in change})
  return html`<form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
    <${Search} value=${params.search} onChange=${(search) => set({search})} />
    ${view === 'sessions' && html`
      <${Choice} label="Status" value=${params.status} of=${words} onChange=${(status) => set({status})} />
      <${Choice} label="State" value=${params.state} of=${states} onChange=${(state) => set({state})} />`}
    ${view === 'agents' && html`<${Choice} label="Latest status" value=${params.status} of=${statuses} onChange=${(status) => set({status})} />
      <label class="choice check"><input type="checkbox" checked=${params.waiting === 'true'} onChange=${(event) => set({waiting: event.target.checked && 'true'})} />Waiting</label>`}
    <${Suggested} label="Source" name="source" value=${params.source} onChange=${(source) => set({source})} />
    ${view !== 'agents' && html`<${Suggested} label="Agent" name="agent_id" value=${params.agent_id} onChange=${(agent_id) => set({agent_id})} />`}
    ${view === 'sessions' && html`<label class="choice">Order <select value=${params.sort ?? ''} onChange=${(event) => set({sort: event.target.value})}>
      <option value="">newest first</option><option value="last_updated">oldest first</option></select></label>`}
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

/** Suggested is a text field that suggests the values of existing agents. */
function Suggested({label, name, value, onChange}) {
  const [text, write] = useDebounced(value, onChange)
  const [offered, offer] = useState()
  const load = async () => {
    if (offered) return
    const page = await get('api/agents?sort=-last_seen&limit=1000').catch(() => ({agents: []}))
    offer([...new Set(page.agents.map((agent) => agent[name]).filter(Boolean))].sort())
  }
  return html`<label class="choice">${label} <input type="text" list=${`known-${name}`} placeholder="any" dir="auto" maxlength="200" autocomplete="off" spellcheck=${false} value=${text}
      onFocus=${load} onInput=${(event) => write(event.target.value, 250)} />
    <datalist id=${`known-${name}`}>${offered?.map((known) => html`<option value=${known} />`)}</datalist></label>`
}
