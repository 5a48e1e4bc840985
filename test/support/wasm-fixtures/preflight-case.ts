import type { RefusalCode, WarningCode } from '../../../agent/wasm/preflight/verdict.ts';

/** What a real Envoy does with a module. */
export type EnvoyVerdict =
  /** Loads it and configures the plugin. */
  | 'accepts'
  /** Reports an error: over xDS a NACK. */
  | 'rejects'
  /** Ends by a signal. */
  | 'crashes';

/** A module, what our preflight must say of it, and what Envoy does with it. */
export interface PreflightCase {
  /** What is special about it; unique. */
  readonly name: string;
  build(): Uint8Array;
  /** The codes of all reasons, in order; none when it is accepted. */
  readonly refusals: readonly RefusalCode[];
  /** The codes of the warnings of an accepted module. */
  readonly warnings: readonly WarningCode[];
  readonly envoy: EnvoyVerdict;
}

/** Cases that Envoy accepts and so must we. */
export function acceptedCase(
  name: string,
  build: () => Uint8Array,
  warnings: readonly WarningCode[] = [],
): PreflightCase {
  return { name, build, refusals: [], warnings, envoy: 'accepts' };
}

/** Cases that Envoy rejects. */
export function rejectedCase(
  name: string,
  refusals: readonly RefusalCode[],
  build: () => Uint8Array,
): PreflightCase {
  return { name, build, refusals, warnings: [], envoy: 'rejects' };
}

/** Cases that end the Envoy process. */
export function crashingCase(name: string, refusal: RefusalCode, build: () => Uint8Array): PreflightCase {
  return { name, build, refusals: [refusal], warnings: [], envoy: 'crashes' };
}
