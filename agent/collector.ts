import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * `young`: the newest objects, under a millisecond. `dead`: all that is not used, ten milliseconds. `all`: everything
 * that can be given back, tens of milliseconds.
 */
export type CollectionKind = 'young' | 'dead' | 'all';

/** V8's words. Its last resort spares nothing: also code that has not run for long. */
const collectionOptions = {
  young: "{ type: 'minor' }",
  dead: "{ type: 'major', execution: 'sync' }",
  all: "{ type: 'major', execution: 'sync', flavor: 'last-resort' }",
} as const satisfies Record<CollectionKind, string>;

/**
 * A function that runs V8's garbage collector. V8 shows it to contexts that are made while a flag is set (set at the
 * start, the flag would make V8 refuse the code that Node keeps of its own modules); without it nothing is done. The
 * function holds its context, half a MB.
 */
export function exposeCollector(kind: CollectionKind): () => void {
  setFlagsFromString('--expose-gc');
  const found: unknown = runInNewContext(`globalThis.gc && (() => void gc(${collectionOptions[kind]}))`);
  if (globalThis.gc === undefined) setFlagsFromString('--no-expose-gc');
  return typeof found === 'function' ? (found as () => void) : () => undefined;
}
