// Notifying this device, and the person's other ones, by Web Push, even if no page is open.
import {html, useEffect, useState} from './html.js'
import {changedAt, fetchAfter} from './data.js'
import {agentHref} from './route.js'
import {Ago} from './time.js'
import {Empty, Icon, Loading} from './parts.js'

const path = 'api/notifications/devices'
const {dataset} = document.documentElement
const stored = `kubeagents.device ${new URL('./', document.baseURI).pathname}`

/** changes are what a device can be notified of: as an option, and as a part of a sentence. */
const changes = {
  waits: ['A session waits for you', 'waits'], lost: ['A session is lost', 'is lost'], failed: ['A session fails', 'fails'],
  finished: ['A session finishes its turn', 'finishes'], answered: ['A question is answered', 'has a question answered'],
}
const usual = {mode: 'all', on: ['waits', 'lost', 'failed'], agents: [], rules: []}
export const blocked = 'This browser blocks notifications from this page. Allow them in its settings.'

const isApple = ({userAgent, maxTouchPoints}) => /iPhone|iPad/.test(userAgent) || /Macintosh/.test(userAgent) && maxTouchPoints > 1

/** unsupportedBecause returns why this browser can't get notifications by Web Push, '' if it can. */
export function unsupportedBecause() {
  if (!window.isSecureContext) return 'Browsers show notifications only for pages served over HTTPS or from this machine.'
  if ('serviceWorker' in navigator && 'PushManager' in window && 'Notification' in window) return ''
  return isApple(navigator) ? 'Add the dashboard to your home screen first: Share, then Add to Home Screen.' : 'This browser does not support Web Push.'
}

/** nameOf returns what people call a browser, such as "Chrome on Android". */
export function nameOf({userAgent, userAgentData, maxTouchPoints}) {
  const brands = userAgentData?.brands?.map(({brand}) => brand).filter((brand) => !/Not.*Brand/i.test(brand)) ?? []
  const brand = brands.find((one) => one !== 'Chromium') ?? brands[0]
  const browser = brand?.replace(/^(Google|Microsoft) /, '')
    ?? [[/Edg/, 'Edge'], [/OPR/, 'Opera'], [/SamsungBrowser/, 'Samsung Internet'], [/Firefox|FxiOS/, 'Firefox'], [/Chrome|CriOS/, 'Chrome'], [/Safari/, 'Safari']].find(([pattern]) => pattern.test(userAgent))?.[1]
    ?? 'Browser'
  const system = userAgentData?.platform || (isApple({userAgent, maxTouchPoints}) ? (/iPhone/.test(userAgent) ? 'iPhone' : 'iPad')
    : [[/Android/, 'Android'], [/Windows/, 'Windows'], [/Mac OS X/, 'macOS'], [/CrOS/, 'Chrome OS'], [/Linux/, 'Linux']].find(([pattern]) => pattern.test(userAgent))?.[1])
  return (system ? `${browser} on ${system}` : browser).slice(0, 60)
}

/**
 * state is what the page knows: own is this device, {id, endpoint, key, mode, on, agents, rules, text} as this browser
 * keeps it, or null; list is the server's response, undefined before the first one; fault is why something failed.
 */
let state = {own: kept(), list: undefined, fault: ''}
const watchers = new Set()

function kept() {
  try {
    return JSON.parse(localStorage.getItem(stored))
  } catch {
    return null
  }
}

function update(change) {
  state = {...state, ...change}
  for (const watch of watchers) watch(state)
}

function keep(own) {
  if (own) localStorage.setItem(stored, JSON.stringify(own))
  else localStorage.removeItem(stored)
  update({own})
}

addEventListener('storage', ({key}) => { if (key === stored) update({own: kept()}) })

/** useDevices returns the state, and renders again when it changes. */
export function useDevices() {
  const [current, set] = useState(state)
  useEffect(() => {
    watchers.add(set)
    set(state)
    return () => watchers.delete(set)
  }, [])
  return current
}

