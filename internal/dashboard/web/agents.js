// The list of agents, and the page of one agent.
import {html, useEffect} from './html.js'
import {useList, useQuery} from './data.js'
import {NotifyOfAgent} from './devices.js'
import {MuteAgent} from './mute.js'
import {agentHref, href} from './route.js'
import {Ago} from './time.js'
import {Filters, None} from './sessions.js'
import {AgentName, Fact, Heading, Icon, Loading, Missing, More, Rows, Status, Trouble, nameAtHost, statuses} from './parts.js'

const keyOfAgent = (row) => row.agent_id

/**
 * patched applies a change to the row of its agent. The rest, such as the number of sessions, follows with the next
 * read.
 */
const patched = (row, change) => (change.agent_removed ? null : {
  ...row, name: change.agent_name, host: change.agent_host,
  ...(change.type === 'status' && {latest_status: change.status, latest_idle: change.idle, latest_message: change.message, last_seen: change.last_updated}),
})

export function Agents({params}) {
  const query = new URLSearchParams({sort: '-last_seen', limit: 50})
  for (const name of ['search', 'source']) if (params[name]) query.set(name, params[name])
  if (statuses.includes(params.status)) query.set('status', params.status)
  if (params.waiting === 'true') query.set('waiting', 'true')
  const list = useList(`api/agents?${query}`, 'agents', {key: keyOfAgent, patch: patched, selects: (row) => !params.status || row.latest_status === params.status})
  return html`
    <div class="head"><${Heading}>Agents<//><a class="add" href="connect">Connect a tool</a></div>
    <${Filters} params=${params} view="agents" />
    <${Trouble} error=${list.error} />
    ${list.rows ? (list.rows.length ? html`<${Rows} rows=${list.rows} row=${AgentRow} by=${keyOfAgent} label="Agents" />` : html`<${None} params=${params} view="agents" what="agents" />`) : !list.error && html`<${Loading} />`}
    <${More} ...${list} />
  `
}

function AgentRow({row, gone, alike}) {
  return html`<li class=${gone ? 'gone' : ''}>
    <a class="row agent" href=${agentHref(row.agent_id)}>
      <${Status} state=${row.latest_idle ? 'idle' : row.latest_status} />
      <span class="what">
        <span class="name"><${AgentName} name=${row.name || row.agent_id} host=${row.host} id=${alike && row.agent_id} /></span>
        <span class="message" dir="auto">${row.latest_message ?? ''}</span>
      </span>
      <span class="who">${row.source && html`<span class="source" dir="auto">${row.source}</span>`} <span class="number">${row.active_session_count} of ${row.session_count} active</span>
        <${Badges} agent=${row} /></span>
      <${Ago} time=${row.last_seen} label="last seen" after=" ago" />
    </a>
  </li>`
}

/** Badges show how many of an agent's sessions are waiting, and how many are lost. */
const Badges = ({agent: {waiting_session_count: waiting, lost_session_count: lost}}) => html`
  ${waiting > 0 && html`<span class="badge pending">${waiting.toLocaleString()} waiting</span>`}
  ${lost > 0 && html`<span class="badge lost">${lost.toLocaleString()} lost</span>`}`

export function Agent({params, onName}) {
  const id = params.agent
  const path = `api/agents/${encodeURIComponent(id)}`
  const {data: agent, error} = useQuery(path, (change) => change.agent_id === id)
  const list = useList(`api/sessions?agent_id=${encodeURIComponent(id)}&limit=50`, 'sessions', {relevant: (change) => change.agent_id === id})
  const missing = error?.status === 404
  const name = agent?.name || id
  const shown = nameAtHost(name, agent?.host)
  useEffect(() => onName(shown), [shown])
  return html`
    <p class="back"><a href=${href({view: 'agents'})}><${Icon} name="arrow-left" />Agents</a></p>
    <${Heading}>${missing ? 'Agent not found' : html`<${AgentName} name=${name} host=${agent?.host} />`}<//>
    ${missing ? html`<p class="sought"><bdi>${id}</bdi></p><${Missing} what="agent">${[
      html`<a href=${href({view: 'agents', search: id})}>Search the agents for this name</a>`, html`<a href=${href({view: 'agents'})}>All agents</a>`, html`<a href="connect">Connect an agent</a>`]}<//>`
      : html`<${Trouble} error=${error ?? list.error} />`}
    ${agent && !missing && html`
      <dl class="facts">
        <div><dt>Latest status</dt><dd><${Status} state=${agent.latest_idle ? 'idle' : agent.latest_status} /></dd></div>
        <${Fact} name="ID" text=${agent.agent_id} />
        <${Fact} name="Host" text=${agent.host} />
        <${Fact} name="Source" text=${agent.source} />
        <div class="long"><dt>Sessions</dt><dd class="counts">${agent.active_session_count} active of ${agent.session_count} <${Badges} agent=${agent} /></dd></div>
        <div><dt>Registered</dt><dd><${Ago} time=${agent.registered} after=" ago" /></dd></div>
        <div><dt>Last seen</dt><dd><${Ago} time=${agent.last_seen} after=" ago" /></dd></div>
      </dl>
      ${agent.latest_message && html`<p class="current-message" dir="auto">${agent.latest_message}</p>`}
      <div class="own-notices"><${NotifyOfAgent} agent=${id} /><${MuteAgent} agent=${id} /></div>
      <h2>Sessions</h2>`}
    ${!missing && (list.rows ? html`<${Rows} rows=${list.rows} label="Sessions" />` : !list.error && html`<${Loading} />`)}
    ${!missing && html`<${More} ...${list} />`}
  `
}
