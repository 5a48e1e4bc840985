import type { LookupAddress } from 'node:dns';
import { lookup as systemLookup } from 'node:dns';
import { isIPv4, isIPv6, type LookupFunction } from 'node:net';
import { type AddressSet, addressSet, bareHost, canonicalIp, embeddedIpv4, ipFamily } from './ip-literal.ts';
import { FetchError } from './types.ts';

/** One address range. */
export interface Cidr {
  /** As it was given, trimmed. */
  readonly text: string;
  readonly network: string;
  readonly prefixLength: number;
  readonly family: 'ipv4' | 'ipv6';
}

/**
 * Reads one item of `BLOCKED_CIDRS_IN_WASM_FETCH`; undefined when it is not `<address>/<prefix length>`.
 * A range of IPv4-mapped addresses is the IPv4 range (Go `net.ParseCIDR` and `IPNet.Contains`).
 */
export function parseCidr(item: string): Cidr | undefined {
  const text = item.trim();
  const [, host, digits] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  if (host === undefined || digits === undefined) return undefined;
  const address = bareHost(host);
  const prefixLength = Number(digits);
  if (isIPv4(address)) {
    return prefixLength <= 32 ? { text, network: address, prefixLength, family: 'ipv4' } : undefined;
  }
  if (!isIPv6(address) || prefixLength > 128) return undefined;
  const canonical = canonicalIp(address);
  if (canonical === undefined) return undefined;
  if (ipFamily(canonical) === 'ipv4' && prefixLength >= 96) {
    return { text, network: canonical, prefixLength: prefixLength - 96, family: 'ipv4' };
  }
  return { text, network: address, prefixLength, family: 'ipv6' };
}

interface BlockRule {
  readonly addresses: AddressSet;
  /** Follows `resolved IP <ip>`: the stock agent's words. */
  readonly finding: string;
  readonly advice: string;
}

/** 224.0.0.0/24 and every ffX2::/16, the link-local scope (Go `net.IP.IsLinkLocalMulticast`). */
const linkLocalMulticast = [
  '224.0.0.0/24',
  ...Array.from({ length: 16 }, (_, flags) => `ff${flags.toString(16)}2::/16`),
];

const builtInRules: readonly BlockRule[] = [
  {
    addresses: addressSet(['169.254.0.0/16', 'fe80::/10', ...linkLocalMulticast]),
    finding: 'is link-local',
    advice: 'serve the module from an address that is routed; link-local ranges cannot be allowed',
  },
  {
    addresses: addressSet(['100.100.100.200/32', 'fd00:ec2::/32']),
    finding: 'is a known cloud metadata address',
    advice: 'serve the module from another address; metadata services cannot be allowed',
  },
];

/** How long a name that a proxy will resolve is looked up here at most. */
const proxiedLookupMs = 2_000;

/** The part of `dns.lookup` that is used: all addresses of a name. */
export type AddressLookup = (
  hostname: string,
  options: { readonly all: true; readonly family?: number | 'IPv4' | 'IPv6' | undefined },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/**
 * Decides which addresses may be dialled, for every hop of every request (istio/istio `pkg/security/dial.go`).
 * Names are resolved once, and only the addresses that were checked are given to the socket.
 */
export class EgressGuard {
  readonly #fixedRules: readonly BlockRule[];
  readonly #moreCidrs: () => readonly string[];
  readonly #resolve: AddressLookup;
  /** The rules of `#moreCidrs`, made anew when it gives another list. */
  #moreRules: { readonly cidrs: readonly string[]; readonly rules: readonly BlockRule[] } = {
    cidrs: [],
    rules: [],
  };

  /** Throws RangeError for a CIDR text that `parseCidr` refuses: a range left out would be an open door. */
  constructor(options: {
    readonly blockedCidrs: readonly string[];
    /** Ranges that may change while the agent runs; the same list must be the same object. Must be valid. */
    readonly moreCidrs?: () => readonly string[];
    readonly lookup?: AddressLookup;
  }) {
    this.#fixedRules = [
      ...builtInRules,
      ...options.blockedCidrs.map((text) => configuredRule(text, environmentAdvice)),
    ];
    this.#moreCidrs = options.moreCidrs ?? (() => noCidrs);
    this.#resolve = options.lookup ?? systemLookup;
  }

  /** The refusal (`blocked_address`) for an address or a literal host; undefined when it may be dialled, and for names. */
  refusal(host: string): FetchError | undefined {
    const ip = canonicalIp(host);
    if (ip === undefined) return undefined;
    const targets = [ip, ...embeddedIpv4(ip)];
    const rule = this.#rules().find((each) =>
      targets.some((target) => each.addresses.check(target, ipFamily(target))),
    );
    if (rule === undefined) return undefined;
    return new FetchError(
      'blocked_address',
      `connection blocked: resolved IP ${ip} ${rule.finding} (${rule.advice})`,
    );
  }

  #rules(): readonly BlockRule[] {
    const cidrs = this.#moreCidrs();
    if (cidrs !== this.#moreRules.cidrs) {
      const added = cidrs.map((text) => configuredRule(text, policyAdvice));
      this.#moreRules = { cidrs, rules: [...this.#fixedRules, ...added] };
    }
    return cidrs.length === 0 ? this.#fixedRules : this.#moreRules.rules;
  }

  /** For `net.connect`: gives the addresses of a name that may be dialled, or the refusal when none may. */
  readonly lookup: LookupFunction = (hostname, options, callback) => {
    this.#resolve(hostname, { all: true, family: options.family }, (error, addresses) => {
      if (error !== null) {
        callback(error, '');
        return;
      }
      const refusals = addresses.map(({ address }) => this.refusal(address));
      const allowed = addresses.filter((_, index) => refusals[index] === undefined);
      const [first] = allowed;
      if (first === undefined) {
        const none = new Error(`the name ${hostname} has no address`);
        callback(refusals.find((refusal) => refusal !== undefined) ?? none, '');
      } else if (options.all === true) {
        callback(null, allowed);
      } else {
        callback(null, first.address, first.family);
      }
    });
  };

  /**
   * The refusal for a target that a proxy will dial. The proxy resolves the name itself, so any blocked address of
   * it is enough; a name that cannot be resolved here in time is left to the proxy.
   */
  async proxiedRefusal(hostname: string): Promise<FetchError | undefined> {
    if (canonicalIp(hostname) !== undefined) return this.refusal(hostname);
    const looked = Promise.withResolvers<readonly LookupAddress[]>();
    const timer = setTimeout(() => looked.resolve([]), proxiedLookupMs);
    this.#resolve(hostname, { all: true }, (error, addresses) =>
      looked.resolve(error === null ? addresses : []),
    );
    const addresses = await looked.promise.finally(() => clearTimeout(timer));
    return addresses.map(({ address }) => this.refusal(address)).find((refusal) => refusal !== undefined);
  }
}

const noCidrs: readonly string[] = [];
const environmentAdvice =
  'take the range out of BLOCKED_CIDRS_IN_WASM_FETCH if this address is meant to be reached';
const policyAdvice =
  'take the range out of blockedCidrs of the policy file if this address is meant to be reached';

function configuredRule(text: string, advice: string): BlockRule {
  const cidr = parseCidr(text);
  if (cidr === undefined) throw new RangeError(`blocked range ${text} is not <address>/<prefix length>`);
  return {
    addresses: addressSet([`${cidr.network}/${cidr.prefixLength}`]),
    finding: `is in blocked CIDR range ${cidr.text}`,
    advice,
  };
}