/** watchDevices calls watch now and whenever the state changes. */
export function watchDevices(watch) {
  watchers.add(watch)
  watch(state)
}

/** isOn reports whether this device is notified by Web Push. */
export const isOn = ({own, list}) => Boolean(own) && !list?.off

/** pushes reports whether this device is notified by Web Push now. The page then shows no notifications of its own. */
export const pushes = () => isOn(state)

/** call requests something from the API. It returns {status, result}, or {status, fault} if that failed. */
async function call(method, target, body) {
  try {
    const reads = method === 'GET'
    const answer = reads ? await fetchAfter(target) : await fetch(target, {method, headers: {'Content-Type': 'application/json'}, body: body && JSON.stringify(body)})
    if (!reads) changedAt(answer)
    if (answer.status === 401) location.reload() // the sign-in has ended
    const result = answer.status === 204 ? {} : await answer.json()
    return answer.ok ? {status: answer.status, result} : {status: answer.status, fault: result.message}
  } catch {
    return {fault: "The server can't be reached."}
  }
}

const addressOf = (id) => `${path}/${encodeURIComponent(id)}`

/** choicesOf returns the choices of a device as the server keeps it. */
const choicesOf = ({rules = [], on = [], agent_ids: agents = [], text}) => ({mode: rules.length ? 'rules' : agents.length ? 'some' : 'all', on, agents, rules, text})

/** bodyOf returns choices as the API takes them. */
const bodyOf = ({mode, on, agents, rules, text}) => ({text, ...(mode === 'rules' ? {rules} : {on, ...(mode === 'some' && {agent_ids: agents})})})

/** refresh reads the devices from the server, and repairs this one if the server does not know it any more. */
export async function refresh() {
  const {result, fault} = await call('GET', path)
  if (fault) {
    update({fault})
    return
  }
  update({list: result, fault: ''})
  if (state.own && result.public_key && !unsupportedBecause()) await serially(repair)
}

/**
 * repair makes the server's device and this browser's subscription fit again: after a restart of a server that keeps no
 * devices, with another token or another key of the server, and if the browser has a new subscription or none.
 */
async function repair() {
  const {own, list} = state
  if (!own || !list?.public_key) return
  const known = list.devices.find(({id}) => id === own.id)
  if (Notification.permission !== 'granted') {
    if (known) await call('DELETE', addressOf(own.id))
    keep(null)
    return
  }
  const registration = await navigator.serviceWorker.register('sw.js')
  const before = await registration.pushManager.getSubscription()
  if (!known && list.removed?.includes(own.id)) {
    await before?.unsubscribe()
    keep(null)
    return
  }
  const current = own.key === list.public_key
  if (known && current && before?.endpoint === own.endpoint) {
    keep({...own, ...withoutLosingAgents(own, choicesOf(known))})
    return
  }
  if (!current) await before?.unsubscribe()
  const subscription = current && before || await subscribe(registration, list.public_key)
  await add(subscription, known ? choicesOf(known) : own, known && own.endpoint).catch((error) => giveUp(error, subscription))
}

/** withoutLosingAgents returns choices with the agents that were chosen before, so that they can be chosen again. */
const withoutLosingAgents = (own, choices) => ({...choices, agents: choices.mode === 'some' ? choices.agents : own.agents})

const subscribe = (registration, key) => registration.pushManager.subscribe({userVisibleOnly: true, applicationServerKey: key})

/** add adds this device, or gives the one with the endpoint renews another subscription. It throws if that failed. */
async function add(subscription, choices, renews) {
  const body = {subscription: subscription.toJSON()}
  let answer = renews && await call('POST', path, {...body, renews})
  if (!answer || answer.status === 404) answer = await call('POST', path, {...body, ...bodyOf(choices), name: nameOf(navigator)})
  if (answer.fault) throw new APIError(answer)
  const {list} = state
  const key = list.public_key
  update({list: {...list, devices: [...list.devices.filter(({id}) => id !== answer.result.id), answer.result]}})
  keep({...withoutLosingAgents(choices, choicesOf(answer.result)), id: answer.result.id, endpoint: subscription.endpoint, key})
}

