/**
 * What many agents do to one registry and one control plane, computed with the product's own waits. Time goes in steps;
 * what is under way shares the registry's bandwidth evenly, as TCP connections of one link do.
 */

import { defaultFirstWaitMs } from '../../agent/fetch/oci/registry.ts';
import { maxAttemptCount, registryWaitMs } from '../../agent/fetch/oci/registry-exchange.ts';
import { retryDelayMs } from '../../agent/wasm/retry-delay.ts';
import { redialDelayMs } from '../../agent/xds/redial-backoff.ts';
import type { SeededRandom } from '../support/seeded-random.ts';
import { percentile } from './statistics.ts';

/** A push of one new module to a fleet. */
export interface FleetPush {
  readonly agentCount: number;
  readonly moduleBytes: number;
  /** Time over which the control plane pushes to all, in ms. */
  readonly spreadMs: number;
  /** `http_uri.timeout` of the config: istiod sends 30 s. */
  readonly fetchTimeoutMs: number;
}

/** One registry, or one mirror. */
export interface RegistryModel {
  readonly bytesPerSecond: number;
  /** The most that one agent's connection takes. */
  readonly agentBytesPerSecond: number;
  /** Requests that make one pull: manifest and layer. */
  readonly pullRequestCount: number;
  /** Refuses connections from the push until then, in ms. */
  readonly outageMs: number;
  /** Pulls begun in a second beyond which it answers 429; undefined: none. */
  readonly pullsPerSecond: number | undefined;
  /** With the 429. */
  readonly retryAfterMs: number | undefined;
}

/** What came of it. Times are from the push, or from the end of the outage where there is one. */
export interface FleetOutcome {
  readonly requestCount: number;
  /** During an outage, while nothing is answered. */
  readonly refusedCount: number;
  readonly peakRequestsPerSecond: number;
  /** From the end of the outage on. */
  readonly peakRecoveryRequestsPerSecond: number;
  readonly transferredBytes: number;
  /** Of those, begun and not finished in time. */
  readonly wastedBytes: number;
  readonly medianMs: number;
  readonly p99Ms: number;
  /** Undefined: some agents had nothing at the end of the simulated time. */
  readonly lastMs: number | undefined;
  /** Agents whose first verdict was a NACK. */
  readonly refusedPushCount: number;
}

const stepMs = 100;
const stepsPerSecond = 1000 / stepMs;
const longestMs = 3 * 3_600_000;

interface Agent {
  pullStartMs: number;
  /** Tries of the request under way. */
  tryCount: number;
  /** Pulls that failed. */
  failedCount: number;
  receivedBytes: number;
  doneAtMs: number | undefined;
}

/** Simulates until all have the module, three hours at the most. */
export function simulatePush(push: FleetPush, registry: RegistryModel, random: SeededRandom): FleetOutcome {
  return new FleetSimulation(push, registry, random).run();
}

class FleetSimulation {
  readonly #push: FleetPush;
  readonly #registry: RegistryModel;
  readonly #random: SeededRandom;
  readonly #due = new Map<number, Agent[]>();
  readonly #requestsOfSecond: number[] = [];
  #downloads: Agent[] = [];
  #doneCount = 0;
  #refusedCount = 0;
  #transferredBytes = 0;
  #wastedBytes = 0;

  constructor(push: FleetPush, registry: RegistryModel, random: SeededRandom) {
    this.#push = push;
    this.#registry = registry;
    this.#random = random;
  }

  run(): FleetOutcome {
    const { agentCount, spreadMs } = this.#push;
    const agents = Array.from({ length: agentCount }, (): Agent => {
      const agent = { pullStartMs: 0, tryCount: 0, failedCount: 0, receivedBytes: 0, doneAtMs: undefined };
      this.#at(this.#random.next() * spreadMs, agent);
      return agent;
    });
    for (let step = 0; this.#doneCount < agentCount && step * stepMs < longestMs; step += 1) {
      const nowMs = step * stepMs;
      this.#answer(this.#due.get(step) ?? [], nowMs);
      this.#due.delete(step);
      this.#transfer(nowMs);
    }
    return this.#outcome(agents);
  }

