import { monitorEventLoopDelay } from 'node:perf_hooks';
import { type ProcessFacts, readProcessFacts, readStartTimeSeconds } from './process-files.ts';
import type { CollectedFamily, MetricRegistry } from './registry.ts';

/** How often the event loop is sampled: a longer stall is always seen, and ten wake-ups a second cost nothing. */
const lagResolutionMs = 100;

interface DescribedFacts extends ProcessFacts {
  readonly startTimeSeconds: number | undefined;
}

type ProcessFamily = readonly [
  fact: keyof DescribedFacts,
  name: string,
  type: 'counter' | 'gauge',
  help: string,
];

/** Names and texts of prometheus/client_golang's process collector, which the stock agent uses. */
const processFamilies: readonly ProcessFamily[] = [
  ['cpuSeconds', 'process_cpu_seconds_total', 'counter', 'Total user and system CPU time spent in seconds.'],
  ['maxFileCount', 'process_max_fds', 'gauge', 'Maximum number of open file descriptors.'],
  [
    'receivedBytes',
    'process_network_receive_bytes_total',
    'counter',
    'Number of bytes received by the process over the network.',
  ],
  [
    'sentBytes',
    'process_network_transmit_bytes_total',
    'counter',
    'Number of bytes sent by the process over the network.',
  ],
  ['openFileCount', 'process_open_fds', 'gauge', 'Number of open file descriptors.'],
  ['residentBytes', 'process_resident_memory_bytes', 'gauge', 'Resident memory size in bytes.'],
  [
    'startTimeSeconds',
    'process_start_time_seconds',
    'gauge',
    'Start time of the process since unix epoch in seconds.',
  ],
  ['virtualBytes', 'process_virtual_memory_bytes', 'gauge', 'Virtual memory size in bytes.'],
  [
    'maxVirtualBytes',
    'process_virtual_memory_max_bytes',
    'gauge',
    'Maximum amount of virtual memory available in bytes.',
  ],
];

/**
 * The process as the kernel sees it (`istio_agent_process_*`, as in the stock agent) and its runtime
 * (`istio_agent_nodejs_*` in the place of `istio_agent_go_*`), read when scraped.
 */
export class ProcessMetrics {
  readonly #lag: ReturnType<typeof monitorEventLoopDelay>;

  constructor(registry: MetricRegistry, options: { readonly procFolder?: string } = {}) {
    const { procFolder = '/proc' } = options;
    let startTimeSeconds: number | undefined;
    registry.collector('process', async () => {
      startTimeSeconds ??= await readStartTimeSeconds(procFolder);
      return describeProcess({ ...(await readProcessFacts(procFolder)), startTimeSeconds });
    });
    this.#lag = monitorEventLoopDelay({ resolution: lagResolutionMs });
    this.#lag.enable();
    registry.collector('nodejs', () => [...describeHeap(), ...this.#describeLag()]);
  }

  /** Stops the sampling of the event loop. */
  close(): void {
    this.#lag.disable();
  }

  /** Over the time since the previous scrape; absent before the first sample. */
  #describeLag(): readonly CollectedFamily[] {
    if (this.#lag.count === 0) return [];
    const seconds = (sampledNs: number) => Math.max(0, sampledNs / 1e9 - lagResolutionMs / 1e3);
    const families = [
      gauge(
        'nodejs_eventloop_lag_mean_seconds',
        'Mean delay of the event loop since the previous scrape.',
        seconds(this.#lag.mean),
      ),
      gauge(
        'nodejs_eventloop_lag_max_seconds',
        'Longest delay of the event loop since the previous scrape.',
        seconds(this.#lag.max),
      ),
      gauge(
        'nodejs_eventloop_lag_p99_seconds',
        '99th percentile of the delay of the event loop since the previous scrape.',
        seconds(this.#lag.percentile(99)),
      ),
    ];
    this.#lag.reset();
    return families;
  }
}

function describeProcess(facts: DescribedFacts): readonly CollectedFamily[] {
  return processFamilies.map(([fact, name, type, help]) => {
    const value = facts[fact];
    return { name, help, type, samples: value === undefined ? [] : [{ labels: {}, value }] };
  });
}

function describeHeap(): readonly CollectedFamily[] {
  const memory = process.memoryUsage();
  return [
    gauge('nodejs_heap_size_total_bytes', 'Size of the JavaScript heap in bytes.', memory.heapTotal),
    gauge('nodejs_heap_size_used_bytes', 'Part of the JavaScript heap that is in use.', memory.heapUsed),
    gauge('nodejs_external_memory_bytes', 'Memory of buffers outside of the heap in bytes.', memory.external),
    gauge('nodejs_version_info', 'Information about the Node.js environment.', 1, {
      version: process.version,
    }),
  ];
}

function gauge(
  name: string,
  help: string,
  value: number,
  labels: Readonly<Record<string, string>> = {},
): CollectedFamily {
  return { name, help, type: 'gauge', samples: [{ labels, value }] };
}
