// The page that says what to paste is whole without this: it adds a button to each text that copies it.
import {Copy} from './parts.js'
import {html, render} from './html.js'

for (const box of document.querySelectorAll('.copy')) {
  const text = box.querySelector('pre').textContent
  const place = document.createElement('div')
  box.replaceWith(place)
  render(html`<${Copy} text=${text} />`, place)
}
