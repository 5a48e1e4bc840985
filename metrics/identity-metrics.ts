import type { MetricRegistry } from './registry.ts';

/** A certificate that is served, for its remaining life. */
export interface ServedCertificate {
  /** SDS resource name: `default`, or a file resource. */
  readonly resourceName: string;
  /** Epoch milliseconds. */
  readonly notAfterMs: number;
}

/**
 * What the certificate side does. Names, types, labels and buckets are the stock agent's
 * (`security/pkg/nodeagent/cache/monitoring.go`, `security/pkg/monitoring`, `pilot/pkg/xds/monitoring.go`).
 */
export class IdentityMetrics {
  readonly csrSent: () => void;
  readonly csrFailed: () => void;
  readonly csrRetried: () => void;
  /** Added up over all CSRs, failed ones included. */
  readonly csrDurationMs: (durationMs: number) => void;
  /** Adding or running a watch of a certificate file failed. */
  readonly fileWatchFailed: () => void;
  /** A secret could not be made from its files. */
  readonly fileSecretFailed: () => void;
  /** Time to write one SDS response. */
  readonly secretSendSeconds: (seconds: number) => void;

  /** `served` is asked at each scrape; `now` gives epoch milliseconds. */
  constructor(
    registry: MetricRegistry,
    served: () => readonly ServedCertificate[],
    now: () => number = Date.now,
  ) {
    const csr = { request_type: 'csr' };
    const labelNames = ['request_type'];
    const sent = registry.counter({
      name: 'num_outgoing_requests',
      help: 'Number of total outgoing requests (e.g. to a token exchange server, CA, etc.)',
      labelNames,
    });
    this.csrSent = () => sent(csr);
    const failed = registry.counter({
      name: 'num_failed_outgoing_requests',
      help: 'Number of failed outgoing requests (e.g. to a token exchange server, CA, etc.)',
      labelNames,
    });
    this.csrFailed = () => failed(csr);
    const retried = registry.counter({
      name: 'num_outgoing_retries',
      help: 'Number of outgoing retry requests (e.g. to a token exchange server, CA, etc.)',
      labelNames,
    });
    this.csrRetried = () => retried(csr);
    const latency = registry.counter({
      name: 'outgoing_latency',
      help: 'The latency of outgoing requests (e.g. to a token exchange server, CA, etc.) in milliseconds.',
      labelNames,
    });
    this.csrDurationMs = (durationMs) => latency(csr, durationMs);
    const watchFailures = registry.counter({
      name: 'num_file_watcher_failures_total',
      help: 'Number of times file watcher failed to add watchers',
    });
    this.fileWatchFailed = () => watchFailures();
    const secretFailures = registry.counter({
      name: 'num_file_secret_failures_total',
      help: 'Number of times secret generation failed for files',
    });
    this.fileSecretFailed = () => secretFailures();
    const sendTime = registry.histogram({
      name: 'pilot_xds_send_time',
      help: 'Total time in seconds Pilot takes to send generated configuration.',
      buckets: [0.01, 0.1, 1, 3, 5, 10, 20, 30],
    });
    this.secretSendSeconds = (seconds) => sendTime(seconds);
    registry.computedGauge(
      {
        name: 'cert_expiry_seconds',
        help: 'The time remaining, in seconds, before the certificate chain will expire. A negative value indicates the cert is expired.',
        labelNames: ['resource_name'],
      },
      () =>
        served().map(({ resourceName, notAfterMs }) => ({
          labels: { resource_name: resourceName },
          value: (notAfterMs - now()) / 1000,
        })),
    );
  }
}
