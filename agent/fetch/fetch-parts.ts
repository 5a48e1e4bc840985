import type { BlobStore, SharedRecordIndex } from '../../cache/types.ts';
import type { FetchOrigin } from '../../metrics/plugin-metrics.ts';
import type { WasmMetrics } from '../../metrics/wasm-metrics.ts';
import type { WasmConfig } from '../config/agent-config.ts';
import type { Logger } from '../log.ts';
import { type CacheRecord, CacheRecords } from './cache-records.ts';
import { CredentialHelpers } from './credential-helper.ts';
import { CredentialResolver } from './credentials.ts';
import { type AddressLookup, EgressGuard } from './egress-guard.ts';
import { type FetchSettings, permissiveSettings } from './fetch-settings.ts';
import { FileFetcher } from './file-fetcher.ts';
import { HostRest } from './host-rest.ts';
import { HttpClient } from './http-client.ts';
import { HttpSource } from './http-source.ts';
import { ImageFetcher } from './image-fetcher.ts';
import { InsecureHosts } from './insecure-hosts.ts';
import { ModuleFetcher } from './module-fetcher.ts';
import { receiveModule, type ServedWatch } from './module-receiver.ts';
import { RegistryClient } from './oci/registry.ts';
import { OciSource } from './oci/source.ts';
import type { FetchClock } from './retry.ts';
import { StoredModules } from './stored-modules.ts';

export interface CachedModuleSourceOptions {
  readonly config: WasmConfig;
  /** Not closed by this class. */
  readonly store: BlobStore;
  /** Not closed by this class. */
  readonly records: SharedRecordIndex<CacheRecord>;
  readonly metrics: WasmMetrics;
  readonly log: Logger;
  /** What the operator has set; asked anew for each request. Default: nothing. */
  readonly settings?: FetchSettings;
  /** Told of the bytes of each download as they come; `totalBytes` where it is known. Must not throw. */
  readonly onProgress?: (receivedBytes: number, totalBytes: number | undefined) => void;
  /** For tests: folders of helper programs, as in `PATH`. */
  readonly helperPath?: string;
  /** For tests: names are resolved by this instead of the system. */
  readonly lookup?: AddressLookup;
  /** For tests: first waits between attempts, in ms. */
  readonly firstWaits?: { readonly httpMs: number; readonly registryMs: number };
}

/** What a module source is made of. */
export interface FetchParts {
  readonly settings: FetchSettings;
  readonly records: CacheRecords;
  readonly modules: StoredModules;
  readonly credentials: CredentialResolver;
  readonly client: HttpClient;
  readonly fetcher: ModuleFetcher;
}

/** Builds the parts of a module source from its options; nothing is started. */
export function buildFetchParts(options: CachedModuleSourceOptions, clock: FetchClock): FetchParts {
  const { config, store, log, metrics, firstWaits: waits } = options;
  const settings = options.settings ?? permissiveSettings;
  const records = new CacheRecords({ index: options.records, epochMs: Date.now });
  const modules = new StoredModules({ store, records, metrics });
  const credentials = new CredentialResolver(
    config.registryCredentials,
    (registry) => settings.host(registry)?.credentialsFile,
  );
  const guard = new EgressGuard({
    blockedCidrs: config.blockedCidrs,
    moreCidrs: settings.blockedCidrs,
    ...(options.lookup === undefined ? {} : { lookup: options.lookup }),
  });
  const insecureHosts = new InsecureHosts(
    config.insecureRegistries,
    (hostText) => settings.host(hostText)?.isPlainHttp === true,
  );
  const client = new HttpClient({ guard, insecureHosts, proxies: config.outboundProxy, settings });
  const rest = new HostRest({ nowMs: clock.nowMs });
  const maxModuleBytes = (): number =>
    Math.min(config.maxModuleBytes, settings.maxModuleBytes() ?? Number.POSITIVE_INFINITY);
  const watch = (origin: FetchOrigin): ServedWatch => ({
    progressed: (receivedBytes, totalBytes) => options.onProgress?.(receivedBytes, totalBytes),
    ended: (receivedBytes) => metrics.plugins.fetchedBytes(origin, receivedBytes),
  });
  const http = new HttpSource({
    client,
    store,
    insecureHosts,
    log,
    clock,
    rest,
    attemptTimeoutMs: config.httpRequestTimeoutMs,
    maxAttemptCount: config.httpMaxAttemptCount,
    maxModuleBytes,
    watch: watch('http'),
    ...(waits === undefined ? {} : { firstWaitMs: waits.httpMs }),
  });
  const { helperPath } = options;
  const registries = new RegistryClient({
    client,
    insecureHosts,
    clock,
    rest,
    helpers: new CredentialHelpers(helperPath === undefined ? {} : { path: helperPath }),
    ...(waits === undefined ? {} : { firstWaitMs: waits.registryMs }),
  });
  const oci = new OciSource({ store, maxModuleBytes, watch });
  const fetcher = new ModuleFetcher({
    http,
    oci,
    registries,
    images: new ImageFetcher({ oci, modules, records, metrics }),
    files: new FileFetcher({ modules, records, metrics }),
    receiveBlob: async (body, { signal }) =>
      receiveModule(body, {
        store,
        tarRule: 'module-bytes',
        maxSizeBytes: maxModuleBytes(),
        signal,
        watch: watch('layout'),
      }),
    clock,
  });
  return { settings, records, modules, credentials, client, fetcher };
}
