import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { access, constants, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import type { ImageLayout } from '../../support/image-layout.ts';
import { type PushedImage, Registry } from '../../support/registry.ts';
import { pluginModule } from '../../support/wasm-fixtures/plugin-module.ts';
import { customSectionHeader } from '../../support/wasm-section.ts';

const sizeBytes = 200 * 1024 * 1024;
const maxGrowthBytes = 20 * 1024 * 1024;
const repository = 'team/plugin';

/** A plugin that Envoy takes, made large by a custom section that does not compress. */
async function writeLargePlugin(path: string): Promise<void> {
  const plugin = pluginModule();
  const header = customSectionHeader('large', sizeBytes - plugin.byteLength);
  assert.ok(header);
  await using file = await open(path, 'wx');
  await file.write(plugin);
  await file.write(header);
  const block = Buffer.alloc(1024 * 1024);
  for (let left = sizeBytes - plugin.byteLength - header.byteLength; left > 0; left -= block.byteLength) {
    await file.write(randomFillSync(block), 0, Math.min(left, block.byteLength));
  }
}

/** Why memory cannot be measured here; undefined where it can. */
async function missingMeasure(): Promise<string | undefined> {
  try {
    await access('/proc/self/clear_refs', constants.W_OK);
    return undefined;
  } catch {
    return 'the high-water mark of a process cannot be set back here (/proc/self/clear_refs)';
  }
}

const missing = await missingMeasure();

describe('a module of 200 MB', { skip: missing ?? false }, () => {
  const images = new Map<ImageLayout, PushedImage>();
  let folder = '';
  let registry!: Registry;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ferry-large-module-'));
    const wasm = join(folder, 'large.wasm');
    await writeLargePlugin(wasm);
    registry = await Registry.start();
    for (const layout of ['compat', 'oci-artifact'] as const) {
      images.set(layout, await registry.pushImage({ repository, tag: layout, layout, wasm }));
    }
  });

  after(async () => {
    await registry.close();
    await rm(folder, { recursive: true, force: true });
  });

  const ways = [
    ['compat', 'from a registry, packed in tar and gzip', (image: PushedImage) => image.url],
    ['oci-artifact', 'from a registry, as it is', (image: PushedImage) => image.url],
    ['compat', 'over HTTP, packed in tar and gzip', blobUrl],
    ['oci-artifact', 'over HTTP, as it is', blobUrl],
  ] as const;
  for (const [layout, how, urlOf] of ways) {
    it(`${how}, takes less than 20 MB above an idle agent, preflight included`, async (t) => {
      const image = images.get(layout);
      assert.ok(image);
      const script = new URL('large-module-process.ts', import.meta.url).pathname;
      const { stdout } = await promisify(execFile)(process.execPath, [script, urlOf(image)]);
      const found = JSON.parse(stdout) as {
        growthBytes: number;
        sizeBytes: number;
        digest: string;
        verdict: string;
      };
      t.diagnostic(`memory went up by ${(found.growthBytes / 1e6).toFixed(1)} MB`);
      assert.deepEqual(
        [found.sizeBytes, found.digest, found.verdict],
        [sizeBytes, image.moduleDigest, 'accepted'],
      );
      assert.ok(found.growthBytes < maxGrowthBytes, `memory went up by ${found.growthBytes} bytes`);
    });
  }

  /** The layer alone, as a file of a web server. */
  function blobUrl(image: PushedImage): string {
    return `http://${registry.host}/v2/${repository}/blobs/sha256:${image.layerDigest}`;
  }
});
