import type { MetricRegistry } from './registry.ts';

/** What the DNS proxy does. Names, types and buckets are the stock agent's (`pkg/dns/client/monitoring.go`). */
export class DnsMetrics {
  /** Each query from the application. */
  readonly requested: () => void;
  /** Each query that is passed on to a resolver. */
  readonly forwarded: () => void;
  /** Each SERVFAIL that the proxy makes itself. */
  readonly failed: () => void;
  readonly upstreamDurationSeconds: (seconds: number) => void;

  constructor(registry: MetricRegistry) {
    const requests = registry.counter({
      name: 'dns_requests_total',
      help: 'Total number of DNS requests.',
    });
    this.requested = () => requests();
    const forwarded = registry.counter({
      name: 'dns_upstream_requests_total',
      help: 'Total number of DNS requests forwarded to upstream.',
    });
    this.forwarded = () => forwarded();
    const failures = registry.counter({
      name: 'dns_upstream_failures_total',
      help: 'Total number of DNS failures.',
    });
    this.failed = () => failures();
    const duration = registry.histogram({
      name: 'dns_upstream_request_duration_seconds',
      help: 'Total time in seconds Istio takes to get DNS response from upstream.',
      buckets: [0.001, 0.005, 0.01, 0.1, 1, 5],
    });
    this.upstreamDurationSeconds = (seconds) => duration(seconds);
  }
}
