// The service worker shows the notifications that the server pushes, even if no page is open, and tells the server when
// the browser has a new subscription. It caches nothing and answers no requests, so that every page is the server's newest.

const generic = {tag: 'kubeagents', title: 'KubeAgents', body: 'Something happened. Open the dashboard to see what.'}
const resolvedFor = 5000 // how long a notification says that it is resolved, in milliseconds

addEventListener('install', () => skipWaiting())
addEventListener('activate', (event) => event.waitUntil(clients.claim()))
addEventListener('push', (event) => event.waitUntil(show(read(event.data))))
addEventListener('notificationclick', (event) => {
  event.notification.close()
  event.waitUntil(open(addressOf(event.notification.data?.url)))
})

addEventListener('pushsubscriptionchange', (event) => event.waitUntil(renew(event)))

/** renew gives this device its new subscription. Without the old one, the next page that is opened does it: devices.js. */
async function renew({oldSubscription: old, newSubscription: given}) {
  if (!old) return
  const subscription = given ?? await registration.pushManager.subscribe(old.options)
  await fetch(new URL('api/notifications/devices', registration.scope), {
    method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({subscription: subscription.toJSON(), renews: old.endpoint}),
  })
}

/** read returns what a push says (internal/push/payload.go), or something generic: a browser must show every push. */
function read(data) {
  try {
    const message = data.json()
    if ([message.title, message.tag].every((text) => typeof text === 'string' && text)) return message
  } catch {
    // not sent by this version of the server
  }
  return generic
}

/**
 * show shows a message instead of an earlier one with the same tag. One that is withdrawn says so without a sound, and
 * is removed only later: browsers count a push as not shown if nothing is left of it once it has been handled.
 */
async function show({id, tag, title, body, url, timestamp, renotify, withdrawn}) {
  const others = await registration.getNotifications()
  const repeated = others.some((other) => other.tag === tag && id && other.data?.id === id)
  await registration.showNotification(title, {
    body: body ?? '', tag, timestamp, silent: Boolean(withdrawn), renotify: Boolean(renotify && !withdrawn && !repeated),
    icon: new URL('icons/192.png', registration.scope).href, data: {id, url, withdrawn},
  })
  for (const other of others) if (other.data?.withdrawn && other.tag !== tag) other.close() // the worker was stopped before
  if (withdrawn) setTimeout(() => removeWithdrawn(tag), resolvedFor)
}

async function removeWithdrawn(tag) {
  for (const notification of await registration.getNotifications({tag})) if (notification.data?.withdrawn) notification.close()
}

/** addressOf returns the address of a page of this dashboard; that of its first page if url leads elsewhere. */
function addressOf(url) {
  try {
    const {href} = new URL(url, registration.scope)
    if (href.startsWith(registration.scope)) return href
  } catch {
    // no URL
  }
  return registration.scope
}

/** open shows a page of this dashboard: in the tab that was used last or, if there is none, in a new one. */
async function open(address) {
  const [tab] = await clients.matchAll({type: 'window'})
  try {
    const focused = await tab.focus()
    if (focused.url !== address) await focused.navigate(address)
  } catch {
    await clients.openWindow(address)
  }
}
