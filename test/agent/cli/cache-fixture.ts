import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, utimes, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { FileBlobStore } from '../../../cache/blob-store.ts';
import type { Blob } from '../../../cache/types.ts';
import { ingestBytes } from '../../cache/store-fixture.ts';
import { temporaryFolder } from '../../support/test-end.ts';
import { type CommandResult, runCommand } from './command-process.ts';

const dayMs = 86_400_000;

/** A cache folder as an agent leaves it, and the commands on it. */
export class CacheFixture {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async make(t: TestContext): Promise<CacheFixture> {
    return new CacheFixture(join(await temporaryFolder(t), 'data'));
  }

  /** Keeps a module that was used so long ago. */
  async keep(bytes: Uint8Array, unusedMs = 0): Promise<Blob> {
    const store = await FileBlobStore.open({ folder: this.folder });
    const blob = await ingestBytes(store, bytes);
    await store.close();
    const usedAt = (Date.now() - unusedMs) / 1_000;
    await utimes(blob.path, usedAt, usedAt);
    return blob;
  }

  /** What Envoy accepted last, by resource name. */
  async writeKept(kept: Readonly<Record<string, Blob>>): Promise<void> {
    const records = Object.entries(kept).map(([name, { digest }]) => [
      name,
      { config: '', moduleDigest: digest, keptAtMs: Date.now() },
    ]);
    await this.writeIndex('last-known-good.json', JSON.stringify({ version: 1, records }));
  }

  /** What is known of modules: each was fetched from a repository by a tag. */
  async writeRecords(
    modules: readonly { blob: Blob; repository: string; tag: string; readers?: string[] }[],
  ): Promise<void> {
    const records = modules.flatMap(({ blob, repository, tag, readers = ['anonymous'] }) => {
      const label = `oci://${repository}`;
      const checksum = sha(`${label}:${tag}`);
      const digests = { index: [], manifest: checksum, layer: sha(`layer ${label}`), module: blob.digest };
      const { sizeBytes } = blob;
      return [
        [
          `module ${sha(label)} ${checksum}`,
          { kind: 'module', label, checksum, digests, sizeBytes, readers, fetchedAtMs: 1 },
        ],
        [
          `url ${sha(`${label}:${tag}`)}`,
          { kind: 'url', label: `${label}:${tag}`, checksum, versions: [], fetchedAtMs: 1 },
        ],
      ];
    });
    await this.writeIndex('modules.json', JSON.stringify({ version: 1, records }));
  }

  async writeIndex(name: string, text: string): Promise<void> {
    await mkdir(this.folder, { recursive: true });
    await writeFile(join(this.folder, name), text);
  }

  /** A half-written file of a process that is gone, last written to so long ago. */
  async leaveOrphan(unusedMs = dayMs): Promise<string> {
    const path = join(this.folder, 'ingest', `${process.pid}-1-0123456789abcdef.part`);
    await writeFile(path, 'half');
    const at = (Date.now() - unusedMs) / 1_000;
    await utimes(path, at, at);
    return path;
  }

  async moduleNames(): Promise<readonly string[]> {
    return (await readdir(join(this.folder, 'blobs', 'sha256'))).sort();
  }

  /** Runs `cache <words>`; no agent and no Envoy is asked where the words name none. */
  async run(...words: string[]): Promise<CommandResult> {
    const isAsking = ['ls', 'gc'].includes(words[0] ?? '');
    const ports = ['--status-port=0', '--admin-port=0'].filter(
      (flag) => isAsking && !words.some((word) => word.startsWith(flag.slice(0, -1))),
    );
    return runCommand(['cache', ...words, ...ports, '--data-folder', this.folder]);
  }
}

export function sha(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** A local port that answers every request so. */
export async function startPage(t: TestContext, status: number, text: string): Promise<number> {
  const server = createServer((_, response) => {
    response.writeHead(status).end(text);
  });
  server.listen(0, 'localhost');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}
