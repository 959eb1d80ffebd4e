// Routing: the query of the URL determines the view completely, so that a link shows the same view.
import {useEffect, useState} from './html.js'

export const views = ['needs', 'sessions', 'board', 'agents', 'notifications']

/** read returns {view, params}. view is one of views, or 'session' or 'agent'. */
export function read(search = location.search) {
  const params = Object.fromEntries(new URLSearchParams(search))
  if (params.agent && params.session) return {view: 'session', params}
  if (params.agent) return {view: 'agent', params}
  return {view: views.includes(params.view) ? params.view : 'needs', params}
}

/** href returns the URL for params. Parameters without a value are left out. */
export function href(params) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value))
  return query.size ? `?${query}` : './'
}

export const sessionHref = (agent, session) => href({agent, session})
export const agentHref = (agent) => href({agent})

const changed = new EventTarget()

/** go navigates to another URL. With replace, it replaces the current history entry. */
export function go(to, {replace = false} = {}) {
  const url = new URL(to, document.baseURI)
  if (url.href === location.href) return
  history[replace ? 'replaceState' : 'pushState'](null, '', url)
  changed.dispatchEvent(new CustomEvent('change', {detail: {moved: !replace}}))
}

/** useRoute returns the current view and its parameters. */
export function useRoute() {
  const [route, set] = useState(read)
  useEffect(() => {
    const update = (event) => {
      set(read())
      if (event.detail?.moved) scrollTo(0, 0)
    }
    addEventListener('popstate', update)
    changed.addEventListener('change', update)
    return () => {
      removeEventListener('popstate', update)
      changed.removeEventListener('change', update)
    }
  }, [])
  return route
}

/** followLinks makes links to other views of this page work without loading it again. */
export function followLinks() {
  addEventListener('click', (event) => {
    const link = event.target.closest?.('a[href]')
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
    const to = link.getAttribute('href')
    if (to !== './' && !to.startsWith('?')) return
    event.preventDefault()
    go(to)
  })
}
