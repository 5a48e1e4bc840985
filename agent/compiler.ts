import { setFlagsFromString } from 'node:v8';

/**
 * Turns V8's last compiler off, for the rest of the process: its code, its threads and their memory cost more than it
 * gains where most time is spent in native HTTP/2 (docs/decisions/node-flags.md). Not a flag of the start: with it V8
 * refuses the code that Node keeps of its own modules, and compiles them anew. To be called when all that a start loads
 * is loaded.
 */
export function turnOffTopTier(): void {
  setFlagsFromString('--no-turbofan');
}
