// The rows of sessions that need attention, and choosing one or several of them to acknowledge or snooze.
import {html, useEffect, useRef, useState} from './html.js'
import {Snooze, acknowledge, acknowledgeAll, allowed} from './acknowledge.js'
import {keyOf, knownUntil, seenUntil} from './data.js'
import {Icon, Message, Who, needing, sinceOf, titleOf} from './parts.js'
import {sessionHref} from './route.js'
import {Ago, compareTimes} from './time.js'

/** idOf identifies a session together with the reason why it needs attention: for another reason, it is another item. */
const idOf = (row) => `${Object.keys(needing).find((needs) => needing[needs](row))}\n${keyOf(row)}`

/** items returns the elements of the sessions that can be chosen, in the order of the page. */
const items = () => [...document.querySelectorAll('li[data-id]:not(.gone)')].filter((item) => item.checkVisibility())

const itemOf = (element) => element?.closest?.('li[data-id]:not(.gone)')

/** between returns the IDs from one item to another, in either direction. */
function between(from, to) {
  const ids = items().map((item) => item.dataset.id)
  const [a, b] = [ids.indexOf(from), ids.indexOf(to)].sort((a, b) => a - b)
  return ids.slice(Math.max(0, a), b + 1)
}

/** focusAfter moves the focus to the first item after those with these IDs, or else to the last one before them. */
function focusAfter(ids) {
  const gone = new Set(ids), all = items()
  const stays = (item) => !gone.has(item.dataset.id)
  const first = all.findIndex((item) => !stays(item))
  const next = first < 0 ? null : all.slice(first).find(stays) ?? all.slice(0, first).findLast(stays)
  const target = next?.querySelector('a.row') ?? document.querySelector('h1')
  target?.focus()
}

/** without returns a copy of a set or a map without some keys. */
function without(of, keys) {
  const rest = new of.constructor(of)
  for (const key of keys) rest.delete(key)
  return rest
}

/**
 * useChoice returns what the lists of a view need to have their sessions acknowledged, null if the person may not do
 * that. rows are those of all its lists.
 *
 * What is acknowledged is hidden at once, and shown again if that fails or if it reports something new.
 */
export function useChoice(rows) {
  const [chosen, choose] = useState(new Set())
  const [hidden, hide] = useState(new Map()) // when each was last updated, by ID
  const [faults, fail] = useState(new Map()) // why acknowledging failed, by ID
  const [news, announce] = useState({})
  const anchor = useRef('') // where a range begins

  const byID = new Map(rows.map((row) => [idOf(row), row]))
  const isHidden = (row) => hidden.get(idOf(row)) === row.last_updated
  const isListed = (id) => byID.has(id) && !isHidden(byID.get(id))
  const listed = [...chosen].filter(isListed)
  useEffect(() => {
    const prune = (of, keeps) => {
      const dropped = [...of.keys()].filter((id) => !keeps(id))
      return dropped.length ? without(of, dropped) : of
    }
    choose((old) => prune(old, isListed))
    hide((old) => prune(old, (id) => byID.has(id)))
    fail((old) => prune(old, (id) => byID.has(id) || id in needing))
  }, [rows])

  const begin = (ids) => {
    focusAfter(ids)
    hide((old) => new Map([...old, ...ids.map((id) => [id, byID.get(id).last_updated])]))
    choose((old) => without(old, ids))
    fail((old) => without(old, [...ids, ...Object.keys(needing)]))
  }
  const finish = (n, minutes, failed, fault) => {
    hide((old) => without(old, failed))
    if (fault) fail((old) => new Map([...old, ...failed.map((id) => [id, fault])]))
    announce({fault, text: fault ? `Not ${minutes ? 'snoozed' : 'acknowledged'}: ${fault}` : `${n} ${minutes ? 'snoozed' : 'acknowledged'}`})
  }
  const act = async (ids, minutes) => {
    const going = ids.filter(isListed)
    if (!going.length) return
    begin(going)
    const {n, failed, fault} = await acknowledge(going.map((id) => byID.get(id)), minutes)
    finish(n, minutes, failed.map(idOf), fault)
  }
  const actOnAll = async (needs, minutes) => {
    const going = [...byID.keys()].filter((id) => id.startsWith(`${needs}\n`))
    const times = [knownUntil(), ...going.map((id) => seenUntil(byID.get(id)))].sort(compareTimes)
    begin(going)
    const fault = await acknowledgeAll(needs, minutes, times.at(-1))
    finish('All', minutes, fault ? [...going, needs] : [], fault)
  }
  const toggle = (id, extend) => {
    const on = !chosen.has(id)
    const ids = extend && isListed(anchor.current) ? between(anchor.current, id) : [id]
    if (ids.length === 1) anchor.current = id
    choose((old) => (on ? new Set([...old, ...ids]) : without(old, ids)))
  }
  const extend = (from, by) => {
    const all = items()
    const next = all[all.indexOf(from) + by]
    if (!next) return
    if (!chosen.has(anchor.current) || !isListed(anchor.current)) anchor.current = from.dataset.id
    const before = between(anchor.current, from.dataset.id), after = between(anchor.current, next.dataset.id)
    choose((old) => new Set([...without(old, before), ...after]))
    next.querySelector(document.activeElement.matches('.choose input') ? '.choose input' : 'a.row').focus()
    next.scrollIntoView({block: 'nearest'})
  }
  const clear = () => choose(new Set())
  useChoiceKeys({chosen: listed, toggle, extend, clear, act})

  if (!allowed) return null
  return {chosen: listed, faults, news, isHidden, has: (id) => chosen.has(id), toggle, clear, act, actOnAll, fault: (needs) => faults.get(needs)}
}

