import { lookup } from 'node:dns/promises';
import { readFile, stat } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import type { DnsMetrics } from '../../metrics/dns-metrics.ts';
import type { DnsConfig } from '../config/dns-config.ts';
import { describeError, type Logger } from '../log.ts';
import { DnsError } from './dns-error.ts';
import { DnsProxy } from './dns-proxy.ts';
import { planDns } from './dns-settings.ts';
import { parseResolvConf } from './resolv-conf.ts';

/** What the DNS proxy of an agent is made from. */
export interface DnsPartOptions {
  readonly config: DnsConfig;
  /** DNS domain of the proxy (`--domain`). */
  readonly proxyDomain: string;
  /** All addresses of the pod. */
  readonly instanceIps: readonly string[];
  /** Folder that stands for `/`. */
  readonly root?: string;
  readonly metrics: DnsMetrics;
  /** Scope `dns`. */
  readonly log: Logger;
}

/** A resolv.conf has a few lines; a larger file is a mistake in a mount. */
const maxFileBytes = 64 * 1024;

/**
 * Reads resolv.conf, once, and opens the DNS proxy. Throws DnsError `settings` or `bind`: without DNS the pod's
 * application would not find anything, so the agent must not go on.
 */
export async function openDnsProxy(options: DnsPartOptions): Promise<DnsProxy> {
  const { config, log, metrics, proxyDomain } = options;
  const { address, forwardTimeoutMs, isForwardedInParallel, proxyNamespace } = config;
  const host = await resolveHost(address.host);
  const text = await readFirst(options.root ?? '/', address.resolvConfPaths);
  const plan = planDns({ ...address, host }, parseResolvConf(text), { ownAddresses: options.instanceIps });
  log.debug('initialized DNS', {
    upstreams: plan.upstreams.map((upstream) => upstream.address).join(','),
    searchDomain: plan.searchDomain,
  });
  const proxy = new DnsProxy({
    plan,
    proxyNamespace,
    proxyDomain,
    isForwardedInParallel,
    forwardTimeoutMs,
    metrics,
    log,
  });
  await proxy.listen();
  return proxy;
}

/** `localhost` stays: it is each family that a nameserver has. */
async function resolveHost(host: string): Promise<string> {
  if (host === 'localhost' || isIP(host) !== 0) return host;
  try {
    return (await lookup(host)).address;
  } catch (error) {
    throw new DnsError(
      'settings',
      `the host ${JSON.stringify(host)} of DNS_PROXY_ADDR cannot be looked up: ${describeError(error)}. Set an IP address, or localhost`,
      { cause: error },
    );
  }
}

async function readFirst(root: string, paths: readonly string[]): Promise<string> {
  for (const path of paths) {
    try {
      const file = join(root, path);
      const { size } = await stat(file);
      if (size > maxFileBytes) throw new Error(`it is over ${maxFileBytes} bytes`);
      return await readFile(file, 'utf8');
    } catch (error) {
      const isAbsent = error instanceof Error && 'code' in error && error.code === 'ENOENT';
      if (isAbsent && path !== paths.at(-1)) continue;
      throw new DnsError(
        'settings',
        `the DNS proxy cannot read ${path}: ${describeError(error)}. It names the nameservers for all that is not in the mesh`,
        { cause: error },
      );
    }
  }
  throw new DnsError('settings', 'the DNS proxy has no resolv.conf to read');
}
