import { setTimeout as sleep } from 'node:timers/promises';
import type { LoadSide } from './load-side.ts';
import type { MetricName } from './metric-catalog.ts';
import { cpuSeconds, memoryUsage, peakRssMib } from './process-usage.ts';
import { median, percentile } from './statistics.ts';
import type { AgentSubject, Subject } from './subject.ts';

/** What one measurement found: several metrics of one subject at one size. */
export type Measurement = Readonly<Partial<Record<MetricName, number>>>;

/** How much work one measurement is. */
export interface Effort {
  /** Bytes to push in one round, within the bounds of the count. */
  readonly roundBytes: number;
  readonly minPushCount: number;
  readonly maxPushCount: number;
  readonly idleSettleMs: number;
  readonly stallMs: number;
  readonly warmConversionCount: number;
  readonly ackCount: number;
}

export const fullEffort: Effort = {
  roundBytes: 500_000_000,
  minPushCount: 8,
  maxPushCount: 3000,
  idleSettleMs: 5000,
  stallMs: 5000,
  warmConversionCount: 9,
  ackCount: 10_000,
};

export const quickEffort: Effort = {
  roundBytes: 60_000_000,
  minPushCount: 3,
  maxPushCount: 500,
  idleSettleMs: 1000,
  stallMs: 1000,
  warmConversionCount: 3,
  ackCount: 2_000,
};

/** Enough to see a gross loss, and no more. */
export const checkEffort: Effort = {
  roundBytes: 120_000_000,
  minPushCount: 4,
  maxPushCount: 1000,
  idleSettleMs: 2000,
  stallMs: 1000,
  warmConversionCount: 5,
  ackCount: 10_000,
};

/** Agents side by side on one machine. */
export const neighbourCount = 10;

/** Pushes that are under way when the client stands still. */
export const stalledPushCount = 8;
/** A fourth of a round warms a fresh process up; its pushes are checked byte by byte and not timed. */
const warmUpPart = 0.25;
const quietPushBytes = 1000;
const quietPushCount = 20;
/** Pushed before memory is looked at, unless that is too few or too many pushes. */
const settledBytes = 40_000_000;
const bytesPerMb = 1_000_000;
const bytesPerGb = 1_000_000_000;
const nsInMs = 1_000_000;

/** Pushes, ACKed one by one, through a fresh process. `resourceBytes` as in PushPlan. */
export async function measureRelay(
  load: LoadSide,
  subject: Subject,
  { sizeBytes, resourceBytes }: { readonly sizeBytes: number; readonly resourceBytes: number | undefined },
  effort: Effort,
): Promise<Measurement> {
  const wantedCount = Math.floor(effort.roundBytes / sizeBytes);
  const count = Math.min(effort.maxPushCount, Math.max(effort.minPushCount, wantedCount));
  const expected = await load.plan(sizeBytes, 1, resourceBytes === undefined ? {} : { resourceBytes });
  return await load.withSubject(subject, async (agent) => {
    await load.client.call('open', { target: load.target(agent), mode: load.mode, expected });
    await load.client.call('exchange', { count: Math.ceil(count * warmUpPart), isChecked: true });
    const cpuBefore = agent === undefined ? 0 : cpuSeconds(agent.pid);
    const { latenciesMs, durationMs } = await load.client.call('exchange', { count, isChecked: false });
    const cpu = agent === undefined ? undefined : cpuSeconds(agent.pid) - cpuBefore;
    // Bytes that went wrong meanwhile would be of no use to anyone: look at one more push.
    await load.client.call('exchange', { count: 1, isChecked: true });
    return {
      'latency-p50': percentile(latenciesMs, 50),
      'latency-p99': percentile(latenciesMs, 99),
      throughput: (count * sizeBytes) / bytesPerMb / (durationMs / 1000),
      ...(agent === undefined || cpu === undefined
        ? {}
        : {
            'cpu-per-gb': cpu / ((count * sizeBytes) / bytesPerGb),
            'cpu-per-push': (cpu * 1000) / count,
            'peak-rss': peakRssMib(agent.pid),
          }),
    };
  });
}

/**
 * What any agent takes for so few and so small pushes, with code that has hardly run: as many as there are warm
 * conversions, at their rhythm. No conversion can be faster.
 */
export async function measureFirstPushes(
  load: LoadSide,
  subject: Subject,
  effort: Effort,
): Promise<Measurement> {
  const expected = await load.plan(quietPushBytes, 1);
  return await load.withSubject(subject, async (agent) => {
    await load.client.call('open', { target: load.target(agent), mode: load.mode, expected });
    const latenciesMs: number[] = [];
    for (let count = 0; count < effort.warmConversionCount; count += 1) {
      const exchanged = await load.client.call('exchange', { count: 1, isChecked: false });
      latenciesMs.push(...exchanged.latenciesMs);
    }
    return { 'first-pushes-latency': median(latenciesMs) };
  });
}

