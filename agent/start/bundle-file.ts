import { createHash } from 'node:crypto';
import { commentEnd, hiddenCommentEnd, type PartTable } from './part-loader.ts';

/** The texts of the files and what their heads say. */
export interface BundleFile {
  /** The program in one file. */
  readonly text: string;
  /** Its head as a file of its own: the same program, and Node need not read the parts to start it. */
  readonly startText: string;
  readonly table: PartTable;
}

/** Wide enough for any offset: the head's length must be known before it is written. */
const offsetDigits = 12;
const startField = '@'.repeat(offsetDigits);

/**
 * Joins the parts of a program into one file that Node runs: a head, then the parts inside of a comment. Throws Error for
 * a character that a part cannot hold.
 */
export function joinParts(options: {
  /** A script whose value is `runBundle`. */
  readonly loader: string;
  /** Of the bundle, for a start file that is in the same folder. */
  readonly fileName: string;
  /** The name of the part that is run. */
  readonly entry: string;
  /** Function expressions by the name that other parts ask for. */
  readonly parts: ReadonlyMap<string, string>;
}): BundleFile {
  const { loader, fileName, entry, parts } = options;
  const places: Record<string, readonly [number, number]> = {};
  let body = '';
  for (const [name, text] of parts) {
    places[name] = [body.length, text.length];
    body += `${checkedText(name, text).replaceAll(commentEnd, hiddenCommentEnd)}\n`;
  }
  const bundleId = createHash('sha256').update(loader).update(body).digest('hex').slice(0, 32);
  const table = { bundleId, start: 0, entry, parts: places };
  const tableText = JSON.stringify(table).replace('"start":0', `"start":Number("${startField}")`);
  const headOf = (path: string) =>
    `"use strict";require("node:vm").runInThisContext(${JSON.stringify(loader)},{filename:"ferry-agent-loader.js"})(require,${path},${tableText});`;
  const head = checkedText('the head', `#!/usr/bin/env node\n${headOf('__filename')}/*\n`);
  const start = head.length;
  const setStart = (text: string) => text.replace(startField, String(start).padStart(offsetDigits, '0'));
  return {
    text: `${setStart(head)}${body}*/\n`,
    startText: `${setStart(headOf(`__dirname+${JSON.stringify(`/${fileName}`)}`))}\n`,
    table: { ...table, start },
  };
}

/** Every character is one byte of the file and of V8's heap: one wide character would double the size of its part. */
function checkedText(name: string, text: string): string {
  const hiddenAt = text.indexOf(hiddenCommentEnd);
  const at = /[^\0-\x7f]/.exec(text)?.index ?? (hiddenAt < 0 ? undefined : hiddenAt + 1);
  if (at === undefined) return text;
  const code = text.charCodeAt(at).toString(16).toUpperCase().padStart(4, '0');
  throw new Error(
    `${name} holds U+${code} at ${at}: write it as an escape in its source, also in regular expressions`,
  );
}
