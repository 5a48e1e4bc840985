import { setTimeout as sleep } from 'node:timers/promises';
import type { Sha256 } from '../../cache/types.ts';
import type { WasmMetrics } from '../../metrics/wasm-metrics.ts';
import { timeoutSignal } from '../clock.ts';
import type { Logger } from '../log.ts';
import { type CacheRecords, isReadableBy, type UrlRecord, versionFor } from './cache-records.ts';
import type { CredentialResolver } from './credentials.ts';
import { buildFetchParts, type CachedModuleSourceOptions } from './fetch-parts.ts';
import type { FetchSettings } from './fetch-settings.ts';
import type { HttpClient } from './http-client.ts';
import { isVerifiedFor, recordedFor, refusalOf, UnsignedFailure } from './image-signatures.ts';
import type { ModuleFetcher, SourcedModule } from './module-fetcher.ts';
import { type Flight, type FlightPhase, ModuleFlights } from './module-flights.ts';
import { displayUrl } from './module-url.ts';
import { abortFailure } from './network-failure.ts';
import { warmManifestParser } from './oci/manifest.ts';
import { matchPin } from './pin.ts';
import { describeSignature } from './recorded-signature.ts';
import type { FetchClock, FetchLimits } from './retry.ts';
import { mayServeStale } from './stale-rule.ts';
import type { StoredModule, StoredModules } from './stored-modules.ts';
import { FetchError, type FetchedModule, type ModuleRequest } from './types.ts';
import { type WantedModule, type WantOptions, wantAtHand, wantModule } from './wanted-module.ts';

type Lookup =
  | ({ readonly kind: 'hit' } & StoredModule)
  /** It is there, but nobody with this credential has read it yet, or it is not known to be signed as it must be. */
  | ({ readonly kind: 'unproven' } & StoredModule)
  | { readonly kind: 'miss' };

/** Envoy has its config by then. */
const warmDelayMs = 2_000;
/** The first module of the web has come by then. */
const parserDelayMs = 50;

/** A polled tag is not asked for more often. */
const minRecheckMs = 1_000;
/** After this long it is tried again whether somebody answers. */
const staleRecheckMs = 60_000;

/**
 * Gives out modules from the cache when the pull policy allows, else from where they are, one fetch for all who want
 * the same content with the same credential. Rules and metrics are those of the stock agent (istio/istio
 * `pkg/wasm/cache.go`), with its hazards closed: any digest of the chain may be pinned, versions are noted after
 * success only, private modules are given to those who may read them, what is on disk survives restarts.
 */
export class CachedModuleSource {
  readonly #records: CacheRecords;
  readonly #modules: StoredModules;
  readonly #metrics: WasmMetrics;
  readonly #log: Logger;
  readonly #settings: FetchSettings;
  readonly #credentials: CredentialResolver;
  readonly #client: HttpClient;
  readonly #fetcher: ModuleFetcher;
  readonly #flights = new ModuleFlights<SourcedModule>();
  readonly #clock: FetchClock = { nowMs: () => performance.now(), random: Math.random };
  #warming: Promise<void> | undefined;
  #warmTimer: NodeJS.Timeout | undefined;

