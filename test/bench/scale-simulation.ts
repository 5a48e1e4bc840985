/**
 * Prints the tables of docs/scale.md: what a fleet does to a registry, with and without mirrors, and to a control plane.
 *
 *   npm run scale -- [--agents 10000] [--seed 1]
 */
import { parseArgs } from 'node:util';
import { SeededRandom } from '../support/seeded-random.ts';
import { formatSize } from './byte-size.ts';
import {
  type FleetOutcome,
  type FleetPush,
  type RegistryModel,
  simulatePush,
  simulateReconnect,
} from './scale-model.ts';

const usageExitCode = 2;
const bytesPerGbit = 125_000_000;
/** A pod's share of its node's network. */
const agentBytesPerSecond = 0.5 * bytesPerGbit;
const fetchTimeoutMs = 30_000;

const plainRegistry: RegistryModel = {
  bytesPerSecond: 10 * bytesPerGbit,
  agentBytesPerSecond,
  pullRequestCount: 2,
  outageMs: 0,
  pullsPerSecond: undefined,
  retryAfterMs: undefined,
};

interface Row {
  readonly label: string;
  readonly push: Omit<FleetPush, 'fetchTimeoutMs'>;
  readonly registry?: Partial<RegistryModel>;
  /** Pull-through mirrors that share the agents; each pulls once from the registry. */
  readonly mirrorCount?: number;
}

function main(): void {
  const { values } = parseArgs({
    options: { agents: { type: 'string', default: '10000' }, seed: { type: 'string', default: '1' } },
  });
  const agentCount = Number(values.agents);
  const seed = Number(values.seed);
  if (!Number.isInteger(agentCount) || agentCount < 1 || !Number.isInteger(seed)) {
    process.stderr.write('scale: --agents and --seed are whole numbers, agents from 1\n');
    process.exitCode = usageExitCode;
    return;
  }
  process.stdout.write(`${agentCount} agents, seed ${seed}\n\n${changeTable(agentCount, seed)}\n`);
  process.stdout.write(
    `${outageTable(agentCount, seed)}\n${limitTable(agentCount, seed)}\n${reconnectTable(agentCount, seed)}`,
  );
}

function changeTable(agentCount: number, seed: number): string {
  const rows: Row[] = [1_000_000, 10_000_000].flatMap((moduleBytes) => [
    ...[1_000, 10_000, 60_000].map((spreadMs) => ({
      label: `${formatSize(moduleBytes)}, pushed within ${spreadMs / 1000} s`,
      push: { agentCount, moduleBytes, spreadMs },
    })),
    {
      label: `${formatSize(moduleBytes)}, within 10 s, 10 mirrors`,
      push: { agentCount, moduleBytes, spreadMs: 10_000 },
      mirrorCount: 10,
    },
    {
      label: `${formatSize(moduleBytes)}, within 10 s, a mirror for 20 agents`,
      push: { agentCount, moduleBytes, spreadMs: 10_000 },
      mirrorCount: Math.ceil(agentCount / 20),
    },
  ]);
  return table('A new module for all, registry with 10 Gbit/s', rows, seed);
}

function outageTable(agentCount: number, seed: number): string {
  const rows = [10, 60, 600, 3600].map(
    (seconds): Row => ({
      label: `${seconds} s`,
      push: { agentCount, moduleBytes: 1_000_000, spreadMs: 10_000 },
      registry: { outageMs: seconds * 1000 },
    }),
  );
  return table('The registry is away when 1 MB is pushed; times from its return', rows, seed);
}

function limitTable(agentCount: number, seed: number): string {
  const push = { agentCount, moduleBytes: 1_000_000, spreadMs: 10_000 };
  const rows: Row[] = [
    { label: '200 pulls a second, 429 alone', push, registry: { pullsPerSecond: 200 } },
    {
      label: '200 a second, Retry-After 10 s',
      push,
      registry: { pullsPerSecond: 200, retryAfterMs: 10_000 },
    },
    {
      label: '200 a second, Retry-After 60 s',
      push,
      registry: { pullsPerSecond: 200, retryAfterMs: 60_000 },
    },
  ];
  return table('The registry limits pulls; 1 MB, pushed within 10 s', rows, seed);
}

function table(title: string, rows: readonly Row[], seed: number): string {
  const head = [
    title,
    'requests',
    'refused while away',
    'peak a second',
    'after its return',
    'GB',
    'of them wasted',
    'median s',
    'p99 s',
    'last s',
    'first verdict NACK',
  ];
  return markdown([head, ...rows.map((row) => cellsOf(row, simulate(row, seed)))]);
}

/** With mirrors: one mirror is simulated with its part of the agents, and all are alike. */
function simulate({ push, registry, mirrorCount = 1 }: Row, seed: number): FleetOutcome {
  const share = { ...push, agentCount: Math.ceil(push.agentCount / mirrorCount), fetchTimeoutMs };
  return simulatePush(share, { ...plainRegistry, ...registry }, new SeededRandom(seed));
}

function cellsOf({ label, registry, mirrorCount = 1 }: Row, outcome: FleetOutcome): readonly string[] {
  const seconds = (ms: number | undefined): string => (ms === undefined ? 'not all' : (ms / 1000).toFixed(1));
  const total = (count: number): string => String(Math.round(count * mirrorCount));
  return [
    label,
    total(outcome.requestCount),
    total(outcome.refusedCount),
    total(outcome.peakRequestsPerSecond),
    (registry?.outageMs ?? 0) > 0 ? total(outcome.peakRecoveryRequestsPerSecond) : '',
    ((outcome.transferredBytes * mirrorCount) / 1e9).toFixed(1),
    ((outcome.wastedBytes * mirrorCount) / 1e9).toFixed(1),
    seconds(outcome.medianMs),
    seconds(outcome.p99Ms),
    seconds(outcome.lastMs),
    total(outcome.refusedPushCount),
  ];
}

function reconnectTable(agentCount: number, seed: number): string {
  const rows = [5, 60, 600].map((seconds) => {
    const outcome = simulateReconnect(agentCount, seconds * 1000, new SeededRandom(seed));
    return [
      `${seconds} s`,
      String(outcome.refusedCount),
      String(outcome.peakDialsPerSecond),
      String(outcome.peakRecoveryPerSecond),
      (outcome.medianMs / 1000).toFixed(1),
      (outcome.lastMs / 1000).toFixed(1),
    ];
  });
  const head = [
    'The control plane is away for',
    'dials refused',
    'peak a second',
    'connections a second after its return',
    'median s',
    'last s',
  ];
  return markdown([head, ...rows]);
}

function markdown(rows: readonly (readonly string[])[]): string {
  const [head = [], ...rest] = rows;
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |\n`;
  return `${line(head)}${line(head.map((_, index) => (index === 0 ? '---' : '---:')))}${rest.map(line).join('')}`;
}

main();
