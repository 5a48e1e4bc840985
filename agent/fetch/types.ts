import type { Sha256 } from '../../cache/types.ts';
import type { RemoteFetchResult } from '../../metrics/wasm-metrics.ts';

/** `ISTIO_META_WASM_IMAGE_PULL_POLICY`; unknown text is `unspecified`. */
export type PullPolicy = 'unspecified' | 'if-not-present' | 'always';

/** One module that one extension config asks for. */
export interface ModuleRequest {
  /** `TypedExtensionConfig.name`: whose resource version is remembered, and what log lines name. */
  readonly resourceName: string;
  /** As istiod gave it: `oci://`, `http://` or `https://`. */
  readonly url: string;
  /** The checksum the config pins, lower-case hex as given; undefined when there is none (also for the text `nil`). */
  readonly sha256: string | undefined;
  /** Deadline over lookup, retries and body. */
  readonly timeoutMs: number;
  readonly pullPolicy: PullPolicy;
  /** Text of a docker config JSON. A secret: never logged, never stored. */
  readonly pullSecret: string | undefined;
  /** `ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION`, opaque, empty when absent. */
  readonly pluginResourceVersion: string;
}

/** What the bytes' own digest was compared with; the first rung that matched. */
export type MatchedPin = 'index' | 'manifest' | 'layer' | 'archive' | 'module';

/** Every digest of a module's chain. Absent ones do not apply to its source. */
export interface ModuleDigests {
  /** Indexes through which the manifest was found, outermost first. */
  readonly index: readonly Sha256[];
  readonly manifest?: Sha256 | undefined;
  readonly layer?: Sha256 | undefined;
  /** The file as it was served over HTTP, when the module was unpacked from it. */
  readonly archive?: Sha256 | undefined;
  readonly module?: Sha256 | undefined;
}

/** One thing that was looked at on the way to a module, and why the others beside it were not taken. For people. */
export interface TraceStep {
  /** What was taken: `index`, `manifest`, `layer`, `file`. */
  readonly kind: 'index' | 'manifest' | 'layer' | 'file';
  /** Digest with media type, or the name of the file in its archive. Safe to print. */
  readonly taken: string;
  readonly reason: string;
  readonly refused: readonly { readonly candidate: string; readonly reason: string }[];
}

/** How a module was found; only of a fetch that asked somebody. Holds no secret. */
export interface FetchTrace {
  /** Places that were asked before and did not have it. */
  readonly tried: readonly { readonly name: string; readonly reason: string }[];
  readonly steps: readonly TraceStep[];
}

/** A verified module on disk. */
export interface FetchedModule {
  /** Absolute path of the file that Envoy is given. */
  readonly path: string;
  /** SHA-256 of the module file. */
  readonly digest: Sha256;
  /** What the stock agent calls the checksum: the manifest's digest for OCI, the module's for HTTP. */
  readonly checksum: Sha256;
  readonly sizeBytes: number;
  /** Where the bytes came from for this request. */
  readonly source: 'cache' | 'http' | 'oci' | 'layout';
  readonly matchedPin: MatchedPin | undefined;
  /** Which place the bytes came from when they were downloaded: `layout <folder>`, `mirror <URL>`, `origin <host>`. */
  readonly sourceName?: string | undefined;
  /** Of the whole chain, as far as it is known. */
  readonly digests?: ModuleDigests;
  /** Who signed it, where a signature was asked for and proven. */
  readonly signature?: { readonly signer: string; readonly proof: string } | undefined;
  /** How it was found; absent when it came from the cache without asking anybody. */
  readonly trace?: FetchTrace | undefined;
  /** True: it is from the cache because nobody answered, and may be out of date. */
  readonly isStale?: boolean;
  /** After how long the same request should be made again to see whether the tag names another image. */
  readonly recheckAfterMs?: number | undefined;
}

export type FetchErrorCode =
  | 'bad_url'
  | 'unsupported_scheme'
  | 'bad_checksum'
  | 'bad_pull_secret'
  | 'blocked_address'
  /** A redirect that must not be followed: too many, an unsafe target, or no usable one. */
  | 'redirect'
  | 'unauthorized'
  | 'not_found'
  | 'http_status'
  | 'network'
  | 'tls'
  | 'timeout'
  | 'aborted'
  | 'too_large'
  | 'bad_manifest'
  | 'bad_archive'
  | 'not_wasm'
  | 'digest_mismatch'
  | 'checksum_mismatched'
  /** No signature of a signer that the operator asks for. */
  | 'unsigned'
  /** The operator's policy does not allow it. */
  | 'policy_refused'
  /** Envoy could not run it, or would end. */
  | 'preflight_refused'
  | 'store';

/**
 * A module could not be had. The message says what was tried, on what URL, what was seen and what to do;
 * it never holds a credential (URLs are printed without user info and query).
 */
export class FetchError extends Error {
  override readonly name = 'FetchError';
  readonly code: FetchErrorCode;
  /** The label of `wasm_remote_fetch_count` this counts under; undefined for failures before any download. */
  readonly result: RemoteFetchResult | undefined;
  /** What the server asked for with `Retry-After`, in ms. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: FetchErrorCode,
    message: string,
    options: ErrorOptions & { readonly result?: RemoteFetchResult; readonly retryAfterMs?: number } = {},
  ) {
    super(message, options);
    this.code = code;
    this.result = options.result;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** Turns a request into a verified file: from the cache when policy allows, else from its source. */
export interface ModuleSource {
  /**
   * The module where it can be had in this very turn: what `fetch` would give from the cache, counted as that. Undefined
   * says nothing about it: ask `fetch`.
   */
  atHand(request: ModuleRequest): FetchedModule | undefined;
  /** Throws FetchError. Joins a flight that already fetches the same content with the same credentials. */
  fetch(request: ModuleRequest, options: { readonly signal: AbortSignal }): Promise<FetchedModule>;
}
