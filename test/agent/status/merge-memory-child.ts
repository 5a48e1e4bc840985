/** The process whose memory is measured: a status server alone. Started by merge-memory.test.ts with two ports. */

import { StatsMerge } from '../../../agent/status/stats-merge.ts';
import { StatusServer } from '../../../agent/status/status-server.ts';
import { MetricRegistry } from '../../../metrics/registry.ts';
import { StatusMetrics } from '../../../metrics/status-metrics.ts';
import { RecordingLog } from './status-fixture.ts';

const [envoyPort, applicationPort] = process.argv.slice(2).map(Number);
const log = new RecordingLog();
const registry = new MetricRegistry();
const stats = new StatsMerge({
  config: {
    envoyPrometheusPort: envoyPort ?? 0,
    isEnvoyStatsMerged: true,
    applicationTargets: applicationPort === undefined ? [] : [{ port: applicationPort, path: '/metrics' }],
  },
  registry,
  metrics: new StatusMetrics(registry),
  log,
});
const server = new StatusServer({
  port: 0,
  log,
  routes: [
    { path: '/metrics', localOnly: false, method: undefined, handle: (exchange) => stats.answer(exchange) },
  ],
});
await server.listen();
process.on('message', (message) => {
  if (message === 'close') {
    void server.close().then(() => process.disconnect());
    return;
  }
  // The high-water mark of resident memory, in KiB: no peak between two looks is missed.
  process.send?.({ peakKibibytes: process.resourceUsage().maxRSS, errors: log.messages('error') });
});
process.send?.({ port: server.port });
