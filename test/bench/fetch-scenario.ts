/** How fast a module comes, beside what the machine can do: in one run, so that the ratios hold anywhere. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { LoadSide } from './load-side.ts';
import { serveModule, withPlugins } from './plugin-scenarios.ts';
import type { Measurement } from './relay-scenarios.ts';
import type { AgentSubject } from './subject.ts';

/** A process pays once for its first download; this module pays it. */
const firstModuleBytes = 100_000;
const bytesInMegabyte = 1_000_000;
const msInSecond = 1000;

/**
 * One cold fetch over HTTP by a fresh agent, then the same file by `curl | sha256sum`, then the digest of the same bytes
 * in memory. Throws Error when curl or sha256sum is not there, or when they see other bytes.
 */
export async function measureFetch(
  load: LoadSide,
  subject: AgentSubject,
  sizeBytes: number,
): Promise<Measurement> {
  return await withPlugins(load, subject, ['plugin'], async (agent, convert) => {
    await convert(await serveModule(load, firstModuleBytes), firstModuleBytes);
    const url = await serveModule(load, sizeBytes);
    const { durationMs: fetchMs, modulePaths } = await convert(url, sizeBytes);
    const [path = ''] = modulePaths;
    const bytes = await readFile(`/proc/${agent.pid}/root${path}`);
    const { durationMs: digestMs, digest } = digestOf(bytes);
    const curlMs = await timeCurl(url, digest);
    return {
      'fetch-throughput': sizeBytes / bytesInMegabyte / (fetchMs / msInSecond),
      'fetch-to-curl': curlMs / fetchMs,
      'fetch-to-digest': digestMs / fetchMs,
    };
  });
}

function digestOf(bytes: Uint8Array): { readonly durationMs: number; readonly digest: string } {
  const startedMs = performance.now();
  const digest = createHash('sha256').update(bytes).digest('hex');
  return { durationMs: performance.now() - startedMs, digest };
}

async function timeCurl(url: string, digest: string): Promise<number> {
  const startedMs = performance.now();
  const { stdout } = await promisify(execFile)('sh', ['-c', 'curl -sSf "$0" | sha256sum', url]);
  const durationMs = performance.now() - startedMs;
  if (!stdout.startsWith(digest)) {
    throw new Error(`curl ${url} | sha256sum gave ${stdout.trim()}, the agent's file is ${digest}.`);
  }
  return durationMs;
}
