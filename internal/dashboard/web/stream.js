// The server's event stream. It reconnects by itself, and continues where it stopped.

// Changes reach the page in batches, the first one immediately.
const batchMs = 50

/**
 * openStream follows the events at an address, after the event with the ID since. It calls deliver with {state: 'live'
 * | 'away'}, with {changes: […]}, or with {reset: true} if changes may have been missed.
 */
export function openStream(address, since, deliver) {
  let source, last = since, state = '', waiting = [], timer = 0, failures = 0

  const setState = (next) => {
    if (state !== next) deliver({state: state = next})
  }
  const flush = () => {
    timer = 0
    if (!waiting.length) return
    deliver({changes: waiting})
    waiting = []
    timer = setTimeout(flush, batchMs)
  }
  const take = (type) => (event) => {
    last = event.lastEventId
    waiting.push({...JSON.parse(event.data), type, id: event.lastEventId})
    if (!timer) flush()
  }
  const retry = () => {
    source.close()
    setTimeout(connect, Math.min(10_000, 500 * 2 ** failures++) * (0.5 + Math.random() / 2))
  }

  function connect() {
    const from = last
    source = new EventSource(from ? `${address}?since=${encodeURIComponent(from)}` : address)
    source.onopen = () => {
      failures = 0
      setState('live')
      if (!from) deliver({reset: true}) // reads from before the stream began may be outdated
    }
    source.onerror = () => {
      setState('away')
      if (source.readyState !== EventSource.CLOSED) return
      deliver({reset: true}) // refused: the server is starting or accepts no more subscribers, or the sign-in has ended; reads will show which
      retry()
    }
    for (const type of ['status', 'acknowledged', 'expired', 'removed']) source.addEventListener(type, take(type))
    source.addEventListener('reset', (event) => {
      last = event.lastEventId
      deliver({reset: true})
    })
    source.addEventListener('bye', (event) => {
      last = event.lastEventId
      setState('away')
    })
  }
  connect()
}
