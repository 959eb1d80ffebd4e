// The page: its top bar, views and keyboard shortcuts.
import {html, inOrder, render, useEffect, useRef, useState} from './html.js'
import {allowed} from './acknowledge.js'
import {prefetch} from './data.js'
import {connect, subscribe, useConnection} from './live.js'
import {followLinks, go, href, read, useRoute, views} from './route.js'
import {Icon, Trouble, agentOf, askedOf, iconOf, titleOf} from './parts.js'
import {Bell, kindOf} from './notify.js'
import {usePresence} from './presence.js'
import {Needs, paths, useCounts} from './needs.js'
import {Board, Sessions} from './sessions.js'
import {Agent, Agents} from './agents.js'
import {Session} from './session.js'
import {Notifications} from './notifications.js'
import {currentTheme, nextTheme, themeNames} from './theme.js'

const shown = {needs: Needs, sessions: Sessions, board: Board, agents: Agents, agent: Agent, session: Session, notifications: Notifications}

function App() {
  const {view, params} = useRoute()
  const counts = useCounts()
  const [help, setHelp] = useState(false)
  const View = shown[view]
  const at = view + (params.agent ?? '') + (params.session ?? '')
  const [named, setNamed] = useState({})
  useTab(counts, view, named.at === at ? named.name : params.session ?? params.agent)
  useKeys(() => setHelp(true))
  usePresence(view, params)
  return html`
    <a class="skip" href="#content" onClick=${(event) => { event.preventDefault(); document.querySelector('h1')?.focus() }}>Skip to content</a>
    <${Bar} view=${view} counts=${counts} onHelp=${() => setHelp(true)} />
    <main id="content">
      ${counts.error && !counts.summary && html`<${Trouble} error=${counts.error} />`}
      <${View} key=${at} params=${params} counts=${counts} onName=${(name) => setNamed({at, name})} />
    </main>
    <${Announcer} />
    ${help && html`<${Help} onClose=${() => setHelp(false)} />`}
  `
}

/** Badge shows how many sessions need attention for one reason, in thousands from 10,000 on. */
const Badge = ({n, state, text}) => n > 0 && html` <span class=${`badge ${state}`} title=${`${n} ${text}`}><${Icon} name=${iconOf(state)} /><span aria-hidden="true">${n < 10_000 ? n : `${Math.floor(n / 1000)}k`}</span><span class="unseen">${n} ${text}</span></span>`

/** Bar is the top bar. bar.html contains it as well. */
function Bar({view, counts: {waiting, lost, earlier, failed}, onHelp}) {
  const at = {session: 'sessions', agent: 'agents', board: 'sessions'}[view] ?? view
  const tab = (name, to, icon, label, badges) => html`<a href=${to} aria-current=${at === name ? 'page' : undefined}><${Icon} name=${icon} /><span class="label">${label}</span>${badges}</a>`
  return html`<header class="bar">
    <a class="brand" href="./" aria-label="KubeAgents"><img class="mark" src="favicon.svg" alt="" /><span>KubeAgents</span></a>
    <nav class="tabs" aria-label="Views">
      ${tab('needs', './', 'inbox', 'Needs you', waiting + lost + failed > 0 && html`<span class="badges"><${Badge} n=${waiting} state="pending" text="waiting for you" /><${Badge} n=${lost} state="lost" text=${earlier ? `lost in the last day (${earlier} before)` : 'lost'} /><${Badge} n=${failed} state="failed" text="failed" /></span>`)}
      ${tab('sessions', href({view: 'sessions'}), 'list', 'Sessions')}
      ${tab('agents', href({view: 'agents'}), 'bot', 'Agents')}
      ${tab('connect', 'connect', 'plug', 'Connect')}
    </nav>
    <div class="tools">
      <${Connection} />
      <${Bell} />
      <a class="plain" href=${href({view: 'notifications'})} aria-current=${view === 'notifications' ? 'page' : undefined} title="Rules and delivery of notifications" aria-label="Rules and delivery of notifications"><${Icon} name="send" /></a>
      <${Theme} />
      <${SignOut} />
      <button type="button" class="plain help-button" onClick=${onHelp} title="Keyboard shortcuts (?)" aria-label="Keyboard shortcuts"><${Icon} name="circle-help" /></button>
    </div>
  </header>`
}

function Connection() {
  const state = useConnection()
  const text = {live: 'Live', away: 'Reconnecting…', connecting: 'Connecting…'}[state]
  return html`<span class=${`connection ${state}`} role="status" title=${state === 'live' ? 'Changes appear as they happen' : 'The page may be out of date'}>
    <${Icon} name=${state === 'live' ? 'radio' : 'unplug'} /><span>${text}</span></span>`
}

const themeIcons = {'': 'monitor', light: 'sun', dark: 'moon'}

