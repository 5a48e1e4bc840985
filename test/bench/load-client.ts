/** Process of the fake Envoy. */
import { AdsClient, type ClientTarget, type ExpectedPush } from './ads-client.ts';
import type { XdsMode } from './discovery-wire.ts';
import { pluginResourceName, readRewrittenPlugins } from './plugin-push.ts';
import { serveCalls } from './worker-process.ts';

/** A rewritten plugin as the fake Envoy got it. */
export interface ReceivedPlugins {
  /** Monotonic time of the last byte of the last resource. */
  readonly receivedAtNs: bigint;
  /** Files that the configs name, in the order of `names`. */
  readonly modulePaths: readonly string[];
}

/** Calls of the process. One stream at a time. */
export interface LoadClientCalls {
  /** Opens a stream and takes the first push. */
  open(options: {
    readonly target: ClientTarget;
    readonly mode: XdsMode;
    readonly expected: ExpectedPush;
  }): Promise<void>;
  /** Opens a stream and takes `count` pushes, standing still for a while in the middle of the first. */
  openAndStall(options: {
    readonly target: ClientTarget;
    readonly mode: XdsMode;
    readonly expected: ExpectedPush;
    readonly count: number;
    readonly durationMs: number;
  }): Promise<void>;
  /** Opens one more stream, takes its first push and `pushCount` more, and leaves it quiet until `close`. */
  openQuiet(options: {
    readonly target: ClientTarget;
    readonly mode: XdsMode;
    readonly expected: ExpectedPush;
    readonly pushCount: number;
  }): Promise<void>;
  /** Sends so many ACKs of the push it holds, as fast as they are taken. Returns when the first was written. */
  storm(count: number): Promise<{ readonly startedAtNs: bigint }>;
  exchange(options: { readonly count: number; readonly isChecked: boolean }): Promise<{
    readonly latenciesMs: Float64Array;
    readonly durationMs: number;
  }>;
  subscribePlugins(names: readonly string[]): void;
  /** Gets ready to take these plugins in this revision; `takePlugins` waits until all have come. */
  expectPlugins(options: { readonly names: readonly string[]; readonly revision: number }): void;
  takePlugins(options: undefined): Promise<ReceivedPlugins>;
  close(options: undefined): Promise<void>;
}

let client: AdsClient | undefined;
let quietClients: AdsClient[] = [];
let currentMode: XdsMode = 'delta';
let expectedPlugins: Promise<ReceivedPlugins> | undefined;

function openClient(): AdsClient {
  if (client === undefined) throw new Error('No stream is open.');
  return client;
}

async function takePlugins(resourceNames: readonly string[], revision: number): Promise<ReceivedPlugins> {
  const paths = new Map<string, string>();
  const receivedAtNs = await openClient().takeExtensions(resourceNames, (response) => {
    for (const { resourceName, modulePath } of readRewrittenPlugins(currentMode, response, revision)) {
      paths.set(resourceName, modulePath);
    }
    return resourceNames.every((name) => paths.has(name));
  });
  return {
    receivedAtNs,
    modulePaths: resourceNames.map((name) => paths.get(name) ?? ''),
  };
}

serveCalls<LoadClientCalls>({
  async open({ target, mode, expected }) {
    currentMode = mode;
    client = await AdsClient.open(target, mode, expected);
    await client.start();
  },
  async openAndStall({ target, mode, expected, count, durationMs }) {
    currentMode = mode;
    client = await AdsClient.open(target, mode, expected);
    await client.takeWithStall(count, durationMs);
  },
  async openQuiet({ target, mode, expected, pushCount }) {
    const quiet = await AdsClient.open(target, mode, expected);
    quietClients.push(quiet);
    await quiet.start();
    if (pushCount > 0) await quiet.exchange(pushCount, true);
  },
  async storm(count) {
    const startedAtNs = process.hrtime.bigint();
    await openClient().storm(count);
    return { startedAtNs };
  },
  async exchange({ count, isChecked }) {
    const startedAtMs = performance.now();
    const latenciesMs = await openClient().exchange(count, isChecked);
    return { latenciesMs, durationMs: performance.now() - startedAtMs };
  },
  subscribePlugins(names) {
    openClient().subscribeExtensions(names.map(pluginResourceName));
  },
  expectPlugins({ names, revision }) {
    expectedPlugins = takePlugins(names.map(pluginResourceName), revision);
    // `takePlugins` reports it.
    expectedPlugins.catch(() => undefined);
  },
  async takePlugins() {
    if (expectedPlugins === undefined) throw new Error('No plugins are expected.');
    return await expectedPlugins;
  },
  async close() {
    await client?.close();
    await Promise.all(quietClients.map((each) => each.close()));
    client = undefined;
    quietClients = [];
  },
});
