import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { describeError } from '../log.ts';
import { refusal, usageError } from './operator-run.ts';

/** What an operator asks about. */
export type ModuleReference =
  /** `oci://`, `https://` or `http://`. */
  | { readonly kind: 'url'; readonly url: string }
  /** A folder with an OCI image layout. Absolute. */
  | { readonly kind: 'layout'; readonly folder: string }
  /** A module file. Absolute. */
  | { readonly kind: 'file'; readonly path: string };

/** Reads the argument of a command: a URL by its scheme, else a path. Throws CommandError. */
export async function readModuleReference(text: string): Promise<ModuleReference> {
  if (/^(?:oci|https?):/i.test(text)) return { kind: 'url', url: text };
  const [, scheme] = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text) ?? [];
  if (scheme !== undefined && scheme.toLowerCase() !== 'file') {
    throw usageError(`the scheme of ${quoted(text)} is not known: use oci://, https://, http:// or a path`);
  }
  const path = resolve(text.replace(/^file:\/\//i, ''));
  const kind = await kindOf(path, text);
  if (kind === 'file') return { kind: 'file', path };
  if ((await kindOf(join(path, 'oci-layout'), undefined)) === 'file') return { kind: 'layout', folder: path };
  throw refusal(
    `the folder ${path} is no OCI image layout: it has no file "oci-layout"; name such a folder, a .wasm file or a URL`,
  );
}

/** `given` is undefined where the path need not exist. */
async function kindOf(path: string, given: string | undefined): Promise<'file' | 'folder' | 'absent'> {
  try {
    const stats = await stat(path);
    if (stats.isDirectory()) return 'folder';
    if (stats.isFile()) return 'file';
    throw refusal(`${path} is neither a file nor a folder; name a .wasm file, an OCI layout folder or a URL`);
  } catch (error) {
    const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === undefined) throw error;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') {
      throw refusal(`cannot look at ${path}: ${describeError(error)}`, { cause: error });
    }
    if (given === undefined) return 'absent';
    throw usageError(
      `there is no file or folder ${path}${looksLikeImage(given) ? `; for the image write oci://${given}` : ''}`,
    );
  }
}

/** As people copy it from a registry: `ghcr.io/acme/auth:v1`. */
function looksLikeImage(text: string): boolean {
  return /^[a-z0-9.-]+(?::\d+)?(?:\/[a-z0-9._-]+)+(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?$/i.test(text);
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 200));
}
