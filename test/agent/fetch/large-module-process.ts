import { readFileSync, writeFileSync } from 'node:fs';
import { preflightModule } from '../../../agent/wasm/preflight/preflight.ts';
import { FetchFixture } from './fetch-fixture.ts';

/**
 * Fetches the module of the first argument and judges it as it would be before it is offered to Envoy; then writes by
 * how many bytes the memory of the process went up at its highest, as JSON. A process of its own, so that nothing else
 * counts. Linux only.
 */
const [url = ''] = process.argv.slice(2);
await using fixture = await FetchFixture.open({ config: { maxModuleBytes: 268_435_456 } });
// As in an agent that waits for its first push.
await fixture.source.expectPush();

function memoryBytes(field: 'VmRSS' | 'VmHWM'): number {
  const [, kib] =
    new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'latin1')) ?? [];
  if (kib === undefined) throw new Error(`/proc/self/status has no ${field}`);
  return Number(kib) * 1024;
}

// Sets the high-water mark back to what is used now (proc(5)).
writeFileSync('/proc/self/clear_refs', '5');
const idleBytes = memoryBytes('VmRSS');
const fetched = await fixture.fetch(url, { timeoutMs: 300_000 });
const verdict = await preflightModule(fetched.path, { signal: new AbortController().signal });
const growthBytes = memoryBytes('VmHWM') - idleBytes;
const { sizeBytes, digest } = fetched;
process.stdout.write(JSON.stringify({ growthBytes, sizeBytes, digest, verdict: verdict.kind }));
