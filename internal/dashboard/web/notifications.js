// The page "Notifications": what the server notifies people of, and what became of it.
import {html, useRef, useState} from './html.js'
import {allowed, send} from './acknowledge.js'
import {readAgain, useQuery} from './data.js'
import {Devices, useDevices} from './devices.js'
import {agentHref, sessionHref} from './route.js'
import {Ago, brief, exact, useNow} from './time.js'
import {AgentName, Empty, Heading, Icon, Loading, Trouble} from './parts.js'
import {Left, MuteMenu, Unmute, mute, spans} from './mute.js'

const manual = 'https://github.com/kubeagents/kubeagents/blob/main/docs/notifications.md'

// The parts of the page, in their order. Each gets the response of the API as data.
const sections = [Mutes, Devices, Destinations, Rules, Pending, Recent]

export function Notifications() {
  const {data, error} = useQuery('api/notifications', () => false, 3000)
  return html`
    <div class="head"><${Heading}>Notifications<//>${data?.rules_file && html`<a class="add" href=${manual}>How it works</a>`}</div>
    <${Trouble} error=${error} />
    ${data ? html`<${Verdict} data=${data} />${sections.map((Section) => html`<${Section} key=${Section.name} data=${data} />`)}` : !error && html`<${Loading} />`}
  `
}

const messages = (n) => `${n.toLocaleString()} ${n === 1 ? 'message' : 'messages'}`

/**
 * verdictOf returns in one line whether people are notified: {state, icon, text}, with the error of the only destination
 * that fails, the mute of everything, or setUp if there is nothing that could notify. devices is how many devices the
 * person has.
 */
export function verdictOf({rules_file, manages, destinations = [], pending, to_send, recent, mutes}, devices = 0) {
  const failing = destinations.filter((one) => one.failing)
  const waiting = failing.filter((one) => one.to_send > 0)
  const names = (of) => of.map(({name}) => name).join(', ')
  if (waiting.length) {
    const count = waiting.reduce((sum, one) => sum + one.to_send, 0)
    return {state: 'failed', icon: 'circle-alert', text: `${messages(count)} can't be delivered to ${names(waiting)}`, error: waiting.length === 1 && waiting[0].last_error}
  }
  if (failing.length) return {state: 'failed', icon: 'circle-alert', text: `The last message to ${names(failing)} failed`, error: failing.length === 1 && failing[0].last_error}
  const tried = pending.filter((one) => one.attempts > 0).length
  if (tried && !manages) return {state: 'failed', icon: 'circle-alert', text: `${messages(tried)} about your agents could not be delivered yet`}
  const muted = mutes.findLast(({agent_id, rule}) => !agent_id && !rule)
  if (muted) return {state: 'pending', icon: 'bell-off', text: 'Everything is muted', muted}
  if (!rules_file && !recent.length && !pending.length && !devices) return {state: 'idle', icon: 'bell-off', text: 'No rules and no devices: nobody is notified.', setUp: true}
  if (to_send) return {state: 'pending', icon: 'hourglass', text: `${messages(to_send)} ${to_send === 1 ? 'waits' : 'wait'} to be sent`}
  return {state: 'success', icon: 'circle-check', text: recent.length ? 'All delivered' : 'Nothing to deliver yet'}
}

function Verdict({data}) {
  const {list} = useDevices()
  const {state, icon, text, error, muted, setUp} = verdictOf(data, list?.devices.length)
  return html`<p class=${`verdict ${state}`} role="status"><${Icon} name=${icon} /><span><strong>${text}</strong>${muted && html` <${Left} until=${muted.until} />`}${error && html`: <bdi>${error}</bdi>`}${setUp && html` <a href=${manual}>How to set up</a>`}</span></p>`
}

function Mutes({data: {mutes, manages}}) {
  const [{busy, fault}, set] = useState({})
  const act = async (span) => {
    if (busy) return
    set({busy: true})
    set({fault: await mute({}, span)})
  }
  if (!manages && !mutes.length && !allowed) return null
  return html`<section aria-labelledby="mutes"><h2 id="mutes">Mute</h2>
    ${mutes.length > 0 && html`<ul class="rows plainly">${mutes.map((one) => html`<${Muted} key=${one.id} of=${one} />`)}</ul>`}
    ${manages ? html`<p class="mute-all"><span>Mute everything:</span> ${spans().map(([span, text]) => html`<button type="button" aria-label=${`Mute everything: ${text}`} aria-disabled=${busy} onClick=${() => act(span)}>${text}</button>`)}</p>`
      : allowed && html`<p class="quiet">To mute an agent, open its page. Muting everything needs a token with the scope “admin” for all agents.</p>`}
    ${fault && html`<p class="fault" role="alert">${fault}</p>`}
  </section>`
}

