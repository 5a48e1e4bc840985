import type { FetchTrace, MatchedPin, ModuleDigests } from '../fetch/types.ts';
import type { ModuleSummary } from '../wasm/preflight/module-summary.ts';
import type { Verdict } from '../wasm/preflight/verdict.ts';

/** What a policy says of a module. */
export type PolicyFinding =
  /** There is no policy: everything is allowed. */
  | { readonly kind: 'none' }
  /** The policy has rules on URLs and local files only. */
  | { readonly kind: 'not-judged'; readonly reason: string }
  | { readonly kind: 'allowed'; readonly rule: string }
  | { readonly kind: 'refused'; readonly reason: string };

/** Whether the module is signed as the policy asks. */
export type SignatureFinding =
  | { readonly kind: 'not-asked' }
  | { readonly kind: 'verified'; readonly signer: string; readonly proof: string }
  /** It has none of the signatures that are asked for. */
  | { readonly kind: 'refused'; readonly reason: string }
  /** It could not be found out. */
  | { readonly kind: 'unknown'; readonly reason: string };

/** Whether the module could be had. */
export type FetchFinding =
  | {
      readonly kind: 'fetched';
      /** `layout <folder>`, `mirror <URL>`, `origin <host>`, `file <path>`. */
      readonly from: string;
      readonly trace: FetchTrace;
      readonly digests: ModuleDigests;
      readonly matchedPin: MatchedPin | undefined;
    }
  | { readonly kind: 'failed'; readonly code: string; readonly reason: string };

/** What Envoy would find in the module. */
export interface ModuleFinding {
  readonly sizeBytes: number;
  /** Undefined when the bytes could not be read as a module. */
  readonly summary: ModuleSummary | undefined;
  readonly preflight: Verdict;
}

/** All that `wasm inspect` finds out. Holds no secret. */
export interface Inspection {
  /** As given, without its secret parts. */
  readonly reference: string;
  readonly policy: PolicyFinding;
  readonly fetch: FetchFinding;
  readonly signature: SignatureFinding;
  /** Undefined when it could not be had. */
  readonly module: ModuleFinding | undefined;
}

/** Why Envoy would not be given the module, the first things first; empty: it would. Pure. */
export function refusalsOf({ policy, fetch, signature, module }: Inspection): readonly string[] {
  return [
    ...(policy.kind === 'refused' ? [policy.reason] : []),
    ...(fetch.kind === 'failed' ? [fetch.reason] : []),
    ...(signature.kind === 'refused' ? [`signature: ${signature.reason}`] : []),
    ...(signature.kind === 'unknown' ? [`signature: ${signature.reason}`] : []),
    ...(module?.preflight.kind === 'refused'
      ? module.preflight.reasons.map(({ code, message }) => `${message} (${code})`)
      : []),
  ];
}
