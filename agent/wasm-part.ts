import { join } from 'node:path';
import { FileBlobStore } from '../cache/blob-store.ts';
import { startExpiry } from '../cache/expiry.ts';
import { FileRecordIndex } from '../cache/record-index.ts';
import type { WasmMetrics } from '../metrics/wasm-metrics.ts';
import type { WasmConfig } from './config/agent-config.ts';
import { maxCacheRecordCount, parseCacheRecord } from './fetch/cache-records.ts';
import { CachedModuleSource } from './fetch/module-source.ts';
import type { LogRoot } from './log.ts';
import { fetchRules } from './policy/fetch-rules.ts';
import type { PolicySource } from './policy/policy-data.ts';
import { CheckedSource } from './wasm/checked-source.ts';
import { cacheRecordsFile, lastKnownGoodFile } from './wasm/data-files.ts';
import { LastKnownGood, maxKeptConfigCount, parseKeptConfig } from './wasm/last-known-good.ts';
import { ModulePreflight } from './wasm/module-preflight.ts';
import { PluginRollouts } from './wasm/plugin-rollouts.ts';

/** All that serves Wasm plugins: the store on disk, the source of modules and the rollouts. */
export interface WasmPart {
  readonly rollouts: PluginRollouts;
  /** Ends fetches and writes what is not yet on disk. */
  close(): Promise<void>;
}

/**
 * Builds the part of the agent that only pods with extension configs need; it is loaded with their first message.
 * Throws CacheError when the data folder cannot be used at all.
 */
export async function openWasmPart(options: {
  readonly config: WasmConfig;
  /** What is allowed; not closed by this part. */
  readonly policy: PolicySource;
  readonly metrics: WasmMetrics;
  readonly logRoot: LogRoot;
}): Promise<WasmPart> {
  const { config, policy, metrics, logRoot } = options;
  const log = logRoot.scope('wasm');
  const [store, records, kept] = await Promise.all([
    FileBlobStore.open({
      folder: config.dataFolder,
      maxTotalBytes: () => policy.current.caps.quotaBytes,
      onEvicted: (digest) => {
        metrics.plugins.evicted('quota', 1);
        source.forget([digest]);
      },
      log,
    }),
    FileRecordIndex.open({
      path: join(config.dataFolder, cacheRecordsFile),
      parse: parseCacheRecord,
      maxEntryCount: maxCacheRecordCount,
      // `wasm pull` and `cache gc` write it too.
      isShared: true,
      log,
    }),
    FileRecordIndex.open({
      path: join(config.dataFolder, lastKnownGoodFile),
      parse: parseKeptConfig,
      maxEntryCount: maxKeptConfigCount,
      log,
    }),
  ]);
  metrics.plugins.watchCache(() => ({ sizeBytes: store.totalBytes, limitBytes: store.limitBytes }));
  const source = new CachedModuleSource({
    config,
    store,
    records,
    metrics,
    log,
    settings: fetchRules(() => policy.current),
  });
  // Before the first purge and the first download: what it pins must not make room for others.
  const preflight = new ModulePreflight({
    maxMemoryPages: () => policy.current.caps.maxMemoryPages,
    metrics: metrics.plugins,
    log,
  });
  const rollouts = new PluginRollouts({
    source: new CheckedSource({ source, preflight }),
    preflight,
    store,
    lastKnownGood: new LastKnownGood({ index: kept }),
    policy,
    metrics,
    log,
  });
  const expiry = startExpiry({
    store,
    expiryMs: config.moduleExpiryMs,
    intervalMs: config.purgeIntervalMs,
    onExpired: (digests) => {
      metrics.plugins.evicted('expired', digests.length);
      if (digests.length > 0) log.info('purged unused Wasm modules', { count: digests.length });
      source.forget(digests);
    },
    log,
  });
  // Envoy's first subscribe opens this part, or the start of a pod that had plugins: there is time until the push.
  setImmediate(() => void source.expectPush());
  return {
    rollouts,
    async close() {
      await rollouts.close();
      await expiry.close();
      await source.close();
      await records.close();
      await kept.close();
      await store.close();
    },
  };
}