/** useChoiceKeys adds the keyboard shortcuts. main.js lists them. */
function useChoiceKeys(choice) {
  const latest = useRef()
  latest.current = choice
  useEffect(() => {
    if (!allowed) return
    const press = (event) => {
      const {chosen, toggle, extend, clear, act} = latest.current
      const elsewhere = event.target.matches?.('input:not([type=checkbox]), select, textarea, [role=menu] *')
      if (elsewhere || event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return
      const item = itemOf(document.activeElement)
      const snooze = () => (chosen.length ? document.querySelector('.chosen .snooze') : item?.querySelector('.snooze'))?.click()
      const arrow = event.shiftKey && {ArrowDown: 1, ArrowUp: -1}[event.key]
      const does = {
        x: item && (() => toggle(item.dataset.id)), s: snooze,
        e: () => act(chosen.length ? chosen : item ? [item.dataset.id] : [], 0),
        Escape: chosen.length > 0 && clear,
      }[event.key] || item && arrow && (() => extend(item, arrow))
      if (!does) return
      event.preventDefault()
      event.stopImmediatePropagation()
      does()
    }
    addEventListener('keydown', press, true) // before the shortcuts of the page
    return () => removeEventListener('keydown', press, true)
  }, [])
}

/** Chosen shows how many sessions are chosen, and what can be done with them. */
export function Chosen({choice}) {
  if (!choice) return null
  const {chosen, news, act, clear} = choice
  return html`
    <p class="unseen" role="status">${chosen.length > 0 ? `${chosen.length} selected` : !news.fault && news.text}</p>
    <p class="unseen" role="alert">${news.fault && news.text}</p>
    ${chosen.length > 0 && html`<section class="chosen" aria-label="Selected sessions">
      <strong>${chosen.length} selected</strong>
      <button type="button" title="Acknowledge (e)" onClick=${() => act(chosen, 0)}><${Icon} name="check" /><span>Acknowledge</span></button>
      ${chosen.some((id) => !id.startsWith('lost\n')) && html`<${Snooze} label="Snooze" icon onSnooze=${(minutes) => act(chosen, minutes)} />`}
      <button type="button" class="clear-choice" aria-label="Clear" title="Clear (Esc)" onClick=${clear}><${Icon} name="x" /><span>Clear</span></button>
    </section>`}`
}

/** needRow returns a component for a session in a list whose heading says its state, with a time that Time shows. */
const needRow = (Time) => ({row, gone, alike, choice}) => {
  const link = html`<a class="row need" href=${sessionHref(row.agent_id, row.session_topic)}>
    <span class="what">
      ${row.current_message !== titleOf(row) && html`<${Message} row=${row} />`}
      <span class="name" dir="auto">${titleOf(row)}</span>
    </span>
    <${Who} row=${row} alike=${alike} />
    <${Time} row=${row} />
  </a>`
  if (!choice || gone) return html`<li class=${gone ? 'gone' : ''}>${link}</li>`
  const id = idOf(row), fault = choice.faults.get(id), chosen = choice.has(id)
  return html`<li class=${chosen ? 'picked' : ''} data-id=${id}>
    <label class="choose"><input type="checkbox" aria-label=${`Select ${titleOf(row)}`} checked=${chosen} onClick=${(event) => choice.toggle(id, event.shiftKey)} /></label>
    ${link}
    <${Act} row=${row} onAct=${(minutes) => choice.act([id], minutes)} />
    ${fault && html`<p class="fault">${fault}</p>`}
  </li>`
}

/** The rows of the lists of sessions that need attention, each with the time by which its list is sorted. */
export const PendingRow = needRow(({row}) => html`<${Ago} time=${sinceOf(row)} label=${row.question ? 'asked' : 'pending since'} before="for " />`)
export const LostRow = needRow(({row}) => html`<${Ago} time=${sinceOf(row)} label="lost since" after=" ago" />`)
export const FailedRow = needRow(({row}) => html`<${Ago} time=${sinceOf(row)} label="failed since" after=" ago" />`)

/** Act is the button of a row: it snoozes a session that waits, and acknowledges any other. */
const Act = ({row, onAct}) => html`<span class="act">${needing.waiting(row)
  ? html`<${Snooze} label="Snooze" name=${`Snooze ${titleOf(row)}`} icon forever onSnooze=${onAct} />`
  : html`<button type="button" aria-label=${`Acknowledge ${titleOf(row)}`} title="Acknowledge" onClick=${() => onAct(0)}><${Icon} name="check" /><span>Acknowledge</span></button>`}</span>`

/**
 * All is the button that acknowledges all sessions that need attention for a reason, as far as the page knows of them;
 * those that wait are snoozed. n is how many there are, if not all are shown.
 */
export function All({needs, n, choice}) {
  if (!choice) return null
  const {actOnAll, fault} = choice
  const all = `all${n ? ` ${n}` : ''}`
  return html`<span class="acknowledge">${needs === 'waiting'
    ? html`<${Snooze} label=${`Snooze ${all}`} forever onSnooze=${(minutes) => actOnAll(needs, minutes)} />`
    : html`<button type="button" onClick=${() => actOnAll(needs, 0)}>Acknowledge ${all}</button>`}
    ${fault(needs) && html`<span class="fault">${fault(needs)}</span>`}</span>`
}
