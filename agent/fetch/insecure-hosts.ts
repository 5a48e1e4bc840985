import { bareHost, isLoopbackLiteral, isRfc1918Literal } from './ip-literal.ts';

/**
 * `WASM_INSECURE_REGISTRIES`: hosts whose certificate is not verified. A text is compared byte for byte with the host
 * part of a URL as it was written (no default port, no change of case); `*` is all. Beside it stand hosts that the
 * operator's settings say are spoken to without TLS.
 */
export class InsecureHosts {
  readonly #listed: ReadonlySet<string>;
  readonly #isPlainHttp: (hostText: string) => boolean;

  constructor(hosts: readonly string[], isPlainHttp: (hostText: string) => boolean = () => false) {
    this.#listed = new Set(hosts);
    this.#isPlainHttp = isPlainHttp;
  }

  /** True when TLS to this host is used without verifying its certificate. An authority of its own outweighs `*`. */
  isUnverified(hostText: string, hasAuthority = false): boolean {
    return this.#listed.has(hostText) || (this.#listed.has('*') && !hasAuthority);
  }

  /** True when the operator says that this host has no TLS: it is not even tried. */
  isPlainHttpMeant(hostText: string): boolean {
    return this.#isPlainHttp(hostText);
  }

  /**
   * True when a registry at this host may be spoken to over plain HTTP: loopback, `localhost`, RFC 1918 literals, and
   * hosts that are listed by name. `*` is not enough, because credentials would then be sent in clear to anybody.
   */
  isPlainHttpAllowed(hostText: string): boolean {
    if (this.#listed.has(hostText) || this.#isPlainHttp(hostText)) return true;
    const host = bareHost(hostText.replace(/:\d+$/, '')).toLowerCase();
    if (host === 'localhost' || host.endsWith('.localhost')) return true;
    return isLoopbackLiteral(host) || isRfc1918Literal(host);
  }
}
