import { ipFamily } from './ip-family.ts';

/** An address as `host:port` or `[ipv6]:port` names it. */
export interface HostPort {
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
}

/** Splits `host:port`; undefined when it has another form or the port is not in 1..65535. */
export function parseHostPort(address: string): HostPort | undefined {
  const match = /^(?:\[([^[\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  const host = match?.[1] ?? match?.[2];
  if (host === undefined || port < 1 || port > 65_535) return undefined;
  return { host, port };
}

/** `host:port`, an IPv6 address in brackets. */
export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** True for a DNS name (RFC 1123 labels, not all-numeric at the end, 255 characters at most) or an IP address. */
export function isHost(host: string): boolean {
  if (ipFamily(host) !== 0) return true;
  if (host === '' || host.length > 255) return false;
  const labels = (host.endsWith('.') ? host.slice(0, -1) : host).split('.');
  if (/^\d+$/.test(labels.at(-1) ?? '')) return false;
  return labels.every((label) => label.length <= 63 && /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/i.test(label));
}
