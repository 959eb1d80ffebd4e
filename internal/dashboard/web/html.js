// Preact with htm, so that components are written as templates and nothing has to be built.
import {h} from './vendor/preact.js'
import htm from './vendor/htm.js'

export const html = htm.bind(h)
export {render} from './vendor/preact.js'
export {useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState} from './vendor/hooks.js'
