import { setFlagsFromString } from 'node:v8';

/**
 * Turns V8's last compilers off, for the rest of the process: their code, threads and memory cost more than they gain
 * where most time is spent in native HTTP/2 (docs/decisions/node-flags.md). Not flags of the start: with them V8 refuses
 * the code that Node keeps of its own modules, and compiles them anew. To be called when all that a start loads is
 * loaded; of what is loaded later the build keeps code for these flags.
 */
export function turnOffTopTiers(): void {
  setFlagsFromString('--no-turbofan');
  turnOffWasmTiers();
}

/**
 * The only Wasm of the process is the HTTP/1 parser of the download library. V8 would compile it again, for speed, in the
 * midst of the first large module, and take 15 MB for that; the bytes of a body only pass by it. To be called before it
 * is loaded.
 */
export function turnOffWasmTiers(): void {
  setFlagsFromString('--no-wasm-tier-up');
  setFlagsFromString('--no-wasm-dynamic-tiering');
}