class APIError extends Error {
  constructor({status, fault}) {
    super(fault)
    this.refused = status >= 400 && status < 500 && status !== 429
  }
}

/** giveUp ends a subscription if the server refused it, and throws the error. */
async function giveUp(error, subscription) {
  if (error.refused) {
    await subscription.unsubscribe()
    keep(null)
  }
  throw error
}

/** faultOf returns in words why a browser could not be subscribed. */
function faultOf({name, message}) {
  if (name === 'NotAllowedError') return blocked
  if (name === 'AbortError') return "This browser's push service can't be reached. Try again later."
  return name === 'Error' ? message : `This browser can't be notified: ${message}`
}

let last = Promise.resolve()

/** serially runs functions one after another, and shows why they failed. */
function serially(act) {
  last = last.then(async () => {
    update({fault: ''})
    try {
      await act()
    } catch (error) {
      update({fault: faultOf(error)})
    }
    update({}) // switches show what is true, and not what was clicked
  })
  return last
}

/** turnOn notifies this device as chosen. A click must cause it, because the browser asks the person for permission. */
export async function turnOn(choices = usual) {
  const unsupported = unsupportedBecause()
  if (unsupported) {
    update({fault: unsupported})
    return
  }
  const permission = await Notification.requestPermission()
  await serially(async () => {
    if (permission !== 'granted') throw new Error(permission === 'denied' ? blocked : 'Allow notifications when the browser asks.')
    const {result, fault} = await call('GET', path)
    if (fault) throw new Error(fault)
    update({list: result})
    if (!result.public_key) throw new Error(`Web Push is off: ${result.off}`)
    const registration = await navigator.serviceWorker.register('sw.js')
    await navigator.serviceWorker.ready
    const subscription = await freshSubscription(registration, result.public_key)
    await add(subscription, choices).catch((error) => giveUp(error, subscription))
  })
}

/** freshSubscription subscribes with a key, even if the browser is subscribed with another one. */
async function freshSubscription(registration, key) {
  try {
    return await subscribe(registration, key)
  } catch (error) {
    if (error.name !== 'InvalidStateError') throw error
    await (await registration.pushManager.getSubscription())?.unsubscribe()
    return subscribe(registration, key)
  }
}

/** turnOff stops notifying this device. */
export const turnOff = () => serially(async () => {
  const {own} = state
  if (own) await takeAway(own.id)
})

/** takeAway removes a device from the server and, if it is this one, ends its subscription. It throws if that failed. */
async function takeAway(id) {
  const {status, fault} = await call('DELETE', addressOf(id))
  if (fault && status !== 404) throw new Error(fault)
  if (id === state.own?.id) {
    const registration = await navigator.serviceWorker?.getRegistration()
    await (await registration?.pushManager.getSubscription())?.unsubscribe()
    keep(null)
  }
  const {list} = state
  if (list) update({list: {...list, devices: list.devices.filter((device) => device.id !== id)}})
}

/** choose changes what this device is notified of. */
const choose = (change) => serially(async () => {
  const {own} = state
  const choices = {...own, ...change}
  update({own: choices}) // shown at once
  try {
    const registration = await navigator.serviceWorker.ready
    const subscription = await registration.pushManager.getSubscription()
    if (!subscription) throw new Error('The subscription of this browser has ended. Turn notifications off and on again.')
    await add(subscription, choices)
  } catch (error) {
    if (state.own) update({own})
    throw error
  }
})

const ofAgents = (agents) => (agents.length ? choose({mode: 'some', agents}) : turnOff())

