import { randomUUID } from 'node:crypto';
import { chown, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { EnvoyConfig } from '../config/agent-config.ts';
import { describeError } from '../log.ts';
import type { JsonObject } from './json.ts';

/** Envoy's bootstrap could not be written: Envoy must not be started. */
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
  const temporary = `${path}.${randomUUID()}`;
  try {
    const madeFolder = await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeFile(temporary, `${JSON.stringify(document)}\n`, { mode: 0o600, flag: 'wx' });
    if (runAs !== undefined) {
      if (madeFolder !== undefined) await chown(dirname(path), runAs.userId, runAs.groupId);
      await chown(temporary, runAs.userId, runAs.groupId);
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw new BootstrapFileError(
      `cannot write the bootstrap of Envoy to ${path}: ${describeError(error)}; ` +
        'the folder (ProxyConfig configPath) must be writable',
      { cause: error },
    );
  }
  return { [Symbol.asyncDispose]: async () => rm(path, { force: true }) };
}
