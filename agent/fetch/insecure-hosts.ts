import { bareHost, isLoopbackLiteral, isRfc1918Literal } from './ip-literal.ts';

/**
 * `WASM_INSECURE_REGISTRIES`: hosts whose certificate is not verified. A text is compared byte for byte with the host
 * part of a URL as it was written (no default port, no change of case); `*` is all.
 */
export class InsecureHosts {
  readonly #listed: ReadonlySet<string>;

  constructor(hosts: readonly string[]) {
    this.#listed = new Set(hosts);
  }

  /** True when TLS to this host is used without verifying its certificate. */
  isUnverified(hostText: string): boolean {
    return this.#listed.has('*') || this.#listed.has(hostText);
  }

  /**
   * True when a registry at this host may be spoken to over plain HTTP: loopback, `localhost`, RFC 1918 literals, and
   * hosts that are listed by name. `*` is not enough, because credentials would then be sent in clear to anybody.
   */
  isPlainHttpAllowed(hostText: string): boolean {
    if (this.#listed.has(hostText)) return true;
    const host = bareHost(hostText.replace(/:\d+$/, '')).toLowerCase();
    if (host === 'localhost' || host.endsWith('.localhost')) return true;
    return isLoopbackLiteral(host) || isRfc1918Literal(host);
  }
}
