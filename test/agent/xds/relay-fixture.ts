import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { XdsConfig } from '../../../agent/config/agent-config.ts';
import { LogRoot } from '../../../agent/log.ts';
import { AdsRelay, type AdsRelayOptions } from '../../../agent/xds/relay.ts';
import { MetricRegistry } from '../../../metrics/registry.ts';
import { XdsMetrics } from '../../../metrics/xds-metrics.ts';
import { temporaryFolder } from '../../support/test-end.ts';

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

export interface RelayFixture extends AsyncDisposable {
  readonly relay: AdsRelay;
  readonly config: XdsConfig;
  readonly logLines: readonly LogLine[];
  /** Value of one sample, 0 when it is absent. */
  readonly sample: (name: string) => Promise<number>;
}

export function testConfig(folder: string, changes: Partial<XdsConfig>): XdsConfig {
  return {
    socketPath: join(folder, 'proxy', 'XDS'),
    socketMode: 0o600,
    socketGroupId: undefined,
    discoveryAddress: '127.0.0.1:1',
    tls: undefined,
    tokenPath: join(folder, 'no-token'),
    clusterId: 'Kubernetes',
    headers: {},
    maxRequestBytes: 4 * 1024 * 1024,
    maxConcurrentStreams: 100,
    keepaliveIntervalMs: 30_000,
    keepaliveTimeoutMs: 10_000,
    ...changes,
  };
}

/** A listening relay with its log and metrics, closed when the test ends. */
export async function startRelay(
  t: TestContext,
  changes: Partial<XdsConfig>,
  options: Partial<Omit<AdsRelayOptions, 'config' | 'log' | 'metrics'>> = {},
): Promise<RelayFixture> {
  const config = testConfig(await temporaryFolder(t), changes);
  const logLines: LogLine[] = [];
  const root = new LogRoot({
    format: 'json',
    levels: new Map([['default', 'debug']]),
    write: (line) => logLines.push(JSON.parse(line) as LogLine),
  });
  const registry = new MetricRegistry();
  const relay = new AdsRelay({
    config,
    interceptors: [],
    metrics: new XdsMetrics(registry),
    log: root.scope('xdsproxy'),
    ...options,
  });
  await relay.listen();
  t.after(async () => relay.close());
  return {
    relay,
    config,
    logLines,
    sample: async (name) => {
      const line = (await registry.exposition()).split('\n').find((text) => text.startsWith(`${name} `));
      return Number(line?.slice(name.length + 1) ?? 0);
    },
    [Symbol.asyncDispose]: async () => relay.close(),
  };
}