  constructor(options: CachedModuleSourceOptions) {
    const parts = buildFetchParts(options, this.#clock);
    this.#records = parts.records;
    this.#modules = parts.modules;
    this.#settings = parts.settings;
    this.#credentials = parts.credentials;
    this.#client = parts.client;
    this.#fetcher = parts.fetcher;
    this.#metrics = options.metrics;
    this.#log = options.log;
  }

  /**
   * The module where the cache has it, `isGood` of it, and nothing has to be looked up that takes time. Never throws:
   * what is wrong with a request is told, and counted, by `fetch`.
   */
  atHand(
    request: ModuleRequest,
    isGood: (module: { readonly digest: Sha256 }) => boolean,
  ): FetchedModule | undefined {
    const startedMs = this.#clock.nowMs();
    try {
      const wanted = wantAtHand(request, this.#wantOptions());
      const record = wanted && this.#candidate(wanted);
      const stored = record && this.#modules.atHand(record);
      if (wanted === undefined || stored === undefined) return undefined;
      if (!isProven(stored.record, wanted) || !isGood(stored.blob)) return undefined;
      const fetched = this.#hit(wanted, stored);
      this.#logReady(request, fetched, startedMs);
      return fetched;
    } catch {
      return undefined;
    }
  }

  /** See `ModuleSource`. */
  async fetch(request: ModuleRequest, options: { readonly signal: AbortSignal }): Promise<FetchedModule> {
    const startedMs = this.#clock.nowMs();
    try {
      const fetched = await this.#fetch(request, startedMs, options.signal);
      this.#logReady(request, fetched, startedMs);
      return fetched;
    } catch (error) {
      const refusal = refusalOf(error);
      if (refusal !== undefined) this.#metrics.plugins.refused(refusal);
      throw outerFailure(error, displayUrl(request.url));
    }
  }

  /** Hits are as many as plugins in each push, and tell nothing new. */
  #logReady(request: ModuleRequest, fetched: FetchedModule, startedMs: number): void {
    const level = fetched.source === 'cache' ? 'debug' : 'info';
    if (!this.#log.isEnabled(level)) return;
    this.#log[level]('wasm module is ready', {
      resource: request.resourceName,
      url: displayUrl(request.url),
      source: fetched.source,
      sourceName: fetched.sourceName,
      digest: fetched.digest,
      checksum: fetched.checksum,
      matchedPin: fetched.matchedPin,
      sizeBytes: fetched.sizeBytes,
      durationMs: Math.round(this.#clock.nowMs() - startedMs),
    });
  }

  /**
   * To be called when configs are about to come. Where nothing is cached their first push means a download: what that
   * needs is loaded while istiod answers. A cache with modules will be asked first, and a hit needs none of it.
   * Resolves when all is loaded; never throws.
   */
  async expectPush(): Promise<void> {
    if (this.#records.moduleCount === 0) await this.#warm();
  }

  /** Loads what the first download needs, once. Never throws. */
  async #warm(): Promise<void> {
    this.#warming ??= this.#warmInTurn();
    await this.#warming;
  }

  /** A push that has come meanwhile goes first: until it has a manifest it needs the client alone. */
  async #warmInTurn(): Promise<void> {
    await this.#client.warm();
    await sleep(parserDelayMs);
    await warmManifestParser();
  }

  /** Forgets modules that the store has deleted; to be called at each purge, also when it deleted nothing. */
  forget(digests: readonly Sha256[]): void {
    this.#records.forget(digests);
    this.#metrics.cacheEntries(this.#records.moduleCount);
  }

  /** Forgets what a URL meant: the next request asks its origin. The module itself stays. */
  forgetUrl(url: string): void {
    this.#records.forgetUrl(url);
  }

  /** A first hit says that downloads may follow: what they need is loaded when nothing waits for it. */
  #warmLater(): void {
    if (this.#warming !== undefined || this.#warmTimer !== undefined) return;
    this.#warmTimer = setTimeout(() => void this.#warm(), warmDelayMs);
    this.#warmTimer.unref();
  }

