import { isIP } from 'node:net';
import { isDnsName } from './dns-message.ts';
import type { NameInfo, NameTable } from './name-table-message.ts';

/** Where the proxy stands: which short names are its own. */
export interface LookupScope {
  readonly proxyNamespace: string;
  /** `--domain`: mostly `<namespace>.svc.cluster.local`. */
  readonly proxyDomain: string;
  /** The first search domain of resolv.conf; undefined when there is none. */
  readonly searchDomain: string | undefined;
}

/**
 * The names the proxy answers itself, without the dot at their end. A host of the usual form is held once, under its
 * full name, and found by its short ones: a large mesh has tens of thousands, and four names each.
 */
export interface LookupTable {
  readonly hosts: NameTable;
  /** Own names that differ from the key in `hosts`: in lower case, without a dot. */
  readonly ownNames: ReadonlyMap<string, NameInfo>;
  /** Names made for hosts, as far as they cannot be told from the host. */
  readonly madeNames: ReadonlyMap<string, NameInfo>;
  readonly searchDomain: string | undefined;
  /** The domain that services of this cluster are in, in lower case; empty when there is none. */
  readonly domain: string;
  readonly proxyNamespace: string;
  /** Names that are no DNS names, and so can be asked by nobody. */
  readonly badNameCount: number;
}

/** What is known of an asked name. */
export interface NameMatch {
  readonly info: NameInfo;
  /** With a dot at the end: the name that the asked one stands for, because a client has put its search domain behind it. */
  readonly cnameTarget: string | undefined;
}

/**
 * Builds the table of one push (istio/istio `pkg/dns/client/dns.go`). Unlike there, a host's own name goes before
 * names made for another host, whatever the order. Pure.
 */
export function buildLookupTable(hosts: NameTable, scope: LookupScope): LookupTable {
  const ownNames = new Map<string, NameInfo>();
  const madeNames = new Map<string, NameInfo>();
  const domain = ownDomain(scope);
  let badNameCount = 0;
  const add = (names: Map<string, NameInfo>, name: string, info: NameInfo): void => {
    const key = plainName(name);
    if (isDnsName(`${key}.`)) names.set(key, info);
    else badNameCount += 1;
  };
  for (const [host, info] of hosts) {
    if (!hasAddress(info)) continue;
    const [own, ...made] = namesOf(host, info, domain, scope.proxyNamespace);
    if (own === undefined) continue;
    if (plainName(own) !== host) add(ownNames, own, info);
    else if (!isDnsName(`${host}.`)) badNameCount += 1;
    const known = isUsual(host, info, domain) ? info.altHosts.map((altHost) => `${altHost}.`) : made;
    for (const name of known) add(madeNames, name, info);
  }
  return {
    hosts,
    ownNames,
    madeNames,
    domain: domain.toLowerCase(),
    proxyNamespace: scope.proxyNamespace.toLowerCase(),
    searchDomain: scope.searchDomain === undefined ? undefined : plainName(scope.searchDomain) || undefined,
    badNameCount,
  };
}

/**
 * Finds an asked name (lower case, with a dot at the end): itself, itself without the search domain, the nearest
 * wildcard above it, the same without the search domain. Undefined: an upstream has to say.
 */
export function lookUpName(table: LookupTable, asked: string): NameMatch | undefined {
  const name = asked.slice(0, -1);
  const exact = findExpanded(table, name);
  if (exact !== undefined) return exact;
  for (let dot = name.indexOf('.'); dot !== -1; dot = name.indexOf('.', dot + 1)) {
    const wildcard = findExpanded(table, `*${name.slice(dot)}`);
    if (wildcard !== undefined) return wildcard;
  }
  return undefined;
}

/** All names of a host with a dot at the end, its own first (istio/istio `pkg/dns/client/dns.go`, generateAltHosts). */
export function namesOf(
  host: string,
  info: NameInfo,
  domain: string,
  proxyNamespace: string,
): readonly string[] {
  if (info.registry !== 'Kubernetes') return [host.endsWith('.') ? host : `${host}.`];
  if (host.endsWith('.')) return [];
  const own = `${host}.`;
  // Names of another cluster's domain: the short ones could be those of this cluster.
  if (domain === '' || !host.endsWith(`.${domain}`)) return [own];
  const { shortName, namespace, altHosts } = info;
  const names = [own, ...altHosts.map((altHost) => `${altHost}.`)];
  if (shortName === '' || namespace === '') return names;
  names.push(`${shortName}.${namespace}.`, `${shortName}.${namespace}.${firstLabel(domain)}.`);
  if (namespace === proxyNamespace) names.push(`${shortName}.`);
  return names;
}

/** The domain that services of this cluster are in: that of the proxy without its namespace. */
export function ownDomain({ proxyNamespace, proxyDomain }: LookupScope): string {
  const prefix = `${proxyNamespace}.`;
  return proxyNamespace !== '' && proxyDomain.startsWith(prefix)
    ? proxyDomain.slice(prefix.length)
    : proxyDomain;
}

function findExpanded(table: LookupTable, name: string): NameMatch | undefined {
  const own = findName(table, name);
  if (own !== undefined) return { info: own, cnameTarget: undefined };
  const { searchDomain } = table;
  if (searchDomain === undefined || !name.endsWith(`.${searchDomain}`)) return undefined;
  const base = name.slice(0, -searchDomain.length - 1);
  // A name of the search domain itself is not expanded once more.
  if (base === '*' || base === searchDomain || base.endsWith(`.${searchDomain}`)) return undefined;
  const expanded = findName(table, base);
  return expanded === undefined ? undefined : { info: expanded, cnameTarget: `${base}.` };
}

function findName(table: LookupTable, name: string): NameInfo | undefined {
  const own = findHost(table, name) ?? table.ownNames.get(name) ?? table.madeNames.get(name);
  if (own !== undefined || table.domain === '') return own;
  const { domain, proxyNamespace } = table;
  const label = firstLabel(domain);
  // `web.shop`, `web.shop.svc`, and `web` in the same namespace.
  return (
    findUsual(table, `${name}.${domain}`) ??
    (name.endsWith(`.${label}`) ? findUsual(table, `${name.slice(0, -label.length)}${domain}`) : undefined) ??
    (proxyNamespace === ''
      ? undefined
      : findUsual(table, `${name}.${proxyNamespace}.${domain}`, proxyNamespace))
  );
}

/** A service of this cluster by its full name, if its short names can be told from it. */
function findUsual(table: LookupTable, host: string, namespace?: string): NameInfo | undefined {
  const info = findHost(table, host);
  if (info === undefined || !isUsual(host, info, table.domain)) return undefined;
  return namespace === undefined || info.namespace === namespace ? info : undefined;
}

function findHost({ hosts }: LookupTable, name: string): NameInfo | undefined {
  const info = hosts.get(name);
  return info !== undefined && hasAddress(info) && isDnsName(`${name}.`) ? info : undefined;
}

/** True for a service of this cluster that is called as it should be. */
function isUsual(host: string, { registry, shortName, namespace }: NameInfo, domain: string): boolean {
  if (registry !== 'Kubernetes' || shortName === '' || namespace === '') return false;
  return host === `${shortName}.${namespace}.${domain}` && host === host.toLowerCase();
}

function hasAddress({ ips }: NameInfo): boolean {
  return ips.some((ip) => isIP(ip) !== 0);
}

/** In lower case and without the dot at the end. */
function plainName(name: string): string {
  const lower = name.toLowerCase();
  return lower.endsWith('.') ? lower.slice(0, -1) : lower;
}

function firstLabel(domain: string): string {
  return domain.split('.', 1)[0] ?? '';
}
