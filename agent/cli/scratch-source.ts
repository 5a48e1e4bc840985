import { join } from 'node:path';
import { FileBlobStore } from '../../cache/blob-store.ts';
import { FileRecordIndex } from '../../cache/record-index.ts';
import { MetricRegistry } from '../../metrics/registry.ts';
import { WasmMetrics } from '../../metrics/wasm-metrics.ts';
import { timeoutSignal } from '../clock.ts';
import { maxCacheRecordCount, parseCacheRecord } from '../fetch/cache-records.ts';
import { buildFetchParts, type CachedModuleSourceOptions } from '../fetch/fetch-parts.ts';
import type { FetchSettings } from '../fetch/fetch-settings.ts';
import { CachedModuleSource, describeModule } from '../fetch/module-source.ts';
import { matchPin } from '../fetch/pin.ts';
import type { FetchLimits } from '../fetch/retry.ts';
import type { FetchedModule, ModuleRequest } from '../fetch/types.ts';
import { wantModule } from '../fetch/wanted-module.ts';
import { LogRoot } from '../log.ts';
import { fetchRules } from '../policy/fetch-rules.ts';
import { cacheRecordsFile } from '../wasm/data-files.ts';
import type { FetchInputs } from './fetch-inputs.ts';
import type { LayoutImage } from './layout-image.ts';
import { makeTemporaryFolder } from './temporary-folder.ts';

/** Everything that the agent fetches with, over a folder that goes away. */
export class ScratchSource implements AsyncDisposable {
  readonly source: CachedModuleSource;
  readonly #options: CachedModuleSourceOptions & { readonly settings: FetchSettings };
  readonly #parts: AsyncDisposableStack;
  /** False: nobody need have signed. */
  isSignatureAsked = false;

  private constructor(
    options: Omit<CachedModuleSourceOptions, 'settings'>,
    settings: FetchSettings,
    parts: AsyncDisposableStack,
  ) {
    const asked: FetchSettings = {
      ...settings,
      signersFor: (url) => (this.isSignatureAsked ? settings.signersFor(url) : undefined),
    };
    this.#options = { ...options, settings: asked };
    this.#parts = parts;
    this.source = new CachedModuleSource(this.#options);
  }

  /** Throws CommandError and CacheError. */
  static async open({ config, policy }: FetchInputs): Promise<ScratchSource> {
    await using parts = new AsyncDisposableStack();
    const folder = parts.use(await makeTemporaryFolder(config.dataFolder));
    const store = await FileBlobStore.open({ folder: folder.path });
    parts.defer(() => store.close());
    const records = await FileRecordIndex.open({
      path: join(folder.path, cacheRecordsFile),
      parse: parseCacheRecord,
      maxEntryCount: maxCacheRecordCount,
    });
    parts.defer(() => records.close());
    const metrics = new WasmMetrics(new MetricRegistry());
    const settings = fetchRules(() => policy);
    return new ScratchSource({ config, store, records, metrics, log: silentLog() }, settings, parts.move());
  }

  /** From the folder and nowhere else, as the agent fetches from a layout of its policy. Throws FetchError. */
  async fetchFromLayout(
    image: LayoutImage,
    request: ModuleRequest,
    signal: AbortSignal,
  ): Promise<FetchedModule> {
    const { timeoutMs, sha256 } = request;
    const clock = { nowMs: () => performance.now(), random: Math.random };
    const layouts = [{ path: image.folder, timeoutMs }];
    const settings: FetchSettings = {
      ...this.#options.settings,
      module: () => ({ layouts, mirrors: [] }),
      // Rules are on names; the digest by which it is found has none.
      signersFor: (url) => this.#options.settings.signersFor(image.url ?? url),
    };
    const parts = buildFetchParts({ ...this.#options, settings }, clock);
    try {
      const fingerprintKey = (): Uint8Array => parts.records.fingerprintKey();
      const { credentials } = parts;
      const options = { credentials, fingerprintKey, settings };
      const whole = await wantModule({ ...request, url: image.digestUrl }, options);
      const wanted = { ...whole, rungs: whole.rungs.slice(0, 1) };
      const endsAtMs = clock.nowMs() + timeoutMs;
      const limits: FetchLimits = {
        signal: AbortSignal.any([signal, timeoutSignal(timeoutMs)]),
        deadlineAtMs: () => endsAtMs,
      };
      const { record, blob, source, trace } = await parts.fetcher.fetch({
        wanted,
        unproven: undefined,
        flight: { limits, enter: () => undefined },
        countSecondLookup: () => undefined,
      });
      return {
        ...describeModule(wanted, { record, blob }),
        source,
        matchedPin: sha256 === undefined ? undefined : matchPin(sha256, record.digests),
        trace,
      };
    } finally {
      await parts.fetcher.close();
      await parts.client.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.source.close();
    await this.#parts.disposeAsync();
  }
}

/** What goes wrong is in the findings. */
function silentLog(): ReturnType<LogRoot['scope']> {
  return new LogRoot({ format: 'text', levels: new Map([['all', 'none']]), write: () => undefined }).scope(
    'wasm',
  );
}
