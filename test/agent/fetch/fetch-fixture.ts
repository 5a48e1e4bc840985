import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { WasmConfig } from '../../../agent/config/agent-config.ts';
import {
  type CacheRecord,
  maxCacheRecordCount,
  parseCacheRecord,
} from '../../../agent/fetch/cache-records.ts';
import type { AddressLookup } from '../../../agent/fetch/egress-guard.ts';
import { type FetchSettings, permissiveSettings } from '../../../agent/fetch/fetch-settings.ts';
import { CachedModuleSource } from '../../../agent/fetch/module-source.ts';
import type { FetchedModule, ModuleRequest } from '../../../agent/fetch/types.ts';
import { LogRoot } from '../../../agent/log.ts';
import { FileBlobStore } from '../../../cache/blob-store.ts';
import { FileRecordIndex } from '../../../cache/record-index.ts';
import { MetricRegistry } from '../../../metrics/registry.ts';
import { WasmMetrics } from '../../../metrics/wasm-metrics.ts';

export interface FixtureOptions {
  readonly config?: Partial<WasmConfig>;
  /** Addresses of made-up names; other names do not exist. */
  readonly names?: Readonly<Record<string, readonly string[]>>;
  readonly settings?: Partial<FetchSettings>;
  /** Folder of credential helpers. */
  readonly helperPath?: string;
  /** Name of the file of the records. */
  readonly recordsName?: string;
}

export const noProxies: WasmConfig['outboundProxy'] = { http: undefined, https: undefined, noProxy: '' };

/** Resolves made-up names, so that no test asks a real name server. */
export function namesLookup(names: Readonly<Record<string, readonly string[]>>): AddressLookup {
  return (hostname, _options, callback) => {
    const addresses = names[hostname];
    if (addresses === undefined) {
      const error: NodeJS.ErrnoException = new Error(`getaddrinfo ENOTFOUND ${hostname}`);
      error.code = 'ENOTFOUND';
      process.nextTick(callback, error, []);
      return;
    }
    const found = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
    process.nextTick(callback, null, found);
  };
}

/** A module source over a real store in a temporary folder. */
export class FetchFixture implements AsyncDisposable {
  readonly folder: string;
  readonly #options: FixtureOptions;
  readonly logLines: string[] = [];
  #isFolderKept = false;
  store!: FileBlobStore;
  source!: CachedModuleSource;
  #index!: FileRecordIndex<CacheRecord>;
  #metrics!: MetricRegistry;

  private constructor(folder: string, options: FixtureOptions) {
    this.folder = folder;
    this.#options = options;
  }

  static async open(options: FixtureOptions = {}): Promise<FetchFixture> {
    const fixture = new FetchFixture(await mkdtemp(join(tmpdir(), 'ferry-fetch-')), options);
    await fixture.#start();
    return fixture;
  }

  /** Over the folder of another fixture, which keeps it. */
  static async over(folder: string, options: FixtureOptions = {}): Promise<FetchFixture> {
    const fixture = new FetchFixture(folder, options);
    fixture.#isFolderKept = true;
    await fixture.#start();
    return fixture;
  }

  async #start(): Promise<void> {
    this.store = await FileBlobStore.open({ folder: this.folder });
    this.#index = await FileRecordIndex.open({
      path: join(this.folder, this.#options.recordsName ?? 'records.json'),
      parse: parseCacheRecord,
      maxEntryCount: maxCacheRecordCount,
      isShared: true,
    });
    this.#metrics = new MetricRegistry();
    const log = new LogRoot({
      format: 'text',
      levels: new Map([['default', 'debug']]),
      write: (line) => this.logLines.push(line),
    });
    this.source = new CachedModuleSource({
      config: {
        isConversionEnabled: true,
        dataFolder: this.folder,
        policyFile: undefined,
        insecureRegistries: [],
        moduleExpiryMs: 1,
        purgeIntervalMs: 1,
        httpRequestTimeoutMs: 15_000,
        httpMaxAttemptCount: 5,
        maxModuleBytes: 16 * 1024 * 1024,
        blockedCidrs: [],
        outboundProxy: noProxies,
        registryCredentials: { configPaths: [], inlineConfig: undefined },
        ...this.#options.config,
      },
      store: this.store,
      records: this.#index,
      metrics: new WasmMetrics(this.#metrics),
      log: log.scope('wasm'),
      lookup: namesLookup(this.#options.names ?? {}),
      settings: { ...permissiveSettings, ...this.#options.settings },
      ...(this.#options.helperPath === undefined ? {} : { helperPath: this.#options.helperPath }),
      firstWaits: { httpMs: 1, registryMs: 1 },
    });
  }

  /** As after a restart of the container: everything anew but the folder. */
  async restart(): Promise<void> {
    await this.#stop();
    await this.#start();
  }

  /** What is said to be at hand beforehand must be what comes, from the cache. */
  async fetch(
    url: string,
    request: Partial<ModuleRequest> = {},
    signal?: AbortSignal,
  ): Promise<FetchedModule> {
    const whole = wholeRequest(url, request);
    let digestAtHand: string | undefined;
    this.source.atHand(whole, ({ digest }) => {
      digestAtHand = digest;
      return false;
    });
    const fetched = await this.source.fetch(whole, { signal: signal ?? new AbortController().signal });
    if (digestAtHand !== undefined) {
      assert.deepEqual([fetched.source, fetched.isStale, fetched.digest], ['cache', undefined, digestAtHand]);
    }
    return fetched;
  }

  /** The module of the same request, where it is at hand. */
  atHand(url: string, request: Partial<ModuleRequest> = {}): FetchedModule | undefined {
    return this.source.atHand(wholeRequest(url, request), () => true);
  }

  /** The samples of the module metrics, without the prefix, in order. */
  async samples(prefix = 'istio_agent_wasm_'): Promise<readonly string[]> {
    const text = await this.#metrics.exposition();
    return text
      .split('\n')
      .filter((line) => line.startsWith(prefix))
      .map((line) => line.replace(prefix, ''));
  }

  /** Bytes read by origin, as the metric tells them. */
  async fetchedBytes(): Promise<Readonly<Record<string, number>>> {
    const text = await this.#metrics.exposition();
    const samples = text.matchAll(/^istio_agent_ferry_wasm_fetch_bytes_total\{source="(\w+)"\} (\d+)$/gm);
    return Object.fromEntries([...samples].map(([, source = '', count]) => [source, Number(count)]));
  }

  /** Resolves when the records are on disk. */
  async flush(): Promise<void> {
    await this.#index.flush();
  }

  /** Everything the records hold, as it would be on disk. */
  recordsText(): string {
    return JSON.stringify([...this.#index.entries()]);
  }

  async temporaryFileNames(): Promise<readonly string[]> {
    return readdir(join(this.folder, 'ingest')).catch(() => []);
  }

  async #stop(): Promise<void> {
    await this.source.close();
    await this.#index.close();
    await this.store.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop();
    if (!this.#isFolderKept) await rm(this.folder, { recursive: true, force: true });
  }
}

function wholeRequest(url: string, request: Partial<ModuleRequest>): ModuleRequest {
  return {
    resourceName: 'plugin',
    url,
    sha256: undefined,
    timeoutMs: 20_000,
    pullPolicy: 'unspecified',
    pullSecret: undefined,
    pluginResourceVersion: '',
    ...request,
  };
}
