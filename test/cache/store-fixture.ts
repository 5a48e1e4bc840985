import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { StoreClock } from '../../cache/blob-store.ts';
import type { CacheLog, CacheLogFields } from '../../cache/cache-log.ts';
import {
  type Blob,
  type BlobStore,
  CacheError,
  type CacheErrorCode,
  type Sha256,
} from '../../cache/types.ts';

export function sha256(bytes: Uint8Array): Sha256 {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Bytes that differ by seed at every offset and compress badly. */
export function content(seed: string, sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  for (let offset = 0, block = 0; offset < sizeBytes; block += 1) {
    offset += createHash('sha512').update(`${seed}/${block}`).digest().copy(bytes, offset);
  }
  return bytes;
}

/** Writes the bytes in chunks and commits them. */
export async function ingestBytes(store: BlobStore, bytes: Uint8Array, chunkBytes = 65_536): Promise<Blob> {
  await using ingest = await store.beginIngest({ maxSizeBytes: bytes.length });
  for (let start = 0; start < bytes.length; start += chunkBytes) {
    await ingest.write(bytes.subarray(start, start + chunkBytes));
  }
  return await ingest.commit(sha256(bytes));
}

/** Asserts that the work fails with a CacheError of this code and returns it. */
export async function failsWith(code: CacheErrorCode, work: Promise<unknown>): Promise<CacheError> {
  let seen: unknown = 'no failure';
  try {
    await work;
  } catch (error) {
    seen = error;
  }
  assert.ok(seen instanceof CacheError, `expected a CacheError ${code}, got ${String(seen)}`);
  assert.equal(seen.code, code, seen.message);
  return seen;
}

/** Every regular file under the names of blobs, with what its bytes really are. */
export async function namedFiles(folder: string): Promise<readonly { name: string; digest: Sha256 }[]> {
  const blobs = join(folder, 'blobs', 'sha256');
  const names = await readdir(blobs);
  return Promise.all(
    names.sort().map(async (name) => ({ name, digest: sha256(await readFile(join(blobs, name))) })),
  );
}

export async function ingestNames(folder: string): Promise<readonly string[]> {
  return readdir(join(folder, 'ingest'));
}

/** Time that moves only when told. Starts at the real time, since files carry it. */
export class ManualClock implements StoreClock {
  #epochMs = Date.now();
  #monotonicMs = 1_000;

  epochMs(): number {
    return this.#epochMs;
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  advance(durationMs: number): void {
    this.#epochMs += durationMs;
    this.#monotonicMs += durationMs;
  }
}

export interface CollectedLine {
  readonly level: 'debug' | 'info' | 'warn';
  readonly message: string;
  readonly fields: CacheLogFields;
}

/** A log that keeps its lines. */
export class CollectedLog implements CacheLog {
  readonly lines: CollectedLine[] = [];

  debug(message: string, fields: CacheLogFields = {}): void {
    this.lines.push({ level: 'debug', message, fields });
  }

  info(message: string, fields: CacheLogFields = {}): void {
    this.lines.push({ level: 'info', message, fields });
  }

  warn(message: string, fields: CacheLogFields = {}): void {
    this.lines.push({ level: 'warn', message, fields });
  }

  warnings(part: string): readonly CollectedLine[] {
    return this.lines.filter(({ level, message }) => level === 'warn' && message.includes(part));
  }
}
