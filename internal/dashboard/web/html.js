// Preact with htm: components are written as templates, without a build step.
import {h} from './vendor/preact.js'
import htm from './vendor/htm.js'

/**
 * inOrder replaces the characters that change the displayed order of a text with their code points. view.go does the
 * same.
 */
export const inOrder = (text) => text.replace(/[\u202a-\u202e\u2066-\u2069]/g, (c) => `[U+${c.codePointAt(0).toString(16).toUpperCase()}]`)

const child = (of) => (typeof of === 'string' ? inOrder(of) : Array.isArray(of) ? of.map(child) : of)

/** html turns templates into elements. It applies inOrder to all text. */
export const html = htm.bind((type, props, ...children) => h(type, props, ...children.map(child)))
export {render} from './vendor/preact.js'
export {useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState} from './vendor/hooks.js'