function Muted({of}) {
  const name = of.agent_id ?? (of.rule ? `the rule ${of.rule}` : 'everything')
  return html`<li><p class="muted"><${Icon} name="bell-off" />
    <span>${of.agent_id ? html`<a href=${agentHref(of.agent_id)}><bdi>${of.agent_id}</bdi></a> is muted ` : of.rule ? html`The rule <bdi>${of.rule}</bdi> is muted ` : html`<strong>Everything is muted</strong> `}
      <${Left} until=${of.until} />${of.by && html` by <bdi>${of.by}</bdi>`}</span>
    <${Unmute} of=${of} name=${name} /></p></li>`
}

function Destinations({data: {destinations}}) {
  if (!destinations?.length) return null
  return html`<section aria-labelledby="destinations"><h2 id="destinations">Destinations</h2>
    <ul class="rows plainly">${destinations.map((one) => html`<${Destination} key=${one.name} of=${one} />`)}</ul></section>`
}

const states = {failing: ['failed', 'circle-x', 'fails'], paused: ['pending', 'hourglass', 'paused'], works: ['success', 'circle-check', 'works'], unused: ['idle', 'clock', 'not used yet']}

function stateOf({failing, paused_until, last_delivered}, now) {
  if (failing) return 'failing'
  if (paused_until && Date.parse(paused_until) > now) return 'paused'
  return last_delivered ? 'works' : 'unused'
}

function Destination({of}) {
  const now = useNow()
  const [outcome, set] = useState({})
  const [state, icon, text] = states[stateOf(of, now)]
  const test = async () => {
    if (outcome.busy) return
    set({busy: true})
    const {fault} = await send('api/notifications/test', {destination: of.name})
    set(fault ? {fault} : {delivered: true})
    readAgain()
  }
  const limit = of.at_most && `at most ${of.at_most.messages} per ${brief(of.at_most.per_seconds * 1000)}`
  return html`<li class="destination">
    <div class="line-of"><span class="name"><bdi>${of.name}</bdi></span><span class="source">${of.kind}</span><span class=${`status ${state}`}><${Icon} name=${icon} />${text}</span>
      <button type="button" aria-disabled=${outcome.busy} aria-label=${`Send a test to ${of.name}`} onClick=${test}><${Icon} name="send" /><span>Send a test</span></button></div>
    <p class="details">${[
      of.last_delivered ? html`last delivery <${Ago} time=${of.last_delivered} after=" ago" />` : 'no delivery since the server started',
      of.to_send > 0 && `${messages(of.to_send)} to send`,
      of.paused_until && Date.parse(of.paused_until) > now && html`paused <${Left} until=${of.paused_until} />`,
      limit || 'no limit'].filter(Boolean).map((part) => html`<span>${part}</span>`)}</p>
    ${of.last_error && html`<p class=${of.failing ? 'fault' : 'quiet'}><bdi>${of.last_error}</bdi> <${Ago} time=${of.last_failed} after=" ago" /></p>`}
    <p class="outcome" role="status">${outcome.busy ? 'Sending a test…' : outcome.delivered ? html`<span class="fine"><${Icon} name="check" />The test was delivered</span>` : outcome.fault && html`<span class="fault">The test failed: <bdi>${outcome.fault}</bdi></span>`}</p>
  </li>`
}

function Rules({data: {rules}}) {
  if (!rules?.length) return null
  return html`<section aria-labelledby="rules"><h2 id="rules">Rules</h2>
    <ul class="rows plainly">${rules.map((one) => html`<${Rule} key=${one.name} of=${one} />`)}</ul></section>`
}

const Rule = ({of: {name, description, muted_until}}) => html`<li class="rule">
  <div class="line-of"><span class="name"><bdi>${name}</bdi></span>${muted_until && html`<span class="muted"><${Icon} name="bell-off" /><span>muted <${Left} until=${muted_until} /></span></span>`}
    <${MuteMenu} label="Mute" name=${`Mute the rule ${name}`} of=${{rule: name}} /></div>
  <ul class="facts-of">${description.map((line) => html`<li><bdi>${line[0].toUpperCase() + line.slice(1)}</bdi></li>`)}</ul>
</li>`