  /** Stops all fetches and resolves when they and their connections are gone. */
  async close(): Promise<void> {
    clearTimeout(this.#warmTimer);
    await Promise.all([this.#flights.close(), this.#fetcher.close(), this.#client.close()]);
  }

  async #fetch(request: ModuleRequest, startedMs: number, signal: AbortSignal): Promise<FetchedModule> {
    const wanted = await this.#prepare(request);
    const lookup = await this.#lookUpAgain(wanted, await this.#lookUp(wanted));
    if (lookup.kind === 'hit') return this.#hit(wanted, lookup);
    this.#metrics.cacheLookup(false);
    // Beside the first connection; the client loads its own library.
    if (wanted.origin.kind === 'oci') void warmManifestParser();
    // A hit needs none of these, and they cost more than it does.
    const timeoutMs = Math.max(0, request.timeoutMs);
    const limits: FetchLimits = {
      signal: AbortSignal.any([signal, timeoutSignal(timeoutMs)]),
      deadlineAtMs: () => startedMs + timeoutMs,
    };
    try {
      return this.#learned(wanted, await this.#join(wanted, lookup, limits));
    } catch (error) {
      const stale = await this.#stale(wanted, error);
      if (stale !== undefined) return stale;
      throw error;
    }
  }

  #hit(wanted: WantedModule, { record, blob }: StoredModule): FetchedModule {
    this.#metrics.cacheLookup(true);
    this.#warmLater();
    return this.#learned(wanted, { record, blob, source: 'cache', trace: undefined, answered: undefined });
  }

  /** The result, when it is noted what its URL means now. */
  #learned(wanted: WantedModule, result: SourcedModule): FetchedModule {
    const { request } = wanted;
    // Whatever way it came: nothing leaves without the signature that is asked for.
    if (!isVerifiedFor(result.record, wanted)) throw unverified(wanted);
    if (hasMovingName(wanted)) {
      this.#records.learnUrl(request.url, {
        label: wanted.display,
        checksum: result.record.checksum,
        resourceName: request.resourceName,
        resourceVersion: request.pluginResourceVersion,
        answered: result.answered,
      });
    }
    const { pollIntervalMs } = wanted.terms;
    const known = this.#records.url(request.url);
    const ageMs = known === undefined ? 0 : this.#records.ageMs(known);
    const isPolled = pollIntervalMs !== undefined && isPollable(wanted);
    return {
      ...describeModule(wanted, result),
      source: result.source,
      trace: result.trace,
      recheckAfterMs: isPolled ? Math.max(minRecheckMs, pollIntervalMs - ageMs) : undefined,
    };
  }

  /** What the URL meant last time, where the settings let that stand in for an answer. */
  async #stale(wanted: WantedModule, error: unknown): Promise<FetchedModule | undefined> {
    const { request, terms, name, reader } = wanted;
    const known = this.#records.url(request.url);
    if (known === undefined || wanted.pin !== undefined) return undefined;
    const ageMs = this.#records.ageMs(known);
    if (!mayServeStale(error, ageMs, terms.staleIfErrorMs)) return undefined;
    const stored = await this.#modules.find(name, this.#records.module(name, known.checksum));
    if (stored === undefined || !isReadableBy(stored.record, reader)) return undefined;
    if (!isVerifiedFor(stored.record, wanted)) return undefined;
    this.#log.warn('wasm module could not be fetched, the one of the last time stands in', {
      resource: request.resourceName,
      url: wanted.display,
      checksum: known.checksum,
      ageMs: Math.round(ageMs),
      error: error.message,
    });
    const recheckAfterMs = Math.min(terms.pollIntervalMs ?? staleRecheckMs, staleRecheckMs);
    return { ...describeModule(wanted, stored), source: 'cache', isStale: true, recheckAfterMs };
  }

  /** Throws FetchError for a request that no cache or network can help; it counts as the stock agent's would. */
  async #prepare(request: ModuleRequest): Promise<WantedModule> {
    try {
      return await wantModule(request, this.#wantOptions());
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

  #wantOptions(): WantOptions {
    const fingerprintKey = (): Uint8Array => this.#records.fingerprintKey();
    return { credentials: this.#credentials, fingerprintKey, settings: this.#settings };
  }

  async #lookUp(wanted: WantedModule): Promise<Lookup> {
    const stored = await this.#modules.find(wanted.name, this.#candidate(wanted));
    if (stored === undefined) return { kind: 'miss' };
    return { kind: isProven(stored.record, wanted) ? 'hit' : 'unproven', ...stored };
  }

  /** What is not there may have been pulled by a command line since. */
  async #lookUpAgain(wanted: WantedModule, lookup: Lookup): Promise<Lookup> {
    if (lookup.kind === 'hit' || !(await this.#records.refresh())) return lookup;
    return this.#lookUp(wanted);
  }

  #candidate(wanted: WantedModule): StoredModule['record'] | undefined {
    const { name, pin, request } = wanted;
    if (pin !== undefined) {
      const record = this.#records.pinned(name, pin);
      // A digest in the reference holds beside a pin.
      const digest = wanted.origin.kind === 'oci' ? wanted.origin.reference.digest : undefined;
      const isSame = record !== undefined && matchPin(digest ?? pin, record.digests) !== undefined;
      return isSame ? record : undefined;
    }
    const known = this.#records.url(request.url);
    return known !== undefined && this.#isCurrent(wanted, known)
      ? this.#records.module(name, known.checksum)
      : undefined;
  }

  #isCurrent(wanted: WantedModule, known: UrlRecord): boolean {
    const { request, isVersionHeeded } = wanted;
    const { pollIntervalMs } = wanted.terms;
    const isPolled = pollIntervalMs !== undefined && isPollable(wanted);
    if (isPolled && this.#records.ageMs(known) >= pollIntervalMs) return false;
    return !isVersionHeeded || versionFor(known, request.resourceName) === request.pluginResourceVersion;
  }

  async #join(
    wanted: WantedModule,
    lookup: Exclude<Lookup, { kind: 'hit' }>,
    limits: FetchLimits,
  ): Promise<SourcedModule> {
    const { request, display } = wanted;
    const { signal } = limits;
    const content = JSON.stringify([
      request.url,
      wanted.pin ?? '',
      wanted.reader,
      wanted.signers?.setId ?? '',
    ]);
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
      let isCounted = false;
      return await this.#fetcher.fetch({
        wanted,
        unproven: lookup.kind === 'unproven' ? lookup : undefined,
        flight,
        countSecondLookup: (isHit) => {
          if (!isCounted) this.#metrics.cacheLookup(isHit);
          isCounted = true;
        },
      });
    } catch (error) {
      // Who left counts for itself.
      if (error instanceof FetchError && error.result !== undefined && !flight.limits.signal.aborted) {
        this.#metrics.remoteFetch(error.result);
      }
      throw error;
    }
  }
}

