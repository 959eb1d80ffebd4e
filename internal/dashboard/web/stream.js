// The event stream of the server, held open: it comes back by itself, and goes on where it stopped.

// Changes reach the page in batches, the first one at once.
const batchMs = 50

/**
 * openStream follows the events at an address, from the event with the ID since on. tell is called with {state: 'live' | 'away'}, with {changes: […]}, or with
 * {reset: true} when something may have been missed.
 */
export function openStream(address, since, tell) {
  let source, last = since, state = '', waiting = [], timer = 0, failures = 0

  const say = (next) => {
    if (state !== next) tell({state: state = next})
  }
  const flush = () => {
    timer = 0
    if (!waiting.length) return
    tell({changes: waiting})
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
      say('live')
      if (!from) tell({reset: true}) // what was read before the stream began may be older
    }
    source.onerror = () => {
      say('away')
      if (source.readyState !== EventSource.CLOSED) return
      tell({reset: true}) // refused: the server starts, or takes no more subscribers, or the sign-in has ended, which reads find out
      retry()
    }
    for (const type of ['status', 'expired', 'removed']) source.addEventListener(type, take(type))
    source.addEventListener('reset', (event) => {
      last = event.lastEventId
      tell({reset: true})
    })
    source.addEventListener('bye', (event) => {
      last = event.lastEventId
      say('away')
    })
  }
  connect()
}
