import { readFile } from 'node:fs/promises';

/** The part of the JavaScript interface that is used; the compiler's library types of it come only with the DOM. */
interface WebAssemblyInterface {
  validate(bytes: Uint8Array): boolean;
}

const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: WebAssemblyInterface };

/**
 * Whether the V8 of this process takes the module's code. Reads the whole file and blocks for about 1 ms a megabyte;
 * nothing is compiled. Rejects with the system's error, and with the signal's reason.
 */
export async function validatesInV8(
  path: string,
  options: { readonly signal: AbortSignal },
): Promise<boolean> {
  return WebAssembly.validate(await readFile(path, options));
}
