/**
 * Many real agents on one machine against one registry and one control plane, to hold the model of scale-model.ts
 * against: a plugin change for all, the same amid an outage of the registry, and a restart of the control plane. Each
 * agent is a process without an Envoy; the Envoys are light clients in this one. Times of one machine say what the
 * machine can do; counts, bytes and the spread of retries are what is compared.
 *
 *   npm run build && npm run scale:agents -- --agents 100 --outage 60
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { ControlPlane } from '../support/control-plane/control-plane.ts';
import { wasmPlugin } from '../support/control-plane/extension-configs.ts';
import { typeUrls } from '../support/control-plane/type-urls.ts';
import { World } from '../support/control-plane/world.ts';
import { buildHeaderPlugin } from '../support/plugin-build.ts';
import { Registry } from '../support/registry.ts';
import { exitOnSignals, holdTemporaryFolder } from '../support/run-end.ts';
import { SeededRandom } from '../support/seeded-random.ts';
import { LightEnvoy } from './light-envoy.ts';
import { memoryUsage } from './process-usage.ts';
import { simulatePush } from './scale-model.ts';
import { percentile } from './statistics.ts';
import { ferrySubject, prepareSubjectFiles, type RunningAgent, startAgent } from './subject.ts';

const usageExitCode = 2;
const maxAgentCount = 1000;
const settleMs = 3000;
const changeDeadlineMs = 120_000;
/** After the end of an outage: the longest wait is 90 s. */
const healDeadlineMs = 180_000;
const lookIntervalMs = 100;
const repository = 'fleet/plugin';
const pluginName = 'fleet';
const bytesPerMib = 1024 * 1024;

interface Agent {
  readonly running: RunningAgent;
  readonly envoy: LightEnvoy;
  /** When the config with this text came; the newest only. */
  lastValue: string;
  lastAtMs: number;
}

/** The fleet and what it runs against. */
class Fleet {
  readonly controlPlane: ControlPlane;
  readonly registry: Registry;
  readonly agents: Agent[] = [];
  #generation = 0;

  constructor(controlPlane: ControlPlane, registry: Registry) {
    this.controlPlane = controlPlane;
    this.registry = registry;
  }

  /** Pushes a new image of the plugin to all. Returns what the rewritten config holds, and when the push began. */
  async push(): Promise<{ readonly mark: string; readonly startedAtMs: number; readonly version: string }> {
    this.#generation += 1;
    const label = `generation-${this.#generation}`;
    const { path } = await buildHeaderPlugin(label);
    const { url } = await this.registry.pushImage({ repository, tag: label, layout: 'compat', wasm: path });
    const plugin = wasmPlugin({ name: pluginName, url, pluginConfig: { label } });
    this.registry.http.forgetRequests();
    const startedAtMs = performance.now();
    const { version } = this.controlPlane.applyWorld(World.of(plugin.resource));
    return { mark: label, startedAtMs, version };
  }

  /** Waits until all have the config with this text rewritten; returns when each got it, in ms after `sinceMs`. */
  async timesTo(mark: string, sinceMs: number, deadlineMs: number): Promise<readonly number[]> {
    const end = performance.now() + deadlineMs;
    const isThere = ({ lastValue }: Agent): boolean =>
      lastValue.includes(mark) && lastValue.includes('/blobs/');
    while (!this.agents.every(isThere)) {
      if (performance.now() > end) {
        const missing = this.agents.filter((agent) => !isThere(agent)).length;
        throw new Error(
          `${missing} of ${this.agents.length} agents have nothing after ${deadlineMs / 1000} s.`,
        );
      }
      await sleep(lookIntervalMs);
    }
    return this.agents.map(({ lastAtMs }) => Math.max(0, lastAtMs - sinceMs));
  }

  /** Requests, and their bytes, since the last push. */
  registryUse(): { readonly requestCount: number; readonly sentMib: number } {
    const { http } = this.registry;
    return { requestCount: http.count(), sentMib: http.bodyBytesSent / bytesPerMib };
  }

  verdictCounts(version: string): { readonly acks: number; readonly nacks: number } {
    const answers = this.controlPlane.journal.entries.filter(
      (entry) => entry.kind === 'request' && entry.answeredVersion === version,
    );
    const nacks = answers.filter((entry) => entry.kind === 'request' && entry.request.error !== undefined);
    return { acks: answers.length - nacks.length, nacks: nacks.length };
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { agents: { type: 'string', default: '100' }, outage: { type: 'string', default: '60' } },
  });
  const agentCount = Number(values.agents);
  const outageSeconds = Number(values.outage);
  const isUsable =
    Number.isInteger(agentCount) && agentCount >= 1 && agentCount <= maxAgentCount && outageSeconds >= 0;
  if (!isUsable) {
    console.error(`scale: --agents is a whole number up to ${maxAgentCount}, --outage a number of seconds`);
    process.exit(usageExitCode);
  }
  const files = await prepareSubjectFiles(holdTemporaryFolder('scale'));
  await using parts = new AsyncDisposableStack();
  const controlPlane = parts.use(await ControlPlane.start({ world: World.empty }));
  const registry = parts.use(await Registry.start());
  const fleet = new Fleet(controlPlane, registry);
  const context = { upstream: { port: controlPlane.port, tls: undefined }, files, environment: {} };
  const subject = ferrySubject();
  for (let index = 0; index < agentCount; index += 1) {
    const running = parts.use(await startAgent(subject, { context, isNodeCopied: true }));
    fleet.agents.push(connect(running, index));
    parts.defer(() => fleet.agents[index]?.envoy.close());
    if ((index + 1) % 10 === 0) console.error(`${index + 1} of ${agentCount} agents run`);
  }
  await until(() => subscribedCount(controlPlane) === agentCount, 'all to subscribe', changeDeadlineMs);
  await sleep(settleMs);
  print('idle, no plugin yet', memoryText(fleet));

  const change = await fleet.push();
  const changeTimes = await fleet.timesTo(change.mark, change.startedAtMs, changeDeadlineMs);
  await until(() => fleet.verdictCounts(change.version).acks >= agentCount, 'all ACKs', changeDeadlineMs);
  const changeUse = fleet.registryUse();
  print(
    'plugin changed for all',
    `${timesText(changeTimes)}; ${useText(changeUse, agentCount)}; ${verdictText(fleet, change.version)}`,
  );
  await sleep(settleMs);
  print('idle, with the plugin', memoryText(fleet));

  await runOutage(fleet, outageSeconds);
  await runRestart(fleet);
}

