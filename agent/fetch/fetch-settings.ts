import type { Signer } from './signature/signer.ts';
import type { PullPolicy } from './types.ts';

/** How one host is spoken to. What is absent is as without settings. */
export interface HostSettings {
  /** Absolute path of a PEM bundle that is trusted for this host instead of the system's. Read again when it changes. */
  readonly caFile?: string | undefined;
  /** Absolute paths of PEM files, shown to this host. Read again when they change. */
  readonly clientCertificate?: { readonly certFile: string; readonly keyFile: string } | undefined;
  /** True: without TLS. Nothing else makes a host be spoken to in clear when TLS is meant. */
  readonly isPlainHttp?: boolean;
  /** Absolute path of a docker config JSON of the operator that is asked first for this host. */
  readonly credentialsFile?: string | undefined;
}

/** A place of the operator where a module is also found. */
export interface MirrorPlace {
  /** A module URL: `oci://`, `https://` or `http://`. */
  readonly url: string;
  readonly timeoutMs: number;
  /** Sent as `?ns=` with each request: the original registry, in containerd's words. OCI only. */
  readonly namespace?: string | undefined;
}

/** A folder with an OCI image layout, or a tree of them by `<registry>/<repository>`. It is only read. */
export interface LayoutPlace {
  /** Absolute. */
  readonly path: string;
  readonly timeoutMs: number;
}

/** What an operator says about one module. What is absent is as without settings. */
export interface ModuleTerms {
  /** Wins over the config's own. */
  readonly pullPolicy?: Exclude<PullPolicy, 'unspecified'> | undefined;
  /** A cached module that was good this long ago at most stands in when the fetch fails for want of an answer. */
  readonly staleIfErrorMs?: number | undefined;
  /**
   * How old an answer about a name may be before its place is asked again without a new config. Counts for modules
   * whose pull policy asks for what is new: `Always`, and by default `:latest`.
   */
  readonly pollIntervalMs?: number | undefined;
  /** Time for the origin alone, after layouts and mirrors. */
  readonly originTimeoutMs?: number | undefined;
  /** In order, before mirrors and origin. */
  readonly layouts: readonly LayoutPlace[];
  /** In order, before the origin. */
  readonly mirrors: readonly MirrorPlace[];
}

/** Who may have signed an image: any one of them suffices. With none of them, no image is good. */
export interface SignerDemand {
  readonly signers: readonly Signer[];
}

/**
 * What an operator may set about fetching. Every function is asked anew for each request and must be cheap: it looks
 * at whatever is in force at that moment.
 */
export interface FetchSettings {
  /** `hostText` is `host` or `host:port`. */
  readonly host: (hostText: string) => HostSettings | undefined;
  readonly module: (url: string) => ModuleTerms;
  /**
   * Who must have signed the image of an `oci://` URL, by whatever place it comes; undefined: nobody need. Held against
   * each fetch and each cache hit.
   */
  readonly signersFor: (url: string) => SignerDemand | undefined;
  /** CIDR texts that are never dialled, beside the configured ones. Must be valid. */
  readonly blockedCidrs: () => readonly string[];
  /** Lowers the cap on a module; it never raises it. */
  readonly maxModuleBytes: () => number | undefined;
  /** Connections to one host; counts for hosts that are spoken to for the first time. */
  readonly connectionsPerHost: () => number | undefined;
}

const noTerms: ModuleTerms = { layouts: [], mirrors: [] };
const noCidrs: readonly string[] = [];

/** Sets nothing. */
export const permissiveSettings: FetchSettings = {
  host: () => undefined,
  module: () => noTerms,
  signersFor: () => undefined,
  blockedCidrs: () => noCidrs,
  maxModuleBytes: () => undefined,
  connectionsPerHost: () => undefined,
};