/** Theme is the button that switches between the system's theme, light and dark. */
function Theme() {
  const [theme, set] = useState(currentTheme)
  const text = `Theme: ${themeNames[theme]}`
  return html`<button type="button" class="plain" onClick=${() => set(nextTheme())} title=${text} aria-label=${text}><${Icon} name=${themeIcons[theme]} /></button>`
}

/** SignOut is the sign-out button, shown if the user signed in. */
function SignOut() {
  const {viewer} = document.documentElement.dataset
  return viewer && html`<form class="signout" method="post" action=${new URL('sign-out', document.baseURI).href}>
    <button class="plain" title=${`Sign out (${viewer})`} aria-label=${`Sign out (${viewer})`}><${Icon} name="log-out" /></button></form>`
}

/** useTab shows in the tab's title and icon what needs attention. name is the name of the current session or agent. */
function useTab({waiting, lost, failed, summary}, view, name) {
  const names = {needs: '', sessions: 'Sessions · ', board: 'Board · ', agents: 'Agents · ', notifications: 'Notifications · ', agent: `${name} · `, session: `${name} · `}
  useEffect(() => {
    document.title = inOrder(`${waiting ? `(${waiting}) ` : ''}${names[view]}KubeAgents`)
    if (!summary) return
    const query = new URLSearchParams()
    if (waiting) query.set('waiting', Math.min(waiting, 99))
    else if (lost || failed) query.set('trouble', 'true')
    document.querySelector('link[rel=icon]').href = `favicon.svg${query.size ? `?${query}` : ''}`
  }, [waiting, lost, failed, view, name, Boolean(summary)])
}

/** Announcer announces to screen readers which sessions start waiting, fail, or are lost. */
function Announcer() {
  const [text, set] = useState('')
  useEffect(() => subscribe((changes) => {
    const news = (changes ?? []).filter(kindOf)
    if (news.length > 3) set(`${news.length} sessions need you`)
    else if (news.length) set(news.map((change) => `${agentOf(change)}: ${titleOf(change)} (${kindOf(change)}). ${change.asked ? askedOf(change.asked) : change.message ?? ''}`).join(' '))
  }), [])
  return html`<p class="unseen" aria-live="polite">${text}</p>`
}

const keys = [['/', 'search'], ['j k', 'next and previous in a list'], ['Enter', 'open'],
  ...(allowed ? [['x', 'select a session that needs you'], ['Shift ↑ ↓', 'select several'], ['e', 'acknowledge'], ['s', 'snooze']] : []),
  ['Esc', 'leave the search, clear the selection or go back'], ['1 2 3 4 5', 'needs you, sessions, board, agents, notifications'], ['?', 'show this help']]

function useKeys(onHelp) {
  useEffect(() => {
    const press = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return
      const typing = event.target.matches?.('input:not([type=checkbox]), select, textarea')
      if (event.key === 'Escape') {
        if (typing || document.activeElement?.matches('.row')) document.activeElement.blur()
        else if (read().view === 'session') go(href({agent: read().params.agent}))
        else if (read().view === 'agent') go(href({view: 'agents'}))
        return
      }
      if (typing) return
      const act = {
        '/': () => {
          const search = document.getElementById('search')
          if (search) search.focus()
          else {
            go(href({view: 'sessions'}))
            setTimeout(() => document.getElementById('search')?.focus(), 50)
          }
        },
        '?': onHelp, j: () => step(1), k: () => step(-1),
      }[event.key] ?? (views[event.key - 1] && (() => go(href({view: event.key === '1' ? '' : views[event.key - 1]}))))
      if (!act) return
      event.preventDefault()
      act()
    }
    addEventListener('keydown', press)
    return () => removeEventListener('keydown', press)
  }, [])
}

/** step moves the focus to the next or previous row. */
function step(by) {
  const rows = [...document.querySelectorAll('a.row')]
  const at = rows.indexOf(document.activeElement.closest('li')?.querySelector('a.row'))
  const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by))
  rows[next]?.focus()
  rows[next]?.scrollIntoView({block: 'nearest'})
}

function Help({onClose}) {
  const dialog = useRef()
  useEffect(() => { dialog.current.showModal() }, [])
  return html`<dialog ref=${dialog} onClose=${onClose} onClick=${(event) => event.target === dialog.current && dialog.current.close()} aria-labelledby="help-title">
    <h2 id="help-title">Keyboard shortcuts</h2>
    <dl class="keys">${keys.map(([key, text]) => html`<div><dt>${key.split(' ').map((one) => html`<kbd>${one}</kbd> `)}</dt><dd>${text}</dd></div>`)}</dl>
    <form method="dialog"><button>Close</button></form>
  </dialog>`
}

async function begin() {
  const {view} = read()
  const since = await prefetch(view === 'needs' ? Object.values(paths) : [paths.summary])
  followLinks()
  connect(since)
  const app = document.getElementById('app')
  app.replaceChildren()
  render(html`<${App} />`, app)
}
begin()
