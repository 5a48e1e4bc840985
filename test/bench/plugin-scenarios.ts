import { stat } from 'node:fs/promises';
import type { LoadSide } from './load-side.ts';
import { peakRssMib, resetPeakRss, rssMib } from './process-usage.ts';
import type { Effort, Measurement } from './relay-scenarios.ts';
import { median } from './statistics.ts';
import type { AgentSubject, RunningAgent } from './subject.ts';

/** Plugins of the push in which all name one URL. */
export const sharedUrlPluginCount = 20;
export const sharedUrlModuleBytes = 1_000_000;

/** A process pays once for its first extension config; this module pays it. */
const firstModuleBytes = 100_000;
/** Any push will do to open the stream. */
const openingPushBytes = 1000;
const nsInMs = 1_000_000;

/** One push and what came of it. */
export interface Conversion {
  readonly durationMs: number;
  readonly downloadCount: number;
  /** As the agent named them in the rewritten configs. */
  readonly modulePaths: readonly string[];
}

/** Conversions of one plugin in a fresh process: the very first, then one of this size cold, then warm. */
export async function measureConversion(
  load: LoadSide,
  subject: AgentSubject,
  sizeBytes: number,
  effort: Effort,
): Promise<Measurement> {
  return await withPlugins(load, subject, ['plugin'], async (agent, convert) => {
    const first = await convert(await serveModule(load, firstModuleBytes), firstModuleBytes);
    const module = await serveModule(load, sizeBytes);
    resetPeakRss(agent.pid);
    const rssBefore = rssMib(agent.pid);
    const cold = await convert(module, sizeBytes);
    const peakRise = peakRssMib(agent.pid) - rssBefore;
    requireDownloads(first, 1);
    requireDownloads(cold, 1);
    const warmMs: number[] = [];
    for (let i = 0; i < effort.warmConversionCount; i += 1) {
      const warm = await convert(module, sizeBytes);
      requireDownloads(warm, 0);
      warmMs.push(warm.durationMs);
    }
    return {
      'conversion-first': first.durationMs,
      'conversion-cold': cold.durationMs,
      'conversion-warm': median(warmMs),
      'conversion-peak-rss-rise': peakRise,
    };
  });
}

/** One push of many plugins that name one URL, to a process that has not seen it. */
export async function measureSharedUrl(load: LoadSide, subject: AgentSubject): Promise<Measurement> {
  return await withPlugins(load, subject, pluginNames(sharedUrlPluginCount), async (_agent, convert) => {
    const url = await serveModule(load, sharedUrlModuleBytes);
    const { downloadCount, durationMs } = await convert(url, sharedUrlModuleBytes);
    return { 'shared-url-downloads': downloadCount, 'shared-url-conversion': durationMs };
  });
}

/** Modules of one push that all have to be fetched. */
export const manyModulesCount = 40;
export const manyModulesBytes = 2_000_000;

/** The first pull of an image of this size, by a process that has pulled a small one. */
export async function measureImageConversion(
  load: LoadSide,
  subject: AgentSubject,
  sizeBytes: number,
): Promise<Measurement> {
  return await withPlugins(load, subject, ['plugin'], async (_agent, convert) => {
    await convert(
      (await load.origin.call('serveImage', { sizeBytes: firstModuleBytes })).url,
      firstModuleBytes,
    );
    const { url } = await load.origin.call('serveImage', { sizeBytes });
    const { durationMs, downloadCount } = await convert(url, sizeBytes);
    if (downloadCount === 0) throw new Error('A first pull of an image downloaded nothing.');
    return { 'oci-conversion-cold': durationMs };
  });
}

/** Pushes of ever more plugins, all with one module that is cached. */
export async function measureResourceCounts(
  load: LoadSide,
  subject: AgentSubject,
  effort: Effort,
): Promise<Measurement> {
  const measured: Record<string, number> = {};
  for (const count of [1, 10, 100] as const) {
    const durationMs = await withPlugins(load, subject, pluginNames(count), async (_agent, convert) => {
      const url = await serveModule(load, firstModuleBytes);
      await convert(url, firstModuleBytes);
      const warmMs: number[] = [];
      for (let i = 0; i < effort.warmConversionCount; i += 1) {
        const warm = await convert(url, firstModuleBytes);
        requireDownloads(warm, 0);
        warmMs.push(warm.durationMs);
      }
      return median(warmMs);
    });
    measured[`conversion-of-${count}`] = durationMs;
  }
  return measured;
}

/** One push of many plugins with a module each, to a process that has seen none of them. */
export async function measureManyModules(load: LoadSide, subject: AgentSubject): Promise<Measurement> {
  return await withPlugins(load, subject, pluginNames(manyModulesCount), async (agent, convert) => {
    const { urls } = await load.origin.call('serveMany', {
      sizeBytes: manyModulesBytes,
      count: manyModulesCount,
    });
    const conversion = await convert(urls, manyModulesBytes);
    requireDownloads(conversion, manyModulesCount);
    return {
      'many-modules-conversion': conversion.durationMs,
      'many-modules-peak-rss': peakRssMib(agent.pid),
    };
  });
}

function pluginNames(count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) => `plugin-${index}`);
}

/** Pushes all plugins with this URL, or each with its own, and waits until the fake Envoy has them rewritten. */
export type Convert = (url: string | readonly string[], sizeBytes: number) => Promise<Conversion>;

/** Measures with a fresh agent whose stream is open and asks for these plugins. */
export async function withPlugins<Result>(
  load: LoadSide,
  subject: AgentSubject,
  names: readonly string[],
  measure: (agent: RunningAgent, convert: Convert) => Promise<Result>,
): Promise<Result> {
  const expected = await load.plan(openingPushBytes, 1);
  return await load.withAgent(subject, async (agent) => {
    await load.client.call('open', { target: load.target(agent), mode: load.mode, expected });
    await load.client.call('subscribePlugins', names);
    let revision = 0;
    return await measure(agent, async (url, sizeBytes) => {
      revision += 1;
      await load.origin.call('takeRequestCount', undefined);
      await load.client.call('expectPlugins', { names, revision });
      const { pushedAtNs } = await load.server.call(
        'pushPlugins',
        names.map((name, index) => ({
          name,
          url: typeof url === 'string' ? url : (url[index] ?? ''),
          revision,
        })),
      );
      const { receivedAtNs, modulePaths } = await load.client.call('takePlugins', undefined);
      for (const path of modulePaths) await requireModule(agent, path, sizeBytes);
      return {
        durationMs: Number(receivedAtNs - pushedAtNs) / nsInMs,
        downloadCount: await load.origin.call('takeRequestCount', undefined),
        modulePaths,
      };
    });
  });
}

/** Makes a module that no agent has seen; gives its URL. */
export async function serveModule(load: LoadSide, sizeBytes: number): Promise<string> {
  const { url } = await load.origin.call('serve', { sizeBytes });
  return url;
}

/** A figure for a conversion that was not cold, or not warm, would be wrong. */
function requireDownloads(conversion: Conversion, wantedCount: number): void {
  if (conversion.downloadCount !== wantedCount) {
    throw new Error(`A conversion took ${conversion.downloadCount} downloads, not ${wantedCount}.`);
  }
}

/** The file that the config names must be the module, seen from the root of the agent's own file system. */
async function requireModule(agent: RunningAgent, path: string, sizeBytes: number): Promise<void> {
  const { size } = await stat(`/proc/${agent.pid}/root${path}`);
  if (size !== sizeBytes) throw new Error(`The module file ${path} has ${size} bytes, not ${sizeBytes}.`);
}
