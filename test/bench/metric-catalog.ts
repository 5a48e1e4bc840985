/** What is measured, in the order of the table. Sizes are decimal: 1 KB is 1000 bytes. */
export const metricCatalog = {
  'start-to-accept': {
    scenario: 'start',
    unit: 'ms',
    meaning: 'Process start to the first HTTP/2 bytes on the XDS socket.',
  },
  'start-to-ready': {
    scenario: 'ready',
    unit: 'ms',
    meaning:
      'Process start to readiness, with an Envoy and one plugin whose module an earlier run has fetched.',
  },
  'idle-rss': { scenario: 'idle', unit: 'MiB', meaning: 'RSS with one quiet ADS stream.' },
  'idle-pss': {
    scenario: 'idle',
    unit: 'MiB',
    meaning: 'PSS with one quiet ADS stream; no other process maps its binary.',
  },
  'idle-anonymous': { scenario: 'idle', unit: 'MiB', meaning: 'Anonymous memory with one quiet ADS stream.' },
  'ten-agents-pss': {
    scenario: 'ten-agents',
    unit: 'MiB',
    meaning:
      'PSS of one of ten agents on a machine, the mean: each with one ADS stream, quiet, or after pushes of that size and a rest.',
  },
  'settled-rss': {
    scenario: 'settled',
    unit: 'MiB',
    meaning: 'RSS of one agent after pushes of that size and a rest.',
  },
  'settled-pss': { scenario: 'settled', unit: 'MiB', meaning: 'PSS then; no other process maps its binary.' },
  'settled-anonymous': { scenario: 'settled', unit: 'MiB', meaning: 'Anonymous memory then.' },
  'latency-p50': {
    scenario: 'relay',
    unit: 'ms',
    meaning: 'ACK sent to last byte of the next push, median of a round.',
  },
  'latency-p99': {
    scenario: 'relay',
    unit: 'ms',
    meaning: 'The same, 99th percentile of a round; the largest where a round has under 100 pushes.',
  },
  'added-latency-p50': {
    scenario: 'relay',
    unit: 'ms',
    meaning: 'latency-p50 minus that of direct in the same round.',
  },
  'added-latency-p99': {
    scenario: 'relay',
    unit: 'ms',
    meaning: 'latency-p99 minus that of direct in the same round.',
  },
  'first-pushes-latency': {
    scenario: 'first-pushes',
    unit: 'ms',
    meaning:
      'ACK sent to last byte of the next push of 1 KB, median of the first ones of a process, one by one as conversion-warm.',
  },
  throughput: {
    scenario: 'relay',
    unit: 'MB/s',
    meaning: 'Pushed bytes over time with one push outstanding, 10^6 bytes per second.',
  },
  'cpu-per-gb': { scenario: 'relay', unit: 's/GB', meaning: 'CPU time of the agent for 10^9 pushed bytes.' },
  'cpu-per-push': {
    scenario: 'relay',
    unit: 'ms',
    meaning: 'CPU time of the agent for one push and its ACK.',
  },
  'peak-rss': {
    scenario: 'relay',
    unit: 'MiB',
    meaning: 'Largest RSS of a fresh agent over its warm-up and one round.',
  },
  'stalled-peak-rss': {
    scenario: 'stall',
    unit: 'MiB',
    meaning: 'Largest RSS of a fresh agent whose client stands still amid the outstanding pushes.',
  },
  'ack-storm': {
    scenario: 'ack-storm',
    unit: 'ms',
    meaning: 'First of many ACKs written to the last of them received, sent without waiting for anything.',
  },
  'ack-storm-cpu': { scenario: 'ack-storm', unit: 'ms', meaning: 'CPU time of the agent for all of them.' },
  'ack-storm-peak-rss': {
    scenario: 'ack-storm',
    unit: 'MiB',
    meaning: 'Largest RSS of a fresh agent over one such storm.',
  },
  'conversion-first': {
    scenario: 'ecds',
    unit: 'ms',
    meaning:
      'Push sent to rewritten config received, for the first extension config of a process, module not cached.',
  },
  'conversion-cold': {
    scenario: 'ecds',
    unit: 'ms',
    meaning: 'The same for a later one, module not cached.',
  },
  'conversion-warm': {
    scenario: 'ecds',
    unit: 'ms',
    meaning: 'The same with the module cached and another plugin configuration, median of a round.',
  },
  'conversion-peak-rss-rise': {
    scenario: 'ecds',
    unit: 'MiB',
    meaning: 'Largest RSS during a cold conversion minus the RSS before it.',
  },
  'oci-conversion-cold': {
    scenario: 'ecds-oci',
    unit: 'ms',
    meaning: 'conversion-cold with the module in an OCI image, pulled from a registry without TLS.',
  },
  'conversion-of-1': {
    scenario: 'ecds-count',
    unit: 'ms',
    meaning: 'Push of one plugin sent to its rewritten config received, module cached, median of a round.',
  },
  'conversion-of-10': {
    scenario: 'ecds-count',
    unit: 'ms',
    meaning: 'The same for ten plugins with one module, to the last of their configs.',
  },
  'conversion-of-100': { scenario: 'ecds-count', unit: 'ms', meaning: 'The same for a hundred plugins.' },
  'many-modules-conversion': {
    scenario: 'many-modules',
    unit: 'ms',
    meaning:
      'One push of many plugins, each with a module of its own that is not cached, to the last config.',
  },
  'many-modules-peak-rss': {
    scenario: 'many-modules',
    unit: 'MiB',
    meaning: 'Largest RSS of that process.',
  },
  'shared-url-downloads': {
    scenario: 'shared-url',
    unit: 'count',
    meaning: 'Downloads when one push holds many plugins that name one URL.',
  },
  'shared-url-conversion': {
    scenario: 'shared-url',
    unit: 'ms',
    meaning: 'Push sent to the last of those configs received.',
  },
  'fetch-throughput': {
    scenario: 'fetch',
    unit: 'MB/s',
    meaning: 'Bytes of a module over the time from push to rewritten config, fetched over HTTP, not cached.',
  },
  'fetch-to-curl': {
    scenario: 'fetch',
    unit: 'x',
    meaning: 'That speed over the speed of curl | sha256sum for the same URL in the same round.',
  },
  'fetch-to-digest': {
    scenario: 'fetch',
    unit: 'x',
    meaning: 'That speed over the speed of SHA-256 alone, over the same bytes in memory.',
  },
} as const satisfies Readonly<Record<string, MetricDefinition>>;

/** A metric as the document describes it. */
export interface MetricDefinition {
  readonly scenario: Scenario;
  readonly unit: 'ms' | 'MiB' | 'MB/s' | 's/GB' | 'count' | 'x';
  readonly meaning: string;
}

export type MetricName = keyof typeof metricCatalog;

/** Parts of the bench that can be run alone, in the order in which they run. */
export const scenarios = [
  'start',
  'ready',
  'idle',
  'ten-agents',
  'settled',
  'relay',
  'first-pushes',
  'stall',
  'ack-storm',
  'ecds',
  'ecds-oci',
  'ecds-count',
  'many-modules',
  'shared-url',
  'fetch',
] as const;
export type Scenario = (typeof scenarios)[number];
