// Preact with htm, so that components are written as templates and nothing has to be built.
import {h} from './vendor/preact.js'
import htm from './vendor/htm.js'

/**
 * inOrder returns a text with the code points of the characters that would have it seen in another order than it is in. view.go does
 * the same.
 */
export const inOrder = (text) => text.replace(/[\u202a-\u202e\u2066-\u2069]/g, (c) => `[U+${c.codePointAt(0).toString(16).toUpperCase()}]`)

const child = (of) => (typeof of === 'string' ? inOrder(of) : Array.isArray(of) ? of.map(child) : of)

/** html makes elements of templates. Whatever text they show is shown in order. */
export const html = htm.bind((type, props, ...children) => h(type, props, ...children.map(child)))
export {render} from './vendor/preact.js'
export {useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState} from './vendor/hooks.js'
