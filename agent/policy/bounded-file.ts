import { open, stat } from 'node:fs/promises';

/** Largest policy file and largest file that it names: what a ConfigMap or Secret can hold (Kubernetes, 1 MiB). */
export const maxFileBytes = 1024 * 1024;

export type FileReading =
  | { readonly kind: 'read'; readonly text: string }
  /** `problem` continues the file's name: what was seen and what to do. */
  | { readonly kind: 'unreadable'; readonly problem: string };

/** Reads a small text file. Never throws for what is on disk: a missing file, a folder, a pipe, no UTF-8. */
export async function readBoundedFile(path: string): Promise<FileReading> {
  try {
    // A pipe would never come to its end.
    if (!(await stat(path)).isFile()) return unreadable('is no regular file; name a file');
    await using file = await open(path, 'r');
    const buffer = Buffer.allocUnsafe(maxFileBytes + 1);
    let sizeBytes = 0;
    for (;;) {
      const { bytesRead } = await file.read(buffer, sizeBytes, buffer.byteLength - sizeBytes);
      sizeBytes += bytesRead;
      if (bytesRead === 0 || sizeBytes > maxFileBytes) break;
    }
    if (sizeBytes > maxFileBytes) return unreadable(`is larger than ${maxFileBytes} bytes; make it smaller`);
    const text = new TextDecoder('utf-8', { fatal: true }).decode(buffer.subarray(0, sizeBytes));
    return { kind: 'read', text };
  } catch (error) {
    return unreadable(readFailure(error));
  }
}

/** True for a folder that can be looked into. */
export async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

function readFailure(error: unknown): string {
  const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return 'does not exist; check the path and the mount';
    case 'EACCES':
    case 'EPERM':
      return 'may not be read by the agent; check its mode and owner';
    case 'ERR_ENCODING_INVALID_ENCODED_DATA':
      return 'is no UTF-8 text; save it as UTF-8';
    default:
      return `cannot be read (${String(code ?? error)}); check the path and the mount`;
  }
}

function unreadable(problem: string): FileReading {
  return { kind: 'unreadable', problem };
}
