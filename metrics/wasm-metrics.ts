import { PluginMetrics } from './plugin-metrics.ts';
import type { MetricRegistry } from './registry.ts';

/** Labels of `wasm_remote_fetch_count`, as the stock agent has them (`pkg/wasm/monitoring.go`). */
export type RemoteFetchResult =
  | 'success'
  | 'download_failure'
  | 'manifest_failure'
  | 'checksum_mismatched'
  | 'fetch_failure';

/** Labels of `wasm_config_conversion_count`. */
export type ConversionResult =
  | 'success'
  | 'no_remote_load'
  | 'unmarshal_failure'
  | 'marshal_failure'
  | 'fetch_failure'
  | 'miss_remote_fetch_hint';

/** What happens to Wasm configs and modules. Names, types and labels are the stock agent's, but for `plugins`. */
export class WasmMetrics {
  readonly cacheEntries: (count: number) => void;
  readonly cacheLookup: (isHit: boolean) => void;
  readonly remoteFetch: (result: RemoteFetchResult) => void;
  readonly conversion: (result: ConversionResult) => void;
  /** Time to convert one ECDS response, fetches included. */
  readonly conversionDurationMs: (durationMs: number) => void;
  /** What the stock agent does not tell. */
  readonly plugins: PluginMetrics;

  constructor(registry: MetricRegistry) {
    const entries = registry.gauge({
      name: 'wasm_cache_entries',
      help: 'number of Wasm remote fetch cache entries.',
    });
    this.cacheEntries = (count) => entries(count);
    const lookups = registry.counter({
      name: 'wasm_cache_lookup_count',
      help: 'number of Wasm remote fetch cache lookups.',
      labelNames: ['hit'],
    });
    this.cacheLookup = (isHit) => lookups({ hit: String(isHit) });
    const fetches = registry.counter({
      name: 'wasm_remote_fetch_count',
      help: 'number of Wasm remote fetches and results, including success, download failure, and checksum mismatch.',
      labelNames: ['result'],
    });
    this.remoteFetch = (result) => fetches({ result });
    const conversions = registry.counter({
      name: 'wasm_config_conversion_count',
      help: 'number of Wasm config conversions and results, including success, no remote load, marshal failure, remote fetch failure, miss remote fetch hint.',
      labelNames: ['result'],
    });
    this.conversion = (result) => conversions({ result });
    const duration = registry.histogram({
      name: 'wasm_config_conversion_duration',
      help: 'Total time in milliseconds istio-agent spends on converting remote load in Wasm config.',
      buckets: Array.from({ length: 15 }, (_, power) => 2 ** power),
    });
    this.conversionDurationMs = (durationMs) => duration(durationMs);
    this.plugins = new PluginMetrics(registry);
  }
}
