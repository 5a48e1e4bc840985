/**
 * A relay in a process of its own, so that a test can measure its memory without that of the peers.
 * argv[2] is the configuration as JSON, argv[3] `error` or `none`, the level of its log; it answers `rss` with its resident bytes and ends on `close`.
 */
import type { XdsConfig } from '../../../agent/config/agent-config.ts';
import { LogRoot } from '../../../agent/log.ts';
import { AdsRelay } from '../../../agent/xds/relay.ts';
import { MetricRegistry } from '../../../metrics/registry.ts';
import { XdsMetrics } from '../../../metrics/xds-metrics.ts';

const relay = new AdsRelay({
  config: JSON.parse(process.argv[2] ?? '') as XdsConfig,
  interceptors: [],
  metrics: new XdsMetrics(new MetricRegistry()),
  log: new LogRoot({
    format: 'text',
    levels: new Map([['default', process.argv[3] === 'none' ? 'none' : 'error']]),
    write: (line) => process.stderr.write(line),
  }).scope('xds'),
});
await relay.listen();
process.on('message', (message) => {
  if (message === 'rss') process.send?.({ rssBytes: process.memoryUsage.rss() });
  if (message === 'close') void relay.close().then(() => process.disconnect());
});
process.send?.('ready');
