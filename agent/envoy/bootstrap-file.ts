import { randomUUID } from 'node:crypto';
import { chown, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { EnvoyConfig } from '../config/agent-config.ts';
import { describeError } from '../log.ts';
import type { JsonObject } from './json.ts';

/** A bootstrap could not be written: its reader must not be started. */
export class BootstrapFileError extends Error {
  override readonly name = 'BootstrapFileError';
}

/**
 * Writes the document to `path`, readable by Envoy's user alone: node metadata may hold what others should not read.
 * The folder is made when missing. Throws BootstrapFileError. Disposing removes the file, as when Envoy has ended.
 */
export async function writeBootstrapFile(
  path: string,
  document: JsonObject,
  runAs: EnvoyConfig['runAs'],
): Promise<AsyncDisposable> {
  await replaceFile(path, { text: `${JSON.stringify(document)}\n`, mode: 0o600, runAs }, (reason, cause) => {
    const remedy = 'the folder (ProxyConfig configPath) must be writable';
    return new BootstrapFileError(`cannot write the bootstrap of Envoy to ${path}: ${reason}; ${remedy}`, {
      cause,
    });
  });
  return { [Symbol.asyncDispose]: async () => rm(path, { force: true }) };
}

/**
 * Writes the bootstrap of proxyless gRPC, readable by all: the application runs as another user. It stays when the
 * agent ends, as that of the stock agent does. Throws BootstrapFileError.
 */
export async function writeGrpcBootstrapFile(path: string, document: JsonObject): Promise<void> {
  const text = JSON.stringify(document, undefined, 2);
  await replaceFile(path, { text, mode: 0o644, runAs: undefined }, (reason, cause) => {
    const remedy =
      'name a path in a writable folder with GRPC_XDS_BOOTSTRAP, or set it empty for no such file';
    return new BootstrapFileError(`cannot write the gRPC bootstrap to ${path}: ${reason}; ${remedy}`, {
      cause,
    });
  });
}

/** Readers see the old file or the new one, never a part. */
async function replaceFile(
  path: string,
  file: { readonly text: string; readonly mode: number; readonly runAs: EnvoyConfig['runAs'] },
  failure: (reason: string, cause: unknown) => BootstrapFileError,
): Promise<void> {
  const { text, mode, runAs } = file;
  const temporary = `${path}.${randomUUID()}`;
  try {
    const madeFolder = await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeFile(temporary, text, { mode, flag: 'wx' });
    if (runAs !== undefined) {
      if (madeFolder !== undefined) await chown(dirname(path), runAs.userId, runAs.groupId);
      await chown(temporary, runAs.userId, runAs.groupId);
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw failure(describeError(error), error);
  }
}