/** True when who asks may have it, and it is signed as it must be. */
function isProven(record: StoredModule['record'], wanted: WantedModule): boolean {
  return isReadableBy(record, wanted.reader) && isVerifiedFor(record, wanted);
}

/** True when what a URL means can change: it is not named by a digest. */
function hasMovingName({ origin }: WantedModule): boolean {
  return origin.kind !== 'oci' || origin.reference.digest === undefined;
}

/** True when the pull policy wants to know what the name means now, and nothing is pinned. */
function isPollable({ pin, isVersionHeeded }: WantedModule): boolean {
  return pin === undefined && isVersionHeeded;
}

/** A stored module as the answer to what is wanted. */
export function describeModule(
  wanted: WantedModule,
  { record, blob }: StoredModule,
): Omit<FetchedModule, 'source'> {
  const signature = wanted.signers === undefined ? undefined : recordedFor(record, wanted.signers);
  return {
    path: blob.path,
    digest: blob.digest,
    checksum: record.checksum,
    sizeBytes: blob.sizeBytes,
    matchedPin: wanted.pin === undefined ? undefined : matchPin(wanted.pin, record.digests),
    sourceName: record.sourceName,
    digests: record.digests,
    signature: signature === undefined ? undefined : describeSignature(signature),
  };
}

function unverified({ display }: WantedModule): UnsignedFailure {
  return new UnsignedFailure(
    `${display} is not known to have the signature that the policy asks for`,
    'unsigned',
  );
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
