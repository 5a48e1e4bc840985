import type { DnsMetrics } from '../../metrics/dns-metrics.ts';
import { describeError, type Logger } from '../log.ts';
import type { ReadinessCheck } from '../status/readiness.ts';
import { addressesOf } from './address-bytes.ts';
import {
  answerLimitBytes,
  type DnsProtocol,
  encodeFailure,
  encodeLocalAnswer,
  encodeRefusal,
  fitAnswer,
} from './dns-answer.ts';
import { DnsError } from './dns-error.ts';
import { headerBytes, internetClass, recordType, responseCode } from './dns-message.ts';
import { type DnsQuery, readQuery } from './dns-query.ts';
import type { DnsEndpoint, DnsPlan } from './dns-settings.ts';
import { buildLookupTable, type LookupScope, type LookupTable, lookUpName } from './lookup-table.ts';
import { decodeNameTable, type NameTable } from './name-table-message.ts';
import { nameTablePage } from './name-table-page.ts';
import { OwnQueries } from './own-queries.ts';
import { shuffle } from './shuffle.ts';
import { TcpListener } from './tcp-listener.ts';
import { UdpListener } from './udp-listener.ts';
import { UpstreamResolver } from './upstream.ts';

export interface DnsProxyOptions {
  readonly plan: DnsPlan;
  readonly proxyNamespace: string;
  readonly proxyDomain: string;
  readonly forwardTimeoutMs: number;
  readonly isForwardedInParallel: boolean;
  readonly metrics: DnsMetrics;
  /** Scope `dns`. */
  readonly log: Logger;
  /** At least 0, below 1. */
  readonly random?: () => number;
}

/** The state of one push. */
interface Pushed {
  readonly nameTable: NameTable;
  readonly lookup: LookupTable;
}

/**
 * Answers the queries of the pod: names of the mesh from istiod's table, all others by asking the nameservers of
 * resolv.conf. Contract: istio/istio `pkg/dns/client/dns.go`.
 */
export class DnsProxy {
  readonly #options: DnsProxyOptions;
  readonly #scope: LookupScope;
  readonly #random: () => number;
  readonly #ownQueries = new OwnQueries();
  readonly #upstream: UpstreamResolver;
  #listeners: readonly (UdpListener | TcpListener)[] = [];
  #endpoints: readonly DnsEndpoint[] = [];
  #pushed: Pushed | undefined;
  #isLoopTold = false;

