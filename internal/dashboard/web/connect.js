// The buttons of the connect page. The page is also shown to people who are not signed in, so everything that this
// script imports must be in publicFiles in dashboard.go.
import {copyText} from './copy.js'
import {currentTheme, nextTheme, themeNames} from './theme.js'

for (const box of document.querySelectorAll('.copy')) {
  const text = box.querySelector('pre')
  const copy = box.querySelector('.copy-button')
  const expand = box.querySelector('.expand')
  copy.hidden = false
  copy.onclick = async () => {
    await copyText(text.textContent)
    copy.lastElementChild.textContent = 'Copied'
    copy.classList.add('done')
    setTimeout(() => {
      copy.lastElementChild.textContent = 'Copy'
      copy.classList.remove('done')
    }, 2000)
  }
  if (text.scrollHeight <= text.clientHeight) continue
  const lines = text.textContent.trimEnd().split('\n').length
  const show = (all) => {
    box.classList.toggle('whole', all)
    expand.ariaExpanded = all
    expand.textContent = all ? 'Show less' : `Show all ${lines} lines`
  }
  show(false)
  expand.hidden = false
  expand.onclick = () => show(!box.classList.contains('whole'))
}

const theme = document.querySelector('.theme')
const name = () => { theme.title = theme.ariaLabel = `Theme: ${themeNames[currentTheme()]}` }
name()
theme.hidden = false
theme.onclick = () => {
  nextTheme()
  name()
}