  #at(timeMs: number, agent: Agent): void {
    const step = Math.ceil(timeMs / stepMs);
    const agents = this.#due.get(step);
    if (agents === undefined) this.#due.set(step, [agent]);
    else agents.push(agent);
  }

  /** Those whose turn it is send their first request. */
  #answer(agents: readonly Agent[], nowMs: number): void {
    const { outageMs, pullsPerSecond, pullRequestCount, retryAfterMs } = this.#registry;
    let room = pullsPerSecond === undefined ? Number.POSITIVE_INFINITY : pullsPerSecond / stepsPerSecond;
    for (const agent of agents) {
      if (agent.tryCount === 0) agent.pullStartMs = nowMs;
      agent.tryCount += 1;
      if (nowMs < outageMs) {
        this.#count(nowMs, 1);
        this.#refusedCount += 1;
        this.#failTry(agent, nowMs, 'network', undefined);
      } else if (room < 1) {
        this.#count(nowMs, 1);
        this.#failTry(agent, nowMs, 'http_status', retryAfterMs);
      } else {
        room -= 1;
        this.#count(nowMs, pullRequestCount);
        agent.receivedBytes = 0;
        this.#downloads.push(agent);
      }
    }
  }

  #failTry(
    agent: Agent,
    nowMs: number,
    code: 'network' | 'http_status',
    retryAfterMs: number | undefined,
  ): void {
    const waitMs = retryAfterMs ?? registryWaitMs(defaultFirstWaitMs, agent.tryCount, this.#random.next());
    const isInTime = nowMs + waitMs < agent.pullStartMs + this.#push.fetchTimeoutMs;
    if (agent.tryCount < maxAttemptCount && isInTime) this.#at(nowMs + waitMs, agent);
    else this.#failPull(agent, nowMs, code, retryAfterMs);
  }

  #failPull(
    agent: Agent,
    nowMs: number,
    code: 'network' | 'http_status' | 'timeout',
    retryAfterMs: number | undefined,
  ): void {
    agent.failedCount += 1;
    agent.tryCount = 0;
    const delayMs = retryDelayMs(code, agent.failedCount, retryAfterMs, () => this.#random.next());
    this.#at(nowMs + delayMs, agent);
  }

  /** One step of all downloads. */
  #transfer(nowMs: number): void {
    if (this.#downloads.length === 0) return;
    const { bytesPerSecond, agentBytesPerSecond } = this.#registry;
    const share = Math.min(agentBytesPerSecond, bytesPerSecond / this.#downloads.length) / stepsPerSecond;
    const { moduleBytes, fetchTimeoutMs } = this.#push;
    this.#downloads = this.#downloads.filter((agent) => {
      const taken = Math.min(share, moduleBytes - agent.receivedBytes);
      agent.receivedBytes += taken;
      this.#transferredBytes += taken;
      if (agent.receivedBytes >= moduleBytes) {
        agent.doneAtMs = nowMs + stepMs;
        this.#doneCount += 1;
        return false;
      }
      if (nowMs + stepMs < agent.pullStartMs + fetchTimeoutMs) return true;
      this.#wastedBytes += agent.receivedBytes;
      this.#failPull(agent, nowMs + stepMs, 'timeout', undefined);
      return false;
    });
  }

  #count(nowMs: number, requestCount: number): void {
    const second = Math.floor(nowMs / 1000);
    this.#requestsOfSecond[second] = (this.#requestsOfSecond[second] ?? 0) + requestCount;
  }

  #outcome(agents: readonly Agent[]): FleetOutcome {
    const { outageMs } = this.#registry;
    const counts = Array.from(this.#requestsOfSecond, (count) => count ?? 0);
    const done = agents.flatMap(({ doneAtMs }) => (doneAtMs === undefined ? [] : [doneAtMs - outageMs]));
    return {
      requestCount: counts.reduce((sum, count) => sum + count, 0),
      refusedCount: this.#refusedCount,
      peakRequestsPerSecond: Math.max(0, ...counts),
      peakRecoveryRequestsPerSecond: Math.max(0, ...counts.slice(Math.floor(outageMs / 1000))),
      transferredBytes: this.#transferredBytes,
      wastedBytes: this.#wastedBytes,
      medianMs: done.length === 0 ? Number.NaN : percentile(done, 50),
      p99Ms: done.length === 0 ? Number.NaN : percentile(done, 99),
      lastMs: done.length === agents.length ? Math.max(...done) : undefined,
      refusedPushCount: agents.filter(({ failedCount }) => failedCount > 0).length,
    };
  }
}

/** How Envoy waits between streams: a random part of a bound that grows (envoy `backoff_strategy.cc`, its defaults). */
const envoyFirstWaitMs = 500;
const envoyLargestWaitMs = 30_000;
const envoyWaitFactor = 2;

/** What came of a control plane that was away. */
export interface ReconnectOutcome {
  /** Dials that found nobody. */
  readonly refusedCount: number;
  readonly peakDialsPerSecond: number;
  /** From its return on. */
  readonly medianMs: number;
  readonly lastMs: number;
  /** The most connections of one second after its return. */
  readonly peakRecoveryPerSecond: number;
}

/** Agents of a control plane that goes away at once and comes back after `outageMs`. */
export function simulateReconnect(
  agentCount: number,
  outageMs: number,
  random: SeededRandom,
): ReconnectOutcome {
  const dials: number[] = [];
  const recovered: number[] = [];
  for (let index = 0; index < agentCount; index += 1) {
    let nowMs = 0;
    let notBeforeMs = 0;
    for (let failedCount = 0; ; failedCount += 1) {
      const bound = Math.min(envoyLargestWaitMs, envoyFirstWaitMs * envoyWaitFactor ** failedCount);
      // The agent waits for what is left of its own pause when Envoy comes sooner.
      nowMs = Math.max(nowMs + random.next() * bound, notBeforeMs);
      if (nowMs >= outageMs) break;
      dials.push(nowMs);
      notBeforeMs = nowMs + redialDelayMs(failedCount + 1, random.next());
    }
    recovered.push(nowMs - outageMs);
  }
  return {
    refusedCount: dials.length,
    peakDialsPerSecond: peakOf(dials),
    medianMs: percentile(recovered, 50),
    lastMs: recovered.reduce((most, each) => Math.max(most, each), 0),
    peakRecoveryPerSecond: peakOf(recovered),
  };
}

function peakOf(timesMs: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const timeMs of timesMs) {
    const second = Math.floor(timeMs / 1000);
    counts.set(second, (counts.get(second) ?? 0) + 1);
  }
  return [...counts.values()].reduce((most, each) => Math.max(most, each), 0);
}
