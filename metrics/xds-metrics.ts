import type { MetricRegistry } from './registry.ts';

/** `cancelled`: a graceful or expected end (xds-proxy contract, error classes); `error`: the rest. */
export type TerminationType = 'cancelled' | 'error';

/** What the xDS relay does. Names, types and labels are the stock agent's (`pkg/istio-agent/metrics/metrics.go`). */
export class XdsMetrics {
  /** Each message sent to istiod, those of the agent included. */
  readonly requestSent: () => void;
  /** Each message received from istiod. */
  readonly responseReceived: () => void;
  readonly istiodConnectionFailed: () => void;
  readonly istiodConnectionTerminated: (type: TerminationType) => void;
  readonly envoyConnectionTerminated: (type: TerminationType) => void;
  /** The largest request seen from Envoy. */
  readonly largestRequestBytes: (sizeBytes: number) => void;

  constructor(registry: MetricRegistry) {
    const requests = registry.counter({
      name: 'xds_proxy_requests',
      help: 'The total number of Xds Proxy Requests',
    });
    this.requestSent = () => requests();
    const responses = registry.counter({
      name: 'xds_proxy_responses',
      help: 'The total number of Xds Proxy Responses',
    });
    this.responseReceived = () => responses();
    const failures = registry.counter({
      name: 'istiod_connection_failures',
      help: 'The total number of connection failures to Istiod',
    });
    this.istiodConnectionFailed = () => failures();
    const istiodEnds = registry.counter({
      name: 'istiod_connection_terminations',
      help: 'The total number of connection errors to Istiod',
      labelNames: ['type'],
    });
    this.istiodConnectionTerminated = (type) => istiodEnds({ type });
    const envoyEnds = registry.counter({
      name: 'envoy_connection_terminations',
      help: 'The total number of connection errors from envoy',
      labelNames: ['type'],
    });
    this.envoyConnectionTerminated = (type) => envoyEnds({ type });
    const largest = registry.gauge({
      name: 'pilot_xds_recv_max',
      help: 'The maximum size request we have received so far.',
    });
    let largestSeen = 0;
    this.largestRequestBytes = (sizeBytes) => {
      if (sizeBytes < largestSeen) return;
      largestSeen = sizeBytes;
      largest(sizeBytes);
    };
  }
}
