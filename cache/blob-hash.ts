import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { type FileIdentity, identityOf, isSameFile } from './blob-folder.ts';
import { storageFailure } from './storage-failure.ts';
import { CacheError, type Sha256 } from './types.ts';

/** Hashing runs on the main thread: a slice of this size holds it for less than a millisecond. */
export const sliceSizeBytes = 256 * 1024;

/** What the bytes under a path are. `identity` is undefined when the file was written to while it was read. */
export interface HashedFile {
  readonly digest: Sha256;
  readonly sizeBytes: number;
  readonly identity: FileIdentity | undefined;
}

/**
 * SHA-256 of a regular file, streamed through one buffer. Links are not followed, and a pipe put in the file's place
 * does not block. Throws CacheError (`aborted` when the signal fires); the cause tells a missing file.
 */
export async function hashFile(path: string, options: { readonly signal: AbortSignal }): Promise<HashedFile> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const before = await handle.stat({ bigint: true });
    if (!before.isFile())
      throw new CacheError('io', `cannot read ${path}: it is not a regular file; remove it`);
    const { digest, sizeBytes } = await hashStream(handle, path, options.signal);
    const identity = identityOf(await handle.stat({ bigint: true }));
    return {
      digest,
      sizeBytes,
      identity: isSameFile(identityOf(before), identity) ? identity : undefined,
    };
  } catch (error) {
    throw storageFailure(error, 'read', path);
  } finally {
    await handle?.close();
  }
}

async function hashStream(
  handle: FileHandle,
  path: string,
  signal: AbortSignal,
): Promise<{ readonly digest: Sha256; readonly sizeBytes: number }> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafeSlow(sliceSizeBytes);
  let sizeBytes = 0;
  for (;;) {
    if (signal.aborted) {
      throw new CacheError('aborted', `stopped verifying ${path}: the cache is closing`, {
        cause: signal.reason,
      });
    }
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, sizeBytes);
    if (bytesRead === 0) return { digest: hash.digest('hex'), sizeBytes };
    hash.update(buffer.subarray(0, bytesRead));
    sizeBytes += bytesRead;
  }
}