const held = {
  quiet: 'held during quiet hours', limit: 'held because of the limit of the destination', muted: 'muted', keyboard: 'held while its owner looks at the dashboard',
}

function Pending({data: {pending, planned, to_send}}) {
  const more = planned + to_send - pending.length
  return html`<section aria-labelledby="pending"><h2 id="pending">Waiting to be sent ${pending.length > 0 && html`<span class="count">${(planned + to_send).toLocaleString()}</span>`}</h2>
    ${pending.length ? html`<ul class="rows">${pending.map((one) => html`<${Row} key=${JSON.stringify([one.agent_id, one.session_topic, one.change, one.destination ?? one.kind, one.rule, one.withdrawal])} of=${one} when=${html`<${Due} time=${one.due} />`}
      details=${[one.withdrawal && 'to be withdrawn', held[one.held], one.attempts > 0 && `${one.attempts} ${one.attempts === 1 ? 'attempt' : 'attempts'}`]} />`)}</ul>`
      : html`<${Empty} icon="check">Nothing waits to be sent.<//>`}
    ${pending.length > 0 && more > 0 && html`<p class="quiet more-of">${more.toLocaleString()} more later</p>`}
  </section>`
}

/** Due shows when something is due. */
function Due({time}) {
  const now = useNow()
  const left = Date.parse(time) - now
  return html`<time class="when" datetime=${time} title=${`due ${exact(time)}`}>${left > 0 ? `in ${brief(left + 999)}` : 'now'}</time>`
}

const few = 20

function Recent({data: {recent}}) {
  const [all, setAll] = useState(false)
  const list = useRef()
  const showAll = () => {
    setAll(true)
    setTimeout(() => list.current?.children[few]?.querySelector('a')?.focus(), 0)
  }
  const rows = all ? recent : recent.slice(0, few)
  return html`<section aria-labelledby="recent"><h2 id="recent">Sent lately</h2>
    ${rows.length ? html`<ul class="rows" ref=${list}>${rows.map((one) => html`<${Row} key=${`${one.id}${one.result}`} of=${one} when=${html`<${Ago} time=${one.at} after=" ago" />`}
      details=${[one.result === 'withdrawn' && 'taken back', one.result === 'failed' && 'given up', one.error]} fault=${one.result === 'failed'} />`)}</ul>`
      : html`<${Empty}>Nothing has been sent since the server started.<//>`}
    ${rows.length < recent.length && html`<p class="more"><button type="button" onClick=${showAll}>Show all ${recent.length}</button></p>`}
  </section>`
}

const changes = {waits: ['pending', 'hourglass'], lost: ['lost', 'ghost'], failed: ['failed', 'circle-x'], finished: ['success', 'circle-check'], answered: ['idle', 'check']}

/** Row is a notification: its change, its session, where it goes, and when. */
function Row({of, when, details, fault}) {
  const [state, icon] = changes[of.change] ?? ['idle', 'list']
  const counts = of.summary && Object.entries(of.summary).map(([change, n]) => `${n.toLocaleString()} ${change}`).join(', ')
  const where = of.destination ?? of.kind
  const content = html`
    <span class=${`status ${state}`}><${Icon} name=${icon} />${of.change ?? 'summary'}</span>
    <span class="what"><span class="name" dir="auto">${of.agent_id ? of.title || of.session_topic : counts ? `Summary: ${counts}` : 'A summary of several sessions'}</span>
      <span class="message">${where && html`to <bdi>${where}</bdi>`}${of.rule && html` by rule <bdi>${of.rule}</bdi>`}${details.filter(Boolean).map((text, i) => html`${(i > 0 || where) && ', '}<bdi class=${fault ? 'fault' : ''}>${text}</bdi>`)}</span></span>
    <span class="who">${of.agent_id && html`<${AgentName} name=${of.agent_name || of.agent_id} host=${of.agent_host} />`}</span>
    ${when}`
  return html`<li>${of.agent_id ? html`<a class="row" href=${sessionHref(of.agent_id, of.session_topic)}>${content}</a>` : html`<div class="row">${content}</div>`}</li>`
}
