import type { BlobStore, RecordIndex, Sha256 } from '../../cache/types.ts';
import type { WasmMetrics } from '../../metrics/wasm-metrics.ts';
import type { WasmConfig } from '../config/agent-config.ts';
import type { Logger } from '../log.ts';
import {
  type CacheRecord,
  CacheRecords,
  isReadableBy,
  type ModuleRecord,
  versionFor,
} from './cache-records.ts';
import { CredentialResolver } from './credentials.ts';
import { type AddressLookup, EgressGuard } from './egress-guard.ts';
import { HttpClient } from './http-client.ts';
import { HttpSource } from './http-source.ts';
import { InsecureHosts } from './insecure-hosts.ts';
import { ModuleFetcher, type SourcedModule, type StoredModule } from './module-fetcher.ts';
import { type Flight, type FlightPhase, ModuleFlights } from './module-flights.ts';
import { displayUrl } from './module-url.ts';
import { abortFailure } from './network-failure.ts';
import { RegistryClient } from './oci/registry.ts';
import { OciSource } from './oci/source.ts';
import { matchPin } from './pin.ts';
import type { FetchClock, FetchLimits } from './retry.ts';
import { FetchError, type FetchedModule, type ModuleRequest, type ModuleSource } from './types.ts';
import { type WantedModule, wantModule } from './wanted-module.ts';

export interface CachedModuleSourceOptions {
  readonly config: WasmConfig;
  /** Not closed by this class. */
  readonly store: BlobStore;
  /** Not closed by this class. */
  readonly records: RecordIndex<CacheRecord>;
  readonly metrics: WasmMetrics;
  readonly log: Logger;
  /** For tests: names are resolved by this instead of the system. */
  readonly lookup?: AddressLookup;
  /** For tests: first waits between attempts, in ms. */
  readonly firstWaits?: { readonly httpMs: number; readonly registryMs: number };
}

type Lookup =
  | ({ readonly kind: 'hit' } & StoredModule)
  /** It is there, but nobody with this credential has read it yet. */
  | ({ readonly kind: 'unproven' } & StoredModule)
  | { readonly kind: 'miss' };

/** Longest timer of node; a later deadline is no deadline. */
const maxTimerMs = 2 ** 31 - 1;

/**
 * Gives out modules from the cache when the pull policy allows, else from where they are, one fetch for all who want
 * the same content with the same credential. Rules and metrics are those of the stock agent (istio/istio
 * `pkg/wasm/cache.go`), with its hazards closed: any digest of the chain may be pinned, versions are noted after
 * success only, private modules are given to those who may read them, what is on disk survives restarts.
 */
export class CachedModuleSource implements ModuleSource {
  readonly #records: CacheRecords;
  readonly #metrics: WasmMetrics;
  readonly #log: Logger;
  readonly #credentials: CredentialResolver;
  readonly #client: HttpClient;
  readonly #fetcher: ModuleFetcher;
  readonly #flights = new ModuleFlights<SourcedModule>();
  readonly #clock: FetchClock = { nowMs: () => performance.now(), random: Math.random };

  constructor(options: CachedModuleSourceOptions) {
    const { config, store, log } = options;
    const clock = this.#clock;
    this.#records = new CacheRecords({ index: options.records, epochMs: Date.now });
    this.#metrics = options.metrics;
    this.#log = log;
    this.#credentials = new CredentialResolver(config.registryCredentials);
    const guard = new EgressGuard({
      blockedCidrs: config.blockedCidrs,
      ...(options.lookup === undefined ? {} : { lookup: options.lookup }),
    });
    const insecureHosts = new InsecureHosts(config.insecureRegistries);
    this.#client = new HttpClient({ guard, insecureHosts, proxies: config.outboundProxy });
    const client = this.#client;
    const waits = options.firstWaits;
    const { maxModuleBytes } = config;
    const http = new HttpSource({
      client,
      store,
      insecureHosts,
      log,
      clock,
      attemptTimeoutMs: config.httpRequestTimeoutMs,
      maxAttemptCount: config.httpMaxAttemptCount,
      maxModuleBytes,
      ...(waits === undefined ? {} : { firstWaitMs: waits.httpMs }),
    });
    const registries = new RegistryClient({
      client,
      insecureHosts,
      clock,
      ...(waits === undefined ? {} : { firstWaitMs: waits.registryMs }),
    });
    const oci = new OciSource({ registries, store, maxModuleBytes });
    const { metrics } = options;
    this.#fetcher = new ModuleFetcher({ http, oci, store, records: this.#records, metrics });
  }

