import type { AppProbe, AppProbeAction, AppProbes } from '../config/app-probe-config.ts';
import { formatHostPort } from '../config/host-port.ts';
import { probeGrpc } from '../health/grpc-probe.ts';
import { HttpProbe } from '../health/http-probe.ts';
import { requestTarget } from '../health/http-redirect.ts';
import { withProbeDeadline } from '../health/probe-deadline.ts';
import { ProbeDialer, plainHost } from '../health/probe-dialer.ts';
import { probeTcp } from '../health/tcp-probe.ts';
import { describeError, type Logger } from '../log.ts';
import { forwardedHeaders, hostHeaderFor } from './app-probe-headers.ts';
import type { Exchange, Route } from './route.ts';
import { answerUnknownProbe, appProbePaths } from './unknown-app-probe.ts';

export interface AppProbeOptions {
  readonly probes: AppProbes;
  /** `INSTANCE_IP`, or `localhost` with `REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION`; empty is the local host too. */
  readonly destinationHost: string;
  /** All addresses of the pod. */
  readonly instanceIps: readonly string[];
  /** Port of the status server, which the kubelet's `Host` header names. */
  readonly statusPort: number;
  /** `ISTIO_ENABLE_HTTP2_PROBING`. */
  readonly isHttp2Offered: boolean;
  /** `ENABLE_PROBE_KEEPALIVE_CONNECTIONS`. */
  readonly isConnectionKept: boolean;
  /** Scope `probes`. */
  readonly log: Logger;
}

/** What the kubelet is answered. */
interface ProbeAnswer {
  readonly status: number;
  readonly body: Buffer;
}

/** The kubelet reads no more of an answer (Kubernetes `pkg/probe/http/http.go`, maxRespBodyLength). */
const maxBodyBytes = 10 * 1024;
/** The default of Kubernetes, for a probe that says nothing. */
const defaultProbeTimeoutMs = 1_000;
/**
 * A hook has no time of its own: the kubelet ends it with the pod's termination grace, by leaving. This only frees
 * the place of a kubelet whose machine is gone.
 */
const hookTimeoutMs = 60 * 60_000;
/** The port is open to the network and each request makes a connection; the kubelet asks one at a time. */
const maxRunningCount = 32;

const noBody = Buffer.alloc(0);

interface Entry {
  readonly probe: AppProbe;
  readonly http: HttpProbe;
  runningCount: number;
}

/** Carries out the probes and lifecycle hooks of the pod's containers that injection has pointed at the agent. */
export class AppProbeRoutes {
  /** To be put beside those of the agent. */
  readonly routes: readonly Route[];
  readonly #options: AppProbeOptions;
  readonly #host: string;
  readonly #dialer: ProbeDialer;
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly #end = new AbortController();

  constructor(options: AppProbeOptions) {
    const { probes, isHttp2Offered, isConnectionKept, instanceIps } = options;
    this.#options = options;
    this.#host = plainHost(options.destinationHost);
    this.#dialer = new ProbeDialer({ ownAddresses: [...instanceIps, this.#host] });
    const dialer = this.#dialer;
    this.#entries = new Map(
      [...probes].map(([path, probe]) => {
        const http = new HttpProbe({ dialer, isHttp2Offered, isConnectionKept });
        return [path, { probe, http, runningCount: 0 }];
      }),
    );
    this.routes = appProbePaths.map((path) => ({
      path,
      localOnly: false,
      method: undefined,
      handle: (exchange) => this.#handle(exchange),
    }));
  }

  /** Ends probes that run (they answer 500) and closes kept connections. */
  async close(): Promise<void> {
    this.#end.abort(new Error('the agent is shutting down'));
    await Promise.all([...this.#entries.values()].map(({ http }) => http.close()));
  }

  async #handle(exchange: Exchange): Promise<void> {
    const { path, answer } = exchange;
    const { log } = this.#options;
    const entry = this.#entries.get(path);
    if (entry === undefined) return answerUnknownProbe(exchange, log);
    if (entry.runningCount >= maxRunningCount) {
      log.warn('too many requests for one app probe at once', { path, runningCount: entry.runningCount });
      return answer.endWithText(503, `${maxRunningCount} requests for ${path} are running\n`);
    }
    entry.runningCount += 1;
    try {
      const { status, body } = await this.#probe(entry, exchange);
      answer.setStatus(status);
      if (body.length > 0) {
        // What the application says is shown by the kubelet; no browser should run it.
        answer.setHeader('Content-Type', 'text/plain; charset=utf-8');
        answer.setHeader('X-Content-Type-Options', 'nosniff');
      }
      await answer.end(body);
    } finally {
      entry.runningCount -= 1;
    }
  }

  async #probe(entry: Entry, exchange: Exchange): Promise<ProbeAnswer> {
    const { probe } = entry;
    const { path, request, answer } = exchange;
    const timeoutMs = probe.timeoutMs ?? (probe.isLifecycleHook ? hookTimeoutMs : defaultProbeTimeoutMs);
    // The server breaks a connection on which nothing moves; a hook is silent until its end.
    if (probe.isLifecycleHook) request.socket.setTimeout(0);
    const signal = AbortSignal.any([this.#end.signal, answer.clientGone]);
    try {
      return await withProbeDeadline({ timeoutMs, signal }, (deadline) =>
        this.#act(entry, exchange, timeoutMs, deadline),
      );
    } catch (error) {
      answer.clientGone.throwIfAborted();
      this.#options.log.error('Request to probe app failed', {
        path,
        ...describeAction(probe.action),
        error: describeError(error),
      });
      return { status: 500, body: noBody };
    }
  }

  async #act(
    { probe, http }: Entry,
    { request }: Exchange,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<ProbeAnswer> {
    const { action } = probe;
    const destination = { host: this.#host, port: action.port };
    switch (action.kind) {
      case 'http': {
        const ports = { statusPort: this.#options.statusPort, appPort: action.port };
        const answer = await http.get(
          {
            url: { isTls: action.isTls, ...destination, target: requestTarget(action.path) },
            hostHeader: hostHeaderFor(request.headers.host, ports, formatHostPort(destination)),
            headers: forwardedHeaders(request.rawHeaders),
            redirects: 'same-host',
            maxBodyBytes,
          },
          { signal },
        );
        return answerOf(answer);
      }
      case 'tcp':
        await probeTcp(this.#dialer, destination, { signal });
        return { status: 200, body: noBody };
      case 'grpc': {
        const own = 'ferry-agent';
        const userAgent = [request.headers['user-agent'], own].filter(Boolean).join(' ');
        const { service } = action;
        await probeGrpc(this.#dialer, { destination, service, userAgent, timeoutMs }, { signal });
        return { status: 200, body: noBody };
      }
      default:
        return action satisfies never;
    }
  }
}

/** A redirect that was not followed is a success to the kubelet, and would be an answer without its location. */
function answerOf(answer: ProbeAnswer): ProbeAnswer {
  return answer.status >= 300 && answer.status < 400 ? { status: 200, body: noBody } : answer;
}

function describeAction(action: AppProbeAction): { kind: string; port: number; appPath?: string } {
  const { kind, port } = action;
  // Without the query: it may hold a secret.
  return kind === 'http' ? { kind, port, appPath: action.path.split('?', 1)[0] ?? '' } : { kind, port };
}
