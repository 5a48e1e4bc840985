import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { createGzip } from 'node:zlib';
import { wasmHeader, wasmModule } from './module-bytes.ts';
import { answer, startWebServer } from './web-server.ts';

const largeBytes = 100 * 1024 * 1024;
const maxGrowthBytes = 20 * 1024 * 1024;

async function writeLarge(response: ServerResponse, isPacked: boolean): Promise<void> {
  const target = isPacked ? createGzip({ level: 1 }) : response;
  if (isPacked) target.pipe(response);
  target.write(wasmHeader);
  const block = Buffer.alloc(64 * 1024);
  for (let left = largeBytes - wasmHeader.byteLength; left > 0; left -= block.byteLength) {
    if (!target.write(block.subarray(0, Math.min(left, block.byteLength)))) await once(target, 'drain');
  }
  target.end();
}

describe('a module of 100 MB', () => {
  for (const isPacked of [false, true]) {
    it(`${isPacked ? 'in gzip' : 'as it is'} is fetched without being held in memory`, async () => {
      await using server = await startWebServer(async (request, response) => {
        if (request.target === '/small') answer(response, 200, wasmModule());
        else await writeLarge(response.writeHead(200), isPacked);
      });
      const script = new URL('memory-process.ts', import.meta.url).pathname;
      const { stdout } = await promisify(execFile)(process.execPath, [script, server.url]);
      const { growthBytes, sizeBytes } = JSON.parse(stdout) as { growthBytes: number; sizeBytes: number };
      assert.equal(sizeBytes, largeBytes);
      assert.ok(growthBytes < maxGrowthBytes, `memory grew by ${growthBytes} bytes`);
    });
  }
});
