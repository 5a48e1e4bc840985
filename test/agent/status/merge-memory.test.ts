import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { scrapeSize, startLargeEnvoy } from './large-envoy.ts';
import { openMetricsType, startPage } from './status-fixture.ts';

const pageBytes = 50 * 1024 * 1024;
const warmUpBytes = 2 * 1024 * 1024;
const maxGrowthKibibytes = 10 * 1024;

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
      await scrapeSize(`http://127.0.0.1:${port}/metrics`, warmUpBytes, encoding);
      const before = await askPeak(child);
      const wireBytes = await scrapeSize(`http://127.0.0.1:${port}/metrics`, pageBytes, encoding);
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