/** The client stands still in the middle of the first of several pushes. */
export async function measureStall(
  load: LoadSide,
  subject: AgentSubject,
  sizeBytes: number,
  effort: Effort,
): Promise<Measurement> {
  const expected = await load.plan(sizeBytes, stalledPushCount);
  return await load.withAgent(subject, async (agent) => {
    await load.client.call('openAndStall', {
      target: load.target(agent),
      mode: load.mode,
      expected,
      count: stalledPushCount,
      durationMs: effort.stallMs,
    });
    return { 'stalled-peak-rss': peakRssMib(agent.pid) };
  });
}

/** A process that has relayed a little and then had nothing to do. */
export async function measureIdle(
  load: LoadSide,
  subject: AgentSubject,
  effort: Effort,
): Promise<Measurement> {
  const usage = await restingMemory(load, subject, {
    sizeBytes: quietPushBytes,
    pushCount: quietPushCount,
    restMs: effort.idleSettleMs,
  });
  return { 'idle-rss': usage.rssMib, 'idle-pss': usage.pssMib, 'idle-anonymous': usage.anonymousMib };
}

/** ACKs that wait for nothing, as after a restart of a control plane with many types and slow answers. */
export async function measureAckStorm(
  load: LoadSide,
  subject: Subject,
  effort: Effort,
): Promise<Measurement> {
  const expected = await load.plan(quietPushBytes, 1, { isPushingOnAck: false });
  return await load.withSubject(subject, async (agent) => {
    await load.client.call('open', { target: load.target(agent), mode: load.mode, expected });
    const cpuBefore = agent === undefined ? 0 : cpuSeconds(agent.pid);
    const taken = load.server.call('takeAcks', effort.ackCount);
    const { startedAtNs } = await load.client.call('storm', effort.ackCount);
    const { receivedAtNs } = await taken;
    return {
      'ack-storm': Number(receivedAtNs - startedAtNs) / nsInMs,
      ...(agent === undefined
        ? {}
        : {
            'ack-storm-cpu': (cpuSeconds(agent.pid) - cpuBefore) * 1000,
            'ack-storm-peak-rss': peakRssMib(agent.pid),
          }),
    };
  });
}

/** A process that has relayed pushes of one size and then had nothing to do. */
export async function measureSettled(
  load: LoadSide,
  subject: AgentSubject,
  sizeBytes: number,
  effort: Effort,
): Promise<Measurement> {
  const usage = await restingMemory(load, subject, {
    sizeBytes,
    pushCount: settledPushCount(sizeBytes),
    restMs: effort.idleSettleMs,
  });
  return {
    'settled-rss': usage.rssMib,
    'settled-pss': usage.pssMib,
    'settled-anonymous': usage.anonymousMib,
  };
}

/** The memory of a fresh process that has relayed so many pushes and then rested. */
async function restingMemory(
  load: LoadSide,
  subject: AgentSubject,
  pushes: { readonly sizeBytes: number; readonly pushCount: number; readonly restMs: number },
): Promise<ReturnType<typeof memoryUsage>> {
  const expected = await load.plan(pushes.sizeBytes, 1);
  return await load.withAgent(
    subject,
    async (agent) => {
      await load.client.call('open', { target: load.target(agent), mode: load.mode, expected });
      await load.client.call('exchange', { count: pushes.pushCount, isChecked: true });
      await sleep(pushes.restMs);
      return memoryUsage(agent.pid);
    },
    { isNodeCopied: true },
  );
}

/** Enough pushes for memory to take its shape. */
function settledPushCount(sizeBytes: number): number {
  return Math.min(100, Math.max(12, Math.floor(settledBytes / sizeBytes)));
}

/**
 * Many agents of one machine share the pages of their binary. Each gets pushes of one size, one agent after the other;
 * without a size their streams stay quiet.
 */
export async function measureNeighbours(
  load: LoadSide,
  subject: AgentSubject,
  sizeBytes: number | null,
  effort: Effort,
): Promise<Measurement> {
  const expected = await load.plan(sizeBytes ?? quietPushBytes, 1);
  const pushCount = sizeBytes === null ? 0 : settledPushCount(sizeBytes);
  return await load.withAgents(subject, neighbourCount, async (agents) => {
    for (const agent of agents) {
      const target = load.target(agent);
      await load.client.call('openQuiet', { target, mode: load.mode, expected, pushCount });
    }
    await sleep(effort.idleSettleMs);
    const total = agents.reduce((sum, agent) => sum + memoryUsage(agent.pid).pssMib, 0);
    return { 'ten-agents-pss': total / agents.length };
  });
}

/** From nothing to an open socket. */
export async function measureStart(load: LoadSide, subject: AgentSubject): Promise<Measurement> {
  return await load.withAgent(
    subject,
    async (agent) => await Promise.resolve({ 'start-to-accept': agent.startMs }),
  );
}
