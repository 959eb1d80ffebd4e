// Runs the plugin beside this file with the event of a session that begins, as a dry run. Prints what came back for it.
import { writeSync } from "node:fs"

const send = globalThis.fetch
const print = (reply) => writeSync(1, JSON.stringify(reply) + "\n")
globalThis.fetch = async (address, options) => {
  const headers = { ...options?.headers, "X-Dry-Run": "true" }
  try {
    const response = await send(address, { ...options, headers, redirect: "manual" })
    const body = await response.text()
    print({ status: response.status, location: response.headers.get("location") ?? "", body })
    return new Response(body, { status: response.status })
  } catch (error) {
    const cause = error.cause ?? error
    print({ code: cause.code ?? error.name, message: String(cause.message ?? error.message) })
    throw error
  }
}
const directory = process.cwd()
for (const start of Object.values(await import("./plugin.mjs"))) {
  const hooks = await start({ directory })
  await hooks.event?.({ event: { type: "session.created", properties: { info: { id: process.argv[2], title: "Check", directory } } } })
  await hooks.dispose?.()
}
process.exit() // as OpenCode does