  constructor(options: DnsProxyOptions) {
    const { plan, metrics, log, random = Math.random } = options;
    this.#options = options;
    this.#random = random;
    this.#scope = {
      proxyNamespace: options.proxyNamespace,
      proxyDomain: options.proxyDomain,
      searchDomain: plan.searchDomain,
    };
    this.#upstream = new UpstreamResolver({
      upstreams: plan.upstreams,
      timeoutMs: options.forwardTimeoutMs,
      isParallel: options.isForwardedInParallel,
      ownQueries: this.#ownQueries,
      metrics,
      log,
      random,
    });
  }

  /** For the status server. */
  readonly readinessCheck: ReadinessCheck = {
    name: 'DNS',
    check: async () =>
      this.#pushed === undefined
        ? 'istio DNS capture is turned ON and DNS lookup table is not ready yet'
        : undefined,
  };

  /** Where it listens, with the real ports. Empty before `listen`. */
  get endpoints(): readonly DnsEndpoint[] {
    return this.#endpoints;
  }

  /** Opens UDP and TCP on every address. Throws DnsError `bind`; nothing stays open then. */
  async listen(): Promise<void> {
    const { plan, log } = this.#options;
    for (const warning of plan.warnings) log.warn(warning);
    this.#endpoints = [];
    try {
      for (const endpoint of plan.listeners) await this.#listenOn(endpoint);
    } catch (error) {
      await this.#closeListeners();
      throw error;
    }
  }

  /**
   * Replaces the table by a `NameTable` message; undefined is an empty table. The old one stays when this throws:
   * WireFormatError, or DnsError `table`.
   */
  update(message: Buffer | undefined): void {
    const { log } = this.#options;
    const nameTable = message === undefined ? new Map() : decodeNameTable(message);
    const lookup = buildLookupTable(nameTable, this.#scope);
    this.#pushed = { nameTable, lookup };
    log.debug('updated lookup table', { hostCount: nameTable.size });
    if (lookup.badNameCount > 0) {
      log.warn('the DNS table has names that are no DNS names; they are left out', {
        count: lookup.badNameCount,
      });
    }
  }

  /** What `/debug/ndsz` shows; undefined before the first table. */
  nameTable(): unknown {
    return this.#pushed === undefined ? undefined : nameTablePage(this.#pushed.nameTable, this.#scope);
  }

  /** Closes the listeners and ends queries that wait; resolves when all sockets are closed. */
  async close(): Promise<void> {
    await this.#closeListeners();
    await this.#upstream.close();
  }

  async #listenOn(endpoint: DnsEndpoint): Promise<void> {
    const { log } = this.#options;
    const handlerOf = (protocol: DnsProtocol) => async (message: Buffer, remotePort: number) =>
      this.#handle(message, { protocol, remotePort });
    const open = async (listener: UdpListener | TcpListener, protocol: DnsProtocol): Promise<number> => {
      try {
        await listener.listen();
      } catch (error) {
        throw new DnsError(
          'bind',
          `the DNS proxy cannot listen on ${endpoint.address} port ${endpoint.port} (${protocol}): ${describeError(error)}. Another process of the pod may hold the port; free it, or set DNS_PROXY_ADDR`,
          { cause: error },
        );
      }
      this.#listeners = [...this.#listeners, listener];
      log.info('Starting local DNS server', { protocol, address: endpoint.address, port: listener.port });
      return listener.port;
    };
    const tcp = new TcpListener({ endpoint, handle: handlerOf('tcp'), log });
    const port = await open(tcp, 'tcp');
    const udp = new UdpListener({ endpoint: { ...endpoint, port }, handle: handlerOf('udp'), log });
    await open(udp, 'udp');
    this.#endpoints = [...this.#endpoints, { address: endpoint.address, port }];
  }

  async #closeListeners(): Promise<void> {
    const listeners = this.#listeners;
    this.#listeners = [];
    await Promise.all(listeners.map((listener) => listener.close()));
  }

  /** Never rejects: a listener has nobody to tell. */
  async #handle(
    message: Buffer,
    from: { readonly protocol: DnsProtocol; readonly remotePort: number },
  ): Promise<Buffer | undefined> {
    const { metrics, log } = this.#options;
    try {
      const reading = readQuery(message);
      switch (reading.kind) {
        case 'ignored':
          return undefined;
        case 'refused':
          metrics.requested();
          return encodeRefusal(message, reading.code);
        case 'query':
          metrics.requested();
          if (this.#ownQueries.has(from.protocol, from.remotePort, message))
            return this.#endLoop(reading.query);
          return await this.#resolve(reading.query, from.protocol);
        default:
          return reading satisfies never;
      }
    } catch (error) {
      log.error('DNS query failed', { error: describeError(error) });
      return message.length < headerBytes ? undefined : encodeRefusal(message, responseCode.serverFailure);
    }
  }

  async #resolve(query: DnsQuery, protocol: DnsProtocol): Promise<Buffer> {
    const { plan } = this.#options;
    const limitBytes = answerLimitBytes(protocol, query);
    if (this.#pushed === undefined && !plan.isForwardedBeforeTable) {
      return encodeFailure(query, responseCode.serverFailure);
    }
    return (
      this.#answerLocally(query, limitBytes) ??
      (await this.#askUpstream(query, protocol, limitBytes)) ??
      encodeFailure(query, responseCode.serverFailure)
    );
  }

  /** Undefined when the table does not know the name, or has no records of the asked type for any name. */
  #answerLocally(query: DnsQuery, limitBytes: number): Buffer | undefined {
    const { name, type, class: askedClass } = query.question;
    const isAddress = type === recordType.a || type === recordType.aaaa;
    if (this.#pushed === undefined || !isAddress || askedClass !== internetClass) return undefined;
    const match = lookUpName(this.#pushed.lookup, name);
    if (match === undefined) return undefined;
    const { info, cnameTarget } = match;
    const addresses = shuffle(addressesOf(info.ips, type === recordType.a ? 4 : 16), this.#random);
    return encodeLocalAnswer(query, { cnameTarget, addresses }, limitBytes);
  }

  async #askUpstream(
    query: DnsQuery,
    protocol: DnsProtocol,
    limitBytes: number,
  ): Promise<Buffer | undefined> {
    const answer = await this.#upstream.resolve(query, protocol);
    return answer === undefined ? undefined : fitAnswer(answer, limitBytes);
  }

  /** A failure ends the loop at once, for this query and for the one that waits for it. */
  #endLoop(query: DnsQuery): Buffer {
    const { log } = this.#options;
    if (!this.#isLoopTold) {
      log.error(
        'a DNS query of the agent itself was redirected to the agent: run it as user or group 1337, which the traffic rules exempt',
        { name: query.question.name },
      );
    }
    this.#isLoopTold = true;
    return encodeFailure(query, responseCode.serverFailure);
  }
}