/** ThisDevice is the part of the bell's menu that is about Web Push. */
export function ThisDevice() {
  const {own, list, fault} = useDevices()
  useEffect(() => { refresh() }, [])
  const unsupported = unsupportedBecause()
  const on = isOn({own, list})
  if (!list && !on) return fault && !unsupported && html`<p class="fault" role="alert">${fault}</p>`
  if (unsupported || list?.off) return null
  return html`
    <label class="toggle"><span>Notify this device</span><input type="checkbox" role="switch" checked=${on} onChange=${(event) => (event.target.checked ? turnOn() : turnOff())} /></label>
    <p class="quiet">Also when this page is closed.</p>
    ${on && html`<${Choices} own=${own} rules=${list?.rules ?? []} />`}
    ${on && html`<${Test} id=${own.id} />`}
    ${fault ? html`<p class="fault" role="alert">${fault}</p>` : !on && window.Notification?.permission === 'denied' && html`<p class="quiet">${blocked}</p>`}`
}

/** Choices are what this device is notified of. */
function Choices({own: {mode, on, agents, rules: followed}, rules}) {
  const radio = (value, text, disabled, act) => html`<label><input type="radio" name="notify-of" checked=${mode === value} disabled=${disabled} onChange=${act} />${text}</label>`
  const other = (list, item, wanted) => (wanted ? [...list, item] : list.filter((one) => one !== item))
  return html`
    ${mode !== 'rules' && html`<fieldset><legend>When</legend>
      ${Object.entries(changes).map(([change, [option]]) => html`<label><input type="checkbox" checked=${on.includes(change)} onChange=${(event) => choose({on: other(on, change, event.target.checked)})} />${option}</label>`)}
      ${!on.length && html`<p class="quiet">Nothing is chosen, so this device is not notified.</p>`}
    </fieldset>`}
    <fieldset><legend>Of</legend>
      ${radio('all', 'All agents', false, () => choose({mode: 'all', on: on.length ? on : usual.on}))}
      ${radio('some', 'Some agents', !agents.length, () => choose({mode: 'some', on: on.length ? on : usual.on}))}
      ${mode === 'some' ? html`<ul class="some">${agents.map((agent) => html`<li key=${agent}><a href=${agentHref(agent)}><bdi>${agent}</bdi></a>
          <button type="button" aria-label=${`Remove ${agent}`} onClick=${() => ofAgents(other(agents, agent))}>Remove</button></li>`)}</ul>`
        : !agents.length && html`<p class="quiet">To choose agents, open their pages.</p>`}
      ${(rules.length > 0 || mode === 'rules') && radio('rules', 'What the rules say', false, () => choose({mode: 'rules', rules}))}
      ${mode === 'rules' && html`<div class="some">${[...new Set([...rules, ...followed])].map((rule) => html`<label key=${rule}><input type="checkbox" checked=${followed.includes(rule)} disabled=${followed.length === 1 && followed[0] === rule} onChange=${(event) => choose({rules: other(followed, rule, event.target.checked)})} /><bdi>${rule}</bdi></label>`)}</div>`}
    </fieldset>`
}

/** Test is a button that sends a test message to a device, with its outcome. label tells it from others. */
function Test({id, label}) {
  const [outcome, set] = useState({})
  const test = async () => {
    if (outcome.busy) return
    set({busy: true})
    const {fault} = await call('POST', `${addressOf(id)}/test`)
    set(fault ? {fault} : {sent: true})
    refresh() // for the time of the last delivery
  }
  return html`<div class="try"><button type="button" aria-disabled=${Boolean(outcome.busy)} aria-label=${label} onClick=${test}>Send a test</button>
    <span role="status">${outcome.busy ? 'Sending…' : outcome.sent ? html`<span class="fine"><${Icon} name="check" />The push service has it</span>` : outcome.fault && html`<span class="fault">${outcome.fault}</span>`}</span></div>`
}

