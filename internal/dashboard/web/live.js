// Distributes the changes of the event stream to all parts of the page.
import {useEffect, useState} from './html.js'
import {openStream} from './stream.js'

const listeners = new Set()
const watchers = new Set()
let state = 'connecting'

function take(message) {
  if (message.state) {
    const back = message.state === 'live' && state === 'away'
    state = message.state
    for (const watch of watchers) watch(state)
    if (!back) return
    message = {reset: true} // the page may be out of date until the stream has caught up
  }
  for (const listen of listeners) listen(message.reset ? null : message.changes)
}

/**
 * connect opens the stream after the event with the ID since: in a worker that all tabs share or, if the browser has no
 * shared workers, for this page only.
 */
export function connect(since) {
  const address = new URL('api/events', document.baseURI).href
  let worker
  try {
    worker = new SharedWorker(new URL('./worker.js', import.meta.url), {type: 'module', name: 'kubeagents'})
  } catch {
    openStream(address, since, take)
    return
  }
  worker.onerror = () => {
    if (state === 'connecting') openStream(address, since, take)
  }
  worker.port.onmessage = ({data}) => take(data)
  worker.port.postMessage({address, since})
  addEventListener('pagehide', () => worker.port.postMessage('bye'))
  addEventListener('pageshow', (event) => {
    if (!event.persisted) return
    worker.port.postMessage({address, since})
  })
}

/**
 * subscribe calls listen with each batch of changes, or with null when everything must be read again. It returns a
 * function that unsubscribes.
 */
export function subscribe(listen) {
  listeners.add(listen)
  return () => listeners.delete(listen)
}

/** useConnection returns 'connecting', 'live' or 'away'. */
export function useConnection() {
  const [current, set] = useState(state)
  useEffect(() => {
    watchers.add(set)
    set(state)
    return () => watchers.delete(set)
  }, [])
  return current
}
