// One stream for all tabs of this browser, since browsers allow at most six connections to a server.
import {openStream} from './stream.js'

const ports = new Set()
let state = null

addEventListener('connect', (event) => {
  const [port] = event.ports
  port.onmessage = ({data}) => {
    if (data === 'bye') {
      ports.delete(port)
      return
    }
    ports.add(port)
    if (state) {
      port.postMessage(state)
      port.postMessage({reset: true}) // the stream may be ahead of this tab's reads
    }
    open(data)
  }
})

let opened = false
function open({address, since}) {
  if (opened) return
  opened = true
  openStream(address, since, (message) => {
    if (message.state) state = message
    for (const port of ports) port.postMessage(message)
  })
}
