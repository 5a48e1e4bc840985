import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { temporaryFolder } from '../../support/test-end.ts';
import { FetchFixture } from './fetch-fixture.ts';
import { ImageRegistry, ociTarGzip, pullSecret } from './image-registry.ts';
import { pluginLayer, sha256, wasmModule } from './module-bytes.ts';
import { startWebServer, type WebServer } from './web-server.ts';

const program = fileURLToPath(new URL('fetching-process.ts', import.meta.url));
const imageCount = 40;
const moduleOf = (number: number): Buffer => wasmModule(`module ${number} ${'x'.repeat(50_000)}`);

/** A registry that asks for a password, with a private image for each number from 1. */
async function privateRegistry(): Promise<WebServer> {
  const registry = new ImageRegistry();
  registry.auth = { kind: 'basic', username: 'ann', password: 'pw' };
  for (let number = 1; number <= imageCount; number += 1) {
    const bytes = await pluginLayer(moduleOf(number));
    registry.image([{ mediaType: ociTarGzip, bytes }], { tags: [`v${number}`] });
  }
  return startWebServer(registry.handle);
}

/** Fetches from `first` on and is killed when so many requests have come; gives the last number that it told. */
async function killedFetches(
  folder: string,
  server: WebServer,
  first: number,
  requestCount: number,
): Promise<number> {
  const child = spawn(process.execPath, [program, folder, server.host, `${first}`, `${imageCount}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const killAt = server.requests.length + requestCount;
  const watch = (): void => {
    if (server.requests.length >= killAt) child.kill('SIGKILL');
  };
  server.server.on('request', watch);
  let told = first - 1;
  for await (const line of createInterface({ input: child.stdout })) told = Number(line);
  const [, signal] = await exited;
  server.server.off('request', watch);
  assert.equal(signal, 'SIGKILL', 'it was killed while it fetched');
  return told;
}

describe('an agent that is killed while it fetches private modules', () => {
  it('leaves whole modules alone, and gives none to whom has not read it', async (t) => {
    const folder = await temporaryFolder(t);
    await using server = await privateRegistry();
    let told = 0;
    // After a challenge, a manifest, in a blob: each is another request.
    for (const requestCount of [1, 2, 3, 4, 5, 9, 14]) {
      told = await killedFetches(folder, server, told + 1, requestCount);
      const blobs = join(folder, 'blobs', 'sha256');
      for (const name of await readdir(blobs).catch(() => []))
        assert.equal(sha256(await readFile(join(blobs, name))), name);
    }
    assert.ok(told > 0, 'some were fetched');

    await using fixture = await FetchFixture.over(folder);
    assert.deepEqual(await fixture.temporaryFileNames(), []);
    for (let number = 1; number <= told + 1; number += 1) {
      const url = `oci://${server.host}/plugin:v${number}`;
      await assert.rejects(fixture.fetch(url), { code: 'unauthorized' });
      const wrong = pullSecret(server.host, 'ann', 'wrong');
      await assert.rejects(fixture.fetch(url, { pullSecret: wrong }), { code: 'unauthorized' });
      const { path, source } = await fixture.fetch(url, { pullSecret: pullSecret(server.host, 'ann', 'pw') });
      assert.deepEqual(await readFile(path), moduleOf(number));
      if (number <= told) assert.equal(source, 'cache', 'what was told as fetched is there');
    }
  });
});
