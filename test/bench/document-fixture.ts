import { type BenchDocument, SampleBook } from './bench-result.ts';
import { metricCatalog } from './metric-catalog.ts';

/** A document of a small run, the same at each call. */
export function sampleDocument(): BenchDocument {
  const book = new SampleBook(['direct', 'ferry']);
  for (const value of [60, 62])
    book.add({ metric: 'start-to-accept', subject: 'ferry', sizeBytes: null }, value);
  for (const value of [0.0151, 0.0149]) {
    book.add({ metric: 'latency-p50', subject: 'direct', sizeBytes: 1000 }, value);
  }
  for (const value of [0.04, 0.09]) {
    book.add({ metric: 'added-latency-p50', subject: 'ferry', sizeBytes: 1000 }, value);
  }
  book.add({ metric: 'throughput', subject: 'direct', sizeBytes: 1000 }, 12.345);
  book.add({ metric: 'throughput', subject: 'ferry', sizeBytes: 1_500_000 }, 1840.6);
  return {
    schemaVersion: 1,
    kind: 'ferry-bench',
    startedAt: '2026-01-02T03:04:05.000Z',
    durationSeconds: 12,
    machine: {
      cpuModel: 'A CPU',
      coreCount: 2,
      memoryMib: 4096,
      kernel: '6.1.0',
      architecture: 'x64',
      nodeVersion: 'v24.0.0',
      loadBefore: 0.126,
      othersCpuShare: 0.014,
    },
    settings: { mode: 'delta', rounds: 2, quick: false },
    subjects: [
      { name: 'direct', command: null },
      { name: 'ferry', command: ['node', 'ferry-agent.cjs', 'proxy', 'router'] },
    ],
    metrics: metricCatalog,
    series: book.series(),
    warnings: ['Only two rounds.'],
  };
}
