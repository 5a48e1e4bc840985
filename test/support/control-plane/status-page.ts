/**
 * What istiod tells about its streams: the counters of `/metrics` and the list of `/debug/syncz`.
 * Source: istio/istio `pkg/xds/monitoring.go`, `pilot/pkg/xds/{monitoring,debug}.go`.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ControlPlaneError } from './error.ts';
import { shortTypeOf, typeUrls } from './type-urls.ts';
import type { Watch } from './watch.ts';

const counterHelp = {
  pilot_total_xds_rejects: 'Total number of XDS responses from pilot rejected by proxy.',
  pilot_xds_expired_nonce: 'Total number of XDS requests with an expired nonce.',
  pilot_xds_pushes: 'Pilot build and send errors for lds, rds, cds and eds.',
} as const;
/** The counters that are kept, by istiod's names. */
export type CounterName = keyof typeof counterHelp;

/** Counters with the one label `type`; as with istiod, one that never moved is not there. */
export class Counters {
  readonly #values = new Map<CounterName, Map<string, number>>();

  add(name: CounterName, typeUrl: string): void {
    const series = this.#values.get(name) ?? new Map<string, number>();
    this.#values.set(name, series);
    const type = shortTypeOf(typeUrl);
    series.set(type, (series.get(type) ?? 0) + 1);
  }

  get(name: CounterName, typeUrl: string): number {
    return this.#values.get(name)?.get(shortTypeOf(typeUrl)) ?? 0;
  }

  clear(): void {
    this.#values.clear();
  }

  /** Prometheus text format. */
  text(openStreamCount: number): string {
    const lines = [
      '# HELP pilot_xds Number of endpoints connected to this pilot using XDS.',
      '# TYPE pilot_xds gauge',
      `pilot_xds ${openStreamCount}`,
    ];
    for (const [name, series] of [...this.#values].sort(([a], [b]) => (a < b ? -1 : 1))) {
      lines.push(`# HELP ${name} ${counterHelp[name]}`, `# TYPE ${name} counter`);
      for (const [type, value] of [...series].sort(([a], [b]) => (a < b ? -1 : 1))) {
        lines.push(`${name}{type=${JSON.stringify(type)}} ${value}`);
      }
    }
    return `${lines.join('\n')}\n`;
  }
}

/** `not_sent`: watched, but never answered. `stale`: the last response has no ACK yet. `error`: the last word was a NACK. */
export type SyncState = 'not_sent' | 'synced' | 'stale' | 'error';

/** How far one type of one stream is: nonces of the last response and the last ACK, text of a standing NACK. */
export interface TypeStatus {
  readonly state: SyncState;
  readonly sent: string;
  readonly acked: string;
  readonly lastError: string;
}

/** One stream in `/debug/syncz`. */
export interface SyncStatus {
  readonly streamId: number;
  readonly proxy: string;
  readonly resources: Readonly<Record<string, TypeStatus>>;
}

/** The state of a type, by its last nonces and error. */
export function syncState(watch: Watch): SyncState {
  if (watch.nonceSent === '') return 'not_sent';
  if (watch.lastError !== '') return 'error';
  return watch.nonceSent === watch.nonceAcked ? 'synced' : 'stale';
}

/** One type's part of `/debug/syncz`. */
export function typeStatus(watch: Watch): TypeStatus {
  const { nonceSent: sent, nonceAcked: acked, lastError } = watch;
  return { state: syncState(watch), sent, acked, lastError };
}

/** The JSON of one stream with istiod's field names, and the `state` of each type beside them. */
function syncStatusJson(status: SyncStatus): object {
  const of = (url: string): TypeStatus | undefined => status.resources[url];
  return {
    proxy: status.proxy,
    cluster_sent: of(typeUrls.cds)?.sent,
    cluster_acked: of(typeUrls.cds)?.acked,
    listener_sent: of(typeUrls.lds)?.sent,
    listener_acked: of(typeUrls.lds)?.acked,
    route_sent: of(typeUrls.rds)?.sent,
    route_acked: of(typeUrls.rds)?.acked,
    endpoint_sent: of(typeUrls.eds)?.sent,
    endpoint_acked: of(typeUrls.eds)?.acked,
    extensionconfig_sent: of(typeUrls.ecds)?.sent,
    extensionconfig_acked: of(typeUrls.ecds)?.acked,
    resources: status.resources,
  };
}

/** Serves `/metrics` and `/debug/syncz` on 127.0.0.1. */
export class StatusServer {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Port 0 takes a free one. Throws ControlPlaneError `listen`. */
  static async start(
    port: number,
    source: { metrics(): string; syncz(): readonly SyncStatus[] },
  ): Promise<StatusServer> {
    const server = createServer((request, response) => {
      const path = request.url?.split('?')[0];
      if (path === '/metrics') {
        response.setHeader('content-type', 'text/plain; version=0.0.4').end(source.metrics());
      } else if (path === '/debug/syncz') {
        response
          .setHeader('content-type', 'application/json')
          .end(JSON.stringify(source.syncz().map(syncStatusJson), undefined, 2));
      } else {
        response.writeHead(404).end('only /metrics and /debug/syncz are served here\n');
      }
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once('error', (cause) => {
      reject(
        new ControlPlaneError('listen', `cannot serve metrics on 127.0.0.1:${port}; give a free port`, {
          cause,
        }),
      );
    });
    server.listen(port, '127.0.0.1', resolve);
    await promise;
    return new StatusServer(server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    this.#server.closeAllConnections();
    await promise;
  }
}
