import { formatHostPort } from '../config/host-port.ts';
import type { ReadinessMethod } from '../config/readiness-probe.ts';
import { probeExec } from './exec-probe.ts';
import { probeGrpc } from './grpc-probe.ts';
import type { HttpProbe } from './http-probe.ts';
import { requestTarget } from './http-redirect.ts';
import { type ProbeDialer, plainHost } from './probe-dialer.ts';
import { ProbeError } from './probe-error.ts';
import { probeTcp } from './tcp-probe.ts';

/** What the probes of a workload use. */
export interface WorkloadProbeParts {
  readonly dialer: ProbeDialer;
  readonly http: HttpProbe;
  /** For probes that name no host. */
  readonly defaultHost: string;
}

const userAgent = 'istio-probe/1.0';

/**
 * Asks the workload once. Throws ProbeError, or the signal's reason. Source: istio/istio
 * `pkg/istio-agent/health/health_probers.go`; unlike there, all probes pass the traffic rules uncaptured, since a
 * connection through Envoy always opens.
 */
export async function probeWorkload(
  method: ReadinessMethod,
  parts: WorkloadProbeParts,
  options: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<void> {
  const { dialer, defaultHost } = parts;
  switch (method.kind) {
    case 'http':
      return probeHttp(method, parts, options);
    case 'tcp':
      return probeTcp(dialer, { host: plainHost(method.host ?? defaultHost), port: method.port }, options);
    case 'grpc': {
      const destination = { host: plainHost(defaultHost), port: method.port };
      const { timeoutMs } = options;
      return probeGrpc(dialer, { destination, service: method.service, userAgent, timeoutMs }, options);
    }
    case 'exec':
      return probeExec(method.command, options);
    default:
      return method satisfies never;
  }
}

async function probeHttp(
  method: Extract<ReadinessMethod, { kind: 'http' }>,
  { http, defaultHost }: WorkloadProbeParts,
  options: { readonly signal: AbortSignal },
): Promise<void> {
  const host = plainHost(method.host ?? defaultHost);
  const named = (wanted: string) => method.headers.find(([name]) => name.toLowerCase() === wanted)?.[1];
  const { status } = await http.get(
    {
      url: { isTls: method.isTls, host, port: method.port, target: requestTarget(method.path) },
      hostHeader: named('host') ?? formatHostPort({ host, port: method.port }),
      headers: [
        ...method.headers.filter(([name]) => name.toLowerCase() !== 'host'),
        ...(named('user-agent') === undefined ? [['User-Agent', userAgent] as const] : []),
      ],
      redirects: 'any-host',
      maxBodyBytes: 0,
    },
    options,
  );
  if (status < 200 || status >= 400) {
    throw new ProbeError('unhealthy', `status code was not from [200,400), bad code ${status}`);
  }
}