/** A change while the registry resets every connection. */
async function runOutage(fleet: Fleet, outageSeconds: number): Promise<void> {
  const { registry, agents } = fleet;
  registry.http.script({ path: /\/v2\// }, { kind: 'disconnect' });
  const change = await fleet.push();
  await sleep(outageSeconds * 1000);
  const refusedCount = registry.http.count();
  registry.http.heal();
  const healedAtMs = performance.now();
  const times = await fleet.timesTo(change.mark, healedAtMs, healDeadlineMs);
  await until(() => fleet.verdictCounts(change.version).acks >= agents.length, 'all ACKs', changeDeadlineMs);
  print(
    `changed amid an outage of ${outageSeconds} s`,
    `${timesText(times)} after its end; ${refusedCount} requests refused, ${(refusedCount / agents.length).toFixed(1)} an agent; ${verdictText(fleet, change.version)}`,
  );
  const model = simulatePush(
    { agentCount: agents.length, moduleBytes: 15_000, spreadMs: 500, fetchTimeoutMs: 30_000 },
    {
      bytesPerSecond: 1e9,
      agentBytesPerSecond: 1e9,
      pullRequestCount: 2,
      outageMs: outageSeconds * 1000,
      pullsPerSecond: undefined,
      retryAfterMs: undefined,
    },
    new SeededRandom(1),
  );
  print(
    'the model of that',
    `median ${seconds(model.medianMs)}, p99 ${seconds(model.p99Ms)}, last ${seconds(model.lastMs ?? Number.NaN)} after its end; ${model.refusedCount} requests refused, ${(model.refusedCount / agents.length).toFixed(1)} an agent; ${model.refusedPushCount} NACKs`,
  );
}

/** The control plane goes away for a moment and comes back as a new process. */
async function runRestart(fleet: Fleet): Promise<void> {
  const { controlPlane, agents } = fleet;
  await controlPlane.stop();
  await sleep(settleMs);
  const startedAtMs = performance.now();
  await controlPlane.start();
  await until(() => subscribedCount(controlPlane) === agents.length, 'all to come back', healDeadlineMs);
  print(
    'the control plane was away for 3 s',
    `all ${agents.length} are back ${seconds(performance.now() - startedAtMs)} after its return`,
  );
}

function connect(running: RunningAgent, index: number): Agent {
  const agent: Agent = {
    running,
    lastValue: '',
    lastAtMs: 0,
    envoy: new LightEnvoy({
      socketPath: running.socketPath,
      nodeId: `router~127.0.0.1~fleet-${index}.bench~bench.svc.cluster.local`,
      name: wasmPlugin({ name: pluginName, url: 'oci://none/none' }).name,
      onResource: ({ atMs, value }) => {
        agent.lastAtMs = atMs;
        agent.lastValue = value.toString('latin1');
      },
    }),
  };
  return agent;
}

function subscribedCount(controlPlane: ControlPlane): number {
  return controlPlane.openStreams.filter(({ watches }) => watches.has(typeUrls.ecds)).length;
}

async function until(isDone: () => boolean, what: string, deadlineMs: number): Promise<void> {
  const end = performance.now() + deadlineMs;
  while (!isDone()) {
    if (performance.now() > end) throw new Error(`Waited ${deadlineMs / 1000} s in vain for ${what}.`);
    await sleep(lookIntervalMs);
  }
}

function memoryText({ agents }: Fleet): string {
  const usages = agents.map(({ running }) => memoryUsage(running.pid));
  const mean = (values: readonly number[]): string =>
    (values.reduce((sum, value) => sum + value, 0) / values.length).toFixed(1);
  const pss = usages.map(({ pssMib }) => pssMib);
  const total = pss.reduce((sum, value) => sum + value, 0);
  return `PSS ${mean(pss)} MiB, anonymous ${mean(usages.map(({ anonymousMib }) => anonymousMib))} MiB, RSS ${mean(usages.map(({ rssMib }) => rssMib))} MiB an agent; PSS of all ${total.toFixed(0)} MiB`;
}

function timesText(times: readonly number[]): string {
  return `median ${seconds(percentile(times, 50))}, p99 ${seconds(percentile(times, 99))}, last ${seconds(Math.max(...times))}`;
}

function useText(
  use: { readonly requestCount: number; readonly sentMib: number },
  agentCount: number,
): string {
  return `${use.requestCount} requests (${(use.requestCount / agentCount).toFixed(1)} an agent), ${use.sentMib.toFixed(1)} MiB`;
}

function verdictText(fleet: Fleet, version: string): string {
  const { acks, nacks } = fleet.verdictCounts(version);
  return `${acks} ACKs, ${nacks} NACKs`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}

function print(what: string, text: string): void {
  process.stdout.write(`${what}: ${text}\n`);
}

exitOnSignals();

await main();
