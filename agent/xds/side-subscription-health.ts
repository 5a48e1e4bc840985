import type { WorkloadHealth } from '../health/health-state.ts';
import type { Logger } from '../log.ts';
import type { InterceptedStream, InterceptorFactory, StreamInterceptor } from './interceptor.ts';
import { encodeSideRequest } from './side-subscription-message.ts';

const healthTypeUrl = 'type.googleapis.com/istio.v1.HealthInformation';

/**
 * Tells istiod whether the workload is healthy. There is no message body: the request for the type is the message,
 * with an error for unhealthy. The last state is told again on each new stream, and never before Envoy's first
 * request for listeners (istio/istio `pkg/istio-agent/xds_proxy.go`).
 */
export class HealthReport implements InterceptorFactory {
  readonly typeUrl = healthTypeUrl;
  readonly #log: Logger;
  readonly #streams = new Set<HealthStream>();
  #last: WorkloadHealth | undefined;

  constructor(options: { readonly log: Logger }) {
    this.#log = options.log;
  }

  /** Keeps the state and sends it on the streams that may have it. */
  report(health: WorkloadHealth): void {
    this.#last = health;
    for (const stream of this.#streams) stream.send(health);
  }

  open(stream: InterceptedStream): StreamInterceptor {
    const opened = new HealthStream(stream, {
      log: this.#log,
      onReady: () => {
        this.#streams.add(opened);
        if (this.#last !== undefined) opened.send(this.#last);
      },
      onClose: () => this.#streams.delete(opened),
    });
    return opened;
  }
}

interface HealthStreamOptions {
  readonly log: Logger;
  /** From now on health may be told. */
  readonly onReady: () => void;
  readonly onClose: () => void;
}

class HealthStream implements StreamInterceptor {
  readonly #stream: InterceptedStream;
  readonly #options: HealthStreamOptions;

  constructor(stream: InterceptedStream, options: HealthStreamOptions) {
    this.#stream = stream;
    this.#options = options;
  }

  send(health: WorkloadHealth): void {
    const failure = health.kind === 'unhealthy' ? { failure: health.reason } : {};
    this.#stream.sendUpstream(encodeSideRequest(this.#stream.kind, { typeUrl: healthTypeUrl, ...failure }));
  }

  onLdsRequested(): void {
    this.#options.onReady();
  }

  onResponse(): void {
    this.#options.log.debug('istiod answered a health report; there is nothing in it', {
      id: this.#stream.id,
    });
  }

  onRequest(): void {
    this.#options.log.warn('dropped a health report of Envoy', { id: this.#stream.id });
  }

  close(): void {
    this.#options.onClose();
  }
}
