// Adds a copy button to each text of the connect page. The page works without this script.
import {Copy} from './parts.js'
import {html, render} from './html.js'

for (const box of document.querySelectorAll('.copy')) {
  const text = box.querySelector('pre').textContent
  const place = document.createElement('div')
  box.replaceWith(place)
  render(html`<${Copy} text=${text} />`, place)
}