  async fetch(request: ModuleRequest, options: { readonly signal: AbortSignal }): Promise<FetchedModule> {
    const startedMs = this.#clock.nowMs();
    const display = displayUrl(request.url);
    const timeoutMs = Math.min(Math.max(0, request.timeoutMs), maxTimerMs);
    const deadline = AbortSignal.timeout(timeoutMs);
    const signal = AbortSignal.any([options.signal, deadline]);
    try {
      const fetched = await this.#fetch(request, { signal, deadlineAtMs: () => startedMs + timeoutMs });
      this.#log.info('wasm module is ready', {
        resource: request.resourceName,
        url: display,
        source: fetched.source,
        digest: fetched.digest,
        checksum: fetched.checksum,
        matchedPin: fetched.matchedPin,
        sizeBytes: fetched.sizeBytes,
        durationMs: Math.round(this.#clock.nowMs() - startedMs),
      });
      return fetched;
    } catch (error) {
      throw outerFailure(error, display);
    }
  }

  /** Forgets modules that the store has deleted; to be called at each purge, also when it deleted nothing. */
  forget(digests: readonly Sha256[]): void {
    this.#records.forget(digests);
    this.#metrics.cacheEntries(this.#records.moduleCount);
  }

  /** Stops all fetches and resolves when they and their connections are gone. */
  async close(): Promise<void> {
    await Promise.all([this.#flights.close(), this.#fetcher.close(), this.#client.close()]);
  }

  async #fetch(request: ModuleRequest, limits: FetchLimits): Promise<FetchedModule> {
    const wanted = await this.#prepare(request);
    const lookup = await this.#lookUp(wanted);
    this.#metrics.cacheLookup(lookup.kind === 'hit');
    const result: SourcedModule =
      lookup.kind === 'hit' ? { ...lookup, source: 'cache' } : await this.#join(wanted, lookup, limits);
    const { record, blob, source } = result;
    if (wanted.origin.kind !== 'oci' || wanted.origin.reference.digest === undefined) {
      this.#records.learnUrl(request.url, {
        label: wanted.display,
        checksum: record.checksum,
        resourceName: request.resourceName,
        resourceVersion: request.pluginResourceVersion,
      });
    }
    return {
      path: blob.path,
      digest: blob.digest,
      checksum: record.checksum,
      sizeBytes: blob.sizeBytes,
      source,
      matchedPin: wanted.pin === undefined ? undefined : matchPin(wanted.pin, record.digests),
    };
  }

  /** Throws FetchError for a request that no cache or network can help; it counts as the stock agent's would. */
  async #prepare(request: ModuleRequest): Promise<WantedModule> {
    try {
      const fingerprintKey = (): Uint8Array => this.#records.fingerprintKey();
      return await wantModule(request, { credentials: this.#credentials, fingerprintKey });
    } catch (error) {
      if (
        error instanceof FetchError &&
        (error.result !== undefined || error.code === 'unsupported_scheme')
      ) {
        this.#metrics.cacheLookup(false);
        if (error.result !== undefined) this.#metrics.remoteFetch(error.result);
      }
      throw error;
    }
  }

  async #lookUp(wanted: WantedModule): Promise<Lookup> {
    const record = this.#candidate(wanted);
    if (record === undefined) return { kind: 'miss' };
    const stored = await this.#fetcher.stored(wanted.name, record);
    if (stored === undefined) return { kind: 'miss' };
    return { kind: isReadableBy(record, wanted.reader) ? 'hit' : 'unproven', ...stored };
  }

  #candidate(wanted: WantedModule): ModuleRecord | undefined {
    const { name, pin, request } = wanted;
    if (pin !== undefined) {
      const record = this.#records.pinned(name, pin);
      // A digest in the reference holds beside a pin.
      const digest = wanted.origin.kind === 'oci' ? wanted.origin.reference.digest : undefined;
      const isSame = record !== undefined && matchPin(digest ?? pin, record.digests) !== undefined;
      return isSame ? record : undefined;
    }
    const known = this.#records.url(request.url);
    if (known === undefined) return undefined;
    const isCurrent =
      !wanted.isVersionHeeded || versionFor(known, request.resourceName) === request.pluginResourceVersion;
    return isCurrent ? this.#records.module(name, known.checksum) : undefined;
  }

  async #join(
    wanted: WantedModule,
    lookup: Exclude<Lookup, { kind: 'hit' }>,
    limits: FetchLimits,
  ): Promise<SourcedModule> {
    const { request, display } = wanted;
    const { signal } = limits;
    const content = JSON.stringify([request.url, wanted.pin ?? '', wanted.reader]);
    const isOci = wanted.origin.kind === 'oci';
    let leftPhase: FlightPhase | undefined;
    try {
      return await this.#flights.join(
        content,
        {
          resourceName: request.resourceName,
          resourceVersion: wanted.isVersionHeeded ? request.pluginResourceVersion : '',
          deadlineAtMs: limits.deadlineAtMs(),
          firstPhase: isOci ? 'manifest' : 'download',
          onLeave: (phase) => {
            leftPhase = phase;
          },
        },
        async (flight) => this.#fly(wanted, lookup, flight),
        { signal },
      );
    } catch (error) {
      if (error instanceof FetchError && !signal.aborted) throw error;
      if (!signal.aborted)
        throw error instanceof Error && error.name === 'AbortError' ? closed(error) : error;
      const failure = abortFailure(signal, `fetching ${display}`);
      if (failure.code !== 'timeout') throw failure;
      const phase = leftPhase ?? (isOci ? 'manifest' : 'download');
      const result = phase === 'manifest' ? 'manifest_failure' : 'download_failure';
      this.#metrics.remoteFetch(result);
      throw new FetchError('timeout', `${failure.message} (${request.timeoutMs} ms)`, {
        cause: failure.cause,
        result,
      });
    }
  }

  /** One fetch for all who have joined. */
  async #fly(
    wanted: WantedModule,
    lookup: Exclude<Lookup, { kind: 'hit' }>,
    flight: Flight,
  ): Promise<SourcedModule> {
    try {
      return await this.#fetcher.fetch(wanted, lookup.kind === 'unproven' ? lookup : undefined, flight);
    } catch (error) {
      // Who left counts for itself.
      if (error instanceof FetchError && error.result !== undefined && !flight.limits.signal.aborted) {
        this.#metrics.remoteFetch(error.result);
      }
      throw error;
    }
  }
}

function closed(cause: unknown): FetchError {
  return new FetchError('aborted', 'the agent is stopping', { cause });
}

/** The text that the stock agent puts around every failure. Faults of the agent itself are passed on as they are. */
function outerFailure(error: unknown, display: string): unknown {
  const failure = error instanceof FetchError ? error : undefined;
  if (failure === undefined) return error;
  return new FetchError(failure.code, `cannot fetch Wasm module ${display}: ${failure.message}`, {
    cause: failure,
    ...(failure.result === undefined ? {} : { result: failure.result }),
    ...(failure.retryAfterMs === undefined ? {} : { retryAfterMs: failure.retryAfterMs }),
  });
}
