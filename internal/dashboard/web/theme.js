// The theme of the pages: the system's, light or dark.

const themes = ['', 'light', 'dark']

/** themeNames are the names of the themes as the pages show them. */
export const themeNames = {'': 'system', light: 'light', dark: 'dark'}

/** currentTheme returns the theme of the page, '' for the system's. */
export const currentTheme = () => document.documentElement.dataset.theme ?? ''

/**
 * nextTheme switches the page to the next theme and returns it. It stores the choice in a cookie, so that the server
 * renders the pages with it.
 */
export function nextTheme() {
  const theme = themes[(themes.indexOf(currentTheme()) + 1) % themes.length]
  if (theme) document.documentElement.dataset.theme = theme
  else delete document.documentElement.dataset.theme
  const path = new URL('./', document.baseURI).pathname
  document.cookie = `theme=${theme}; path=${path}; max-age=${theme ? 31536000 : 0}; samesite=lax`
  return theme
}