/** NotifyOfAgent is the switch on an agent's pages that notifies this device of the agent. */
export function NotifyOfAgent({agent}) {
  const {own, list, fault} = useDevices()
  const on = isOn({own, list})
  if (!('push' in dataset) || unsupportedBecause()) return null
  if (on && own.mode !== 'some') return html`<p class="of-agent"><${Icon} name="bell" />${own.mode === 'all' ? 'This device is notified of all agents.' : 'This device is notified of what the rules say.'}</p>`
  const chosen = on && own.agents.includes(agent)
  const act = () => {
    if (!on) turnOn({...usual, mode: 'some', agents: [agent]})
    else ofAgents(chosen ? own.agents.filter((one) => one !== agent) : [...own.agents, agent])
  }
  return html`<p class="of-agent"><label><input type="checkbox" role="switch" checked=${chosen} onChange=${act} />Notify this device of this agent</label>
    ${fault && html`<span class="fault" role="alert">${fault}</span>`}</p>`
}

/** Devices is a list of the person's devices. */
export function Devices() {
  const {own, list, fault} = useDevices()
  useEffect(() => { refresh() }, [])
  const unsupported = unsupportedBecause()
  return html`<section class="devices" aria-labelledby="devices"><h2 id="devices">Your devices ${list?.devices.length > 0 && html`<span class="count">${list.devices.length}</span>`}</h2>
    ${list?.off ? html`<p class="quiet">Web Push is off: ${list.off}</p>` : list && (list.devices.length
      ? html`<ul class="rows plainly">${list.devices.map((device) => html`<${Device} key=${device.id} of=${device} own=${device.id === own?.id} />`)}</ul>`
      : html`<${Empty} icon="bell-off"><span>No device is notified. To add this one, click the bell and turn on <strong>Notify this device</strong>.</span><//>`)}
    ${list && !list.off && unsupported && html`<p class="quiet">${unsupported}</p>`}
    ${!list && !fault && html`<${Loading} />`}
    ${fault && html`<p class="fault" role="alert">${fault}</p>`}
  </section>`
}

/** listed returns words as a list. */
const listed = (words, last) => (words.length > 1 ? `${words.slice(0, -1).join(', ')} ${last} ${words.at(-1)}` : words[0])

/** Device is a row of the list of devices. */
function Device({of, own}) {
  const {mode, on, agents, rules} = choicesOf(of)
  const name = of.name || 'Unnamed device'
  const when = on.length ? `When a session ${listed(Object.keys(changes).filter((change) => on.includes(change)).map((change) => changes[change][1]), 'or')}` : 'Nothing is chosen'
  return html`<li>
    <div class="line-of"><span class="name"><bdi>${name}</bdi></span><span class="source">${of.push_service}</span>${own && html`<span class="badge">this device</span>`}</div>
    <p class="details">${mode === 'rules' ? html`<span>Follows the rules <bdi>${rules.join(', ')}</bdi></span>` : html`<span>${when}</span><span>${mode === 'all' ? 'all agents' : agents.map((agent, i) => html`${i > 0 && ', '}<a href=${agentHref(agent)}><bdi>${agent}</bdi></a>`)}</span>`}
      <span>set up <${Ago} time=${of.added} after=" ago" /></span>
      <span>${of.delivered_at ? html`last delivery <${Ago} time=${of.delivered_at} after=" ago" />` : 'no delivery since the server started'}</span></p>
    ${of.failure && html`<p class="fault">The last message failed: <bdi>${of.failure}</bdi> <${Ago} time=${of.failed_at} after=" ago" /></p>`}
    <div class="acts"><${Test} id=${of.id} label=${`Send a test to ${name}`} /><${Remove} id=${of.id} name=${name} /></div>
  </li>`
}

/** Remove is the button that removes a device, after a second click. */
function Remove({id, name}) {
  const [sure, ask] = useState(false)
  const remove = async () => {
    await serially(() => takeAway(id))
    document.querySelector('h1')?.focus({preventScroll: true}) // the button is gone
  }
  if (!sure) return html`<button type="button" aria-label=${`Remove ${name}`} onClick=${() => ask(true)}>Remove</button>`
  return html`<span class="sure" role="group" aria-label=${`Remove ${name}?`}>
    <button type="button" class="danger" ref=${(button) => button?.focus()} onClick=${remove}>Remove ${name}</button>
    <button type="button" onClick=${() => ask(false)}>Keep</button></span>`
}

if (state.own) refresh()
