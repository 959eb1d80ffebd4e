/** copyText puts a text into the clipboard. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text)
  } catch { // the clipboard API needs HTTPS
    const area = Object.assign(document.createElement('textarea'), {value: text})
    document.body.append(area)
    area.select()
    document.execCommand('copy')
    area.remove()
  }
}
