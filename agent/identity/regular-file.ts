import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { describeError } from '../log.ts';
import { IdentityError } from './identity-error.ts';

/** A CA bundle of a system is a quarter of this. */
const maxFileBytes = 1024 * 1024;

/**
 * The contents of a regular file, links followed. The path may come from any client of the SDS socket, so a device, a
 * pipe or an endless file must do no harm. Throws IdentityError `file`.
 */
export async function readRegularFile(path: string): Promise<Buffer> {
  try {
    // Without O_NONBLOCK, opening a pipe waits for its writer.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const { size } = await checkKind(file, path);
    const contents = Buffer.alloc(Math.min(size, maxFileBytes) + 1);
    let readBytes = 0;
    for (;;) {
      const { bytesRead } = await file.read(contents, readBytes, contents.length - readBytes);
      readBytes += bytesRead;
      if (bytesRead === 0 || readBytes === contents.length) break;
    }
    if (readBytes > size || readBytes > maxFileBytes) {
      throw new IdentityError('file', `${path} grew while it was read`);
    }
    return contents.subarray(0, readBytes);
  } catch (error) {
    if (error instanceof IdentityError) throw error;
    throw new IdentityError('file', `failed to read ${path}: ${describeError(error)}`, { cause: error });
  }
}

async function checkKind(
  file: Awaited<ReturnType<typeof open>>,
  path: string,
): Promise<{ readonly size: number }> {
  const found = await file.stat();
  if (!found.isFile()) throw new IdentityError('file', `${path} is not a regular file`);
  if (found.size > maxFileBytes) {
    throw new IdentityError('file', `${path} has ${found.size} bytes, the bound is ${maxFileBytes} bytes`);
  }
  return found;
}
