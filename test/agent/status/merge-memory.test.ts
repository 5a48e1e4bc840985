import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startLargeEnvoy } from './large-envoy.ts';
import { openMetricsType, startPage } from './status-fixture.ts';

const pageBytes = 50 * 1024 * 1024;
const warmUpBytes = 2 * 1024 * 1024;
const maxGrowthKibibytes = 10 * 1024;

/** Scrapes and throws the page away; gives its size on the wire. */
async function scrape(port: number, bytes: number, encoding: string): Promise<number> {
  const outgoing = request({
    host: '127.0.0.1',
    port,
    path: `/metrics?bytes=${bytes}`,
    agent: false,
    headers: { 'accept-encoding': encoding, 'x-prometheus-scrape-timeout-seconds': '60' },
  }).end();
  const [response] = (await once(outgoing, 'response')) as [AsyncIterable<Buffer>];
  let wireBytes = 0;
  for await (const chunk of response) wireBytes += chunk.length;
  return wireBytes;
}

async function askPeak(child: ChildProcess): Promise<number> {
  child.send('peak');
  const [report] = (await once(child, 'message')) as [{ peakKibibytes: number; errors: readonly string[] }];
  assert.deepEqual(report.errors, []);
  return report.peakKibibytes;
}

for (const [format, encoding] of [
  ['text', 'identity'],
  ['text', 'gzip'],
  ['text', 'zstd'],
  ['OpenMetrics', 'identity'],
] as const) {
  test(`a 50 MB page of Envoy as ${format}, ${encoding}, raises memory by less than 10 MB`, async (context) => {
    await using envoy = await startLargeEnvoy();
    await using application = await startPage('# EOF\n', { 'content-type': openMetricsType });
    const ports = format === 'text' ? [envoy.port] : [envoy.port, application.port];
    const child = fork(fileURLToPath(new URL('merge-memory-child.ts', import.meta.url)), ports.map(String));
    try {
      const [{ port }] = (await once(child, 'message')) as [{ port: number }];
      await scrape(port, warmUpBytes, encoding);
      const before = await askPeak(child);
      const wireBytes = await scrape(port, pageBytes, encoding);
      const growth = (await askPeak(child)) - before;
      context.diagnostic(`${wireBytes} bytes on the wire, ${growth} KiB more memory`);
      assert.ok(encoding !== 'identity' || wireBytes >= pageBytes, `${wireBytes} bytes`);
      assert.ok(growth < maxGrowthKibibytes, `memory has grown by ${growth} KiB`);
    } finally {
      const exited = once(child, 'exit');
      child.send('close');
      await exited;
    }
  });
}
