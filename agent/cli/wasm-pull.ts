import { join, resolve } from 'node:path';
import { FileBlobStore } from '../../cache/blob-store.ts';
import { FileRecordIndex } from '../../cache/record-index.ts';
import { MetricRegistry } from '../../metrics/registry.ts';
import { WasmMetrics } from '../../metrics/wasm-metrics.ts';
import { maxCacheRecordCount, parseCacheRecord } from '../fetch/cache-records.ts';
import { CachedModuleSource } from '../fetch/module-source.ts';
import { displayUrl } from '../fetch/module-url.ts';
import { FetchError, type FetchedModule } from '../fetch/types.ts';
import { LogRoot } from '../log.ts';
import { fetchRules } from '../policy/fetch-rules.ts';
import { type AllowedModule, decideModule, refuseDigests } from '../policy/policy.ts';
import { sizeWords } from '../status/plugin-words.ts';
import { cacheRecordsFile } from '../wasm/data-files.ts';
import { preflightModule } from '../wasm/preflight/preflight.ts';
import { envoyMaxMemoryPages } from '../wasm/preflight/verdict.ts';
import { orphanAgeMs } from './cache-content.ts';
import { DownloadProgress } from './download-progress.ts';
import { type FetchInputs, readFetchInputs } from './fetch-inputs.ts';
import { allDigests } from './module-inspector.ts';
import { exitCodes, flagText, isFlagSet, type OperatorFlags, refusal, usageError } from './operator-run.ts';
import { visible } from './terminal-text.ts';

/**
 * `wasm pull`: fetches a module into the cache folder by the agent's own path, with its checks: policy, signature,
 * pin and preflight. An agent that runs on the folder finds it there. Throws CommandError.
 */
export async function pullWasm(url: string, flags: OperatorFlags, signal: AbortSignal): Promise<number> {
  if (!/^(?:oci|https?):/i.test(url)) {
    throw usageError(
      `${JSON.stringify(url.slice(0, 200))} is no URL of a module: use oci://registry/repository:tag, https:// or http://`,
    );
  }
  const inputs = await readFetchInputs(flags);
  const decision = decideModule(inputs.policy, { kind: 'remote', url });
  if (!decision.allowed) throw refusal(`nothing was pulled: ${decision.reason}`);
  const folder = flagText(flags, 'data-folder');
  const target = folder === '' ? inputs.config.dataFolder : resolve(folder);
  const startedMs = performance.now();
  const module = await pullInto(target, { url, decision, inputs, signal });
  const durationMs = Math.round(performance.now() - startedMs);
  process.stdout.write(
    isFlagSet(flags, 'json')
      ? `${JSON.stringify(pullDocument(url, module, durationMs), null, 2)}\n`
      : formatPull(url, module, durationMs),
  );
  return exitCodes.fine;
}

async function pullInto(
  folder: string,
  options: {
    readonly url: string;
    readonly decision: AllowedModule;
    readonly inputs: FetchInputs;
    readonly signal: AbortSignal;
  },
): Promise<FetchedModule> {
  const { url, decision, inputs, signal } = options;
  const { config, policy, pin, pullSecret, timeoutMs } = inputs;
  const log = new LogRoot({
    format: 'text',
    levels: new Map([['default', 'warn']]),
    write: (line) => process.stderr.write(line),
  }).scope('wasm');
  const progress = new DownloadProgress(process.stderr);
  if (!process.stderr.isTTY) process.stderr.write(`fetching ${visible(displayUrl(url))}\n`);
  await using parts = new AsyncDisposableStack();
  parts.defer(() => progress.end());
  const store = await FileBlobStore.open({
    folder,
    maxTotalBytes: () => policy.caps.quotaBytes,
    orphanAgeMs,
    log,
  });
  parts.defer(() => store.close());
  // Who needs what is here is not known to this process: nothing of it may make room.
  store.setReferences(
    'pull',
    store.list().map(({ digest }) => digest),
  );
  const records = await FileRecordIndex.open({
    path: join(folder, cacheRecordsFile),
    parse: parseCacheRecord,
    maxEntryCount: maxCacheRecordCount,
    isShared: true,
    orphanAgeMs,
    log,
  });
  parts.defer(() => records.close());
  const source = new CachedModuleSource({
    config: { ...config, dataFolder: folder },
    store,
    records,
    metrics: new WasmMetrics(new MetricRegistry()),
    log,
    settings: fetchRules(() => policy),
    onProgress: (receivedBytes, totalBytes) => progress.received(receivedBytes, totalBytes),
  });
  parts.defer(() => source.close());
  try {
    const request = {
      resourceName: 'wasm pull',
      url,
      sha256: pin,
      timeoutMs,
      pullPolicy: 'always',
      pullSecret,
      // Another at each run: what a tag names is asked anew.
      pluginResourceVersion: `pulled at ${Date.now()}`,
    } as const;
    const module = await source.fetch(request, { signal });
    judge(url, module, decision);
    const verdict = await preflightModule(module.path, {
      maxMemoryPages: Math.min(envoyMaxMemoryPages, policy.caps.maxMemoryPages ?? envoyMaxMemoryPages),
      signal,
    });
    if (verdict.kind === 'refused') {
      // As the agent does: only another module helps.
      source.forgetUrl(url);
      const reasons = verdict.reasons.map(({ code, message }) => `${message} (${code})`).join(' ');
      throw refusal(`Envoy could not run the module ${displayUrl(url)}: ${reasons}`);
    }
    // What is noted of it is what makes it be found.
    await records.flush();
    return module;
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof FetchError) throw refusal(`nothing was pulled: ${error.message}`, { cause: error });
    throw error;
  }
}

/** Holds what came against the rule that allows it. Throws CommandError. */
function judge(url: string, module: FetchedModule, decision: AllowedModule): void {
  const digests = module.digests === undefined ? [module.digest] : allDigests(module.digests);
  const refused = refuseDigests(decision, url, digests);
  if (refused !== undefined) throw refusal(refused.reason);
}

function pullDocument(url: string, module: FetchedModule, durationMs: number): unknown {
  const { path, digest, sizeBytes, digests, matchedPin, source, sourceName, trace } = module;
  const isNew = source !== 'cache';
  return {
    url: displayUrl(url),
    isNew,
    path,
    digest,
    sizeBytes,
    digests,
    matchedPin,
    sourceName,
    trace,
    durationMs,
  };
}

function formatPull(url: string, module: FetchedModule, durationMs: number): string {
  const { path, digest, sizeBytes, source, sourceName, matchedPin } = module;
  const from = source === 'cache' ? 'it was there already' : `from ${sourceName ?? source}`;
  const lines = [
    `${displayUrl(url)}: ${sizeWords(sizeBytes)} in ${(durationMs / 1_000).toFixed(1)} s, ${from}`,
    ...(matchedPin === undefined ? [] : [`  the pin is the digest of the ${matchedPin}`]),
    `  module sha256:${digest}`,
    `  ${path}`,
  ];
  return lines.map((line) => `${visible(line)}\n`).join('');
}
