import { type BigIntStats, statSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { isOnLocalDisk } from '../../cache/local-disk.ts';

/** A file as it was last read. */
export interface FileContent<Value> {
  /** Changes with the file, also when a mounted secret is swapped under its name. */
  readonly stamp: string;
  readonly value: Value;
}

/** Why a file is not used. `missing` files may come later. */
export type FileReading<Value> =
  | ({ readonly kind: 'read' } & FileContent<Value>)
  | { readonly kind: 'missing' };

/** Reads one small file again when it has changed, and parses it once for each change. */
export class WatchedFile<Value> {
  readonly #path: string;
  readonly #maxSizeBytes: number;
  readonly #parse: (text: string) => Value;
  #content: FileContent<Value> | undefined;
  /** Known since the first `read`. */
  #isLocal: boolean | undefined;

  constructor(
    path: string,
    options: { readonly maxSizeBytes: number; readonly parse: (text: string) => Value },
  ) {
    this.#path = path;
    this.#maxSizeBytes = options.maxSizeBytes;
    this.#parse = options.parse;
  }

  /**
   * What `read` would give, where the file has not changed since or is not there. Undefined says nothing; it is that
   * always before the first `read`, and where the file is on a volume that may hang.
   */
  atHand(): FileReading<Value> | undefined {
    if (this.#isLocal !== true) return undefined;
    let stats: BigIntStats | undefined;
    try {
      stats = statSync(this.#path, { bigint: true, throwIfNoEntry: false });
    } catch {
      return undefined;
    }
    if (stats === undefined) return { kind: 'missing' };
    return this.#content?.stamp === stampOf(stats) ? { kind: 'read', ...this.#content } : undefined;
  }

  /** Throws RangeError when it is too large, what the file system throws, and what `parse` throws. */
  async read(): Promise<FileReading<Value>> {
    const stamp = await this.#stamp();
    this.#isLocal ??= await isOnLocalDisk(this.#path);
    if (stamp === undefined) return { kind: 'missing' };
    if (this.#content?.stamp !== stamp) {
      this.#content = { stamp, value: this.#parse(await readFile(this.#path, 'utf8')) };
    }
    return { kind: 'read', ...this.#content };
  }

  async #stamp(): Promise<string | undefined> {
    try {
      const stats = await stat(this.#path, { bigint: true });
      if (!stats.isFile()) throw new RangeError('it is not a regular file');
      if (stats.size > this.#maxSizeBytes) {
        throw new RangeError(`it is larger than ${this.#maxSizeBytes} bytes`);
      }
      return stampOf(stats);
    } catch (error) {
      const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
      if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
      throw error;
    }
  }
}

function stampOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
}
