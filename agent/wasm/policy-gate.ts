import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Sha256 } from '../../cache/types.ts';
import { displayUrl } from '../fetch/module-url.ts';
import {
  FetchError,
  type FetchErrorCode,
  type FetchedModule,
  type ModuleRequest,
  type ModuleSource,
} from '../fetch/types.ts';
import { describeError } from '../log.ts';
import {
  actionOnFailure,
  decideModule,
  isDigestAsked,
  judgeRunning,
  type ModuleSubject,
  type RefusedModule,
} from '../policy/policy.ts';
import type { PluginTerms, Policy, PolicySource, RunningAction } from '../policy/policy-data.ts';
import { signerMark } from '../policy/signer-mark.ts';
import type { ExtensionPlan, LocalCode } from './extension-plan.ts';
import type { JudgedModule } from './judged-module.ts';

/** Plans of configs with Wasm in them that can be used. */
export type WasmPlan = Extract<ExtensionPlan, { readonly kind: 'fetch' | 'local' | 'as-is' }>;

/** What the policy in force says of a module that Envoy has been given. */
export type Judgement =
  | { readonly kind: 'allowed' }
  /** It would be allowed with a signature that nobody has looked for yet. */
  | { readonly kind: 'unproven'; readonly reason: string; readonly action: RunningAction }
  | { readonly kind: 'refused'; readonly reason: string; readonly action: RunningAction };

/** Holds every module against the policy in force: before it is fetched, when it is there, and while it runs. */
export class PolicyGate implements ModuleSource {
  readonly #policy: PolicySource;
  readonly #source: ModuleSource;

  /** `source` gives out modules that have the signatures which the policy asks for. */
  constructor(options: { readonly policy: PolicySource; readonly source: ModuleSource }) {
    this.#policy = options.policy;
    this.#source = options.source;
  }

  /** True where a policy file is named. */
  get isOn(): boolean {
    return this.#policy.current.file !== undefined;
  }

  /** The same value as long as the policy is the same. */
  get generation(): unknown {
    return this.#policy.current;
  }

  /** As `fetch`, of what the source has at hand. */
  atHand(request: ModuleRequest): FetchedModule | undefined {
    const decision = decideModule(this.#policy.current, { kind: 'remote', url: request.url });
    return decision.allowed ? this.#source.atHand(request) : undefined;
  }

  /**
   * The module of the source, where the policy allows its URL. What the module itself must prove is for `pass`, and a
   * policy that changes meanwhile for the caller to see (`generation`). Throws FetchError `policy_refused`, and what the
   * source throws.
   */
  async fetch(request: ModuleRequest, options: { readonly signal: AbortSignal }): Promise<FetchedModule> {
    const decision = decideModule(this.#policy.current, { kind: 'remote', url: request.url });
    if (!decision.allowed) throw refusalError(decision);
    return await this.#source.fetch(request, options);
  }

  /** Passes what needs no download. Throws FetchError `policy_refused`, and `not_found` or `store` for an unreadable file. */
  async passLocal(
    plan: Exclude<WasmPlan, { readonly kind: 'fetch' }>,
    options: { readonly signal: AbortSignal },
  ): Promise<JudgedModule | undefined> {
    const place = placeOf(plan);
    if (place === undefined) return undefined;
    const sha256 = await this.#digestOf(place, options.signal);
    const subject: ModuleSubject = place.kind === 'embedded' ? place : { ...withoutBytes(place), sha256 };
    const decision = decideModule(this.#policy.current, subject);
    if (!decision.allowed) throw refusalError(decision);
    return { subject, digests: sha256 === undefined ? [] : [sha256], signedBy: [] };
  }

  /** What is to be remembered of a module that passed. */
  judgedModule(url: string, module: FetchedModule): JudgedModule {
    const mark =
      module.signature === undefined ? undefined : signerMark(this.#policy.current, module.signature.signer);
    return {
      subject: { kind: 'remote', url: displayUrl(url) },
      digests: chainOf(module),
      signedBy: mark === undefined ? [] : [mark],
    };
  }

  /** Judges a module that runs, or that may run again; undefined: a config without Wasm. */
  judge(module: JudgedModule | undefined): Judgement {
    const policy = this.#policy.current;
    if (policy.file === undefined || module === undefined) return { kind: 'allowed' };
    const verdict = judgeRunning(policy, module);
    if (verdict.kind === 'refused') return verdict;
    const { signers, rule, onTightened } = verdict.decision;
    if (signers.length === 0 || signers.some((name) => isSignedBy(module, signerMark(policy, name)))) {
      return { kind: 'allowed' };
    }
    const reason = `refused by policy: the module has no proven signature of ${signers.join(' or ')}, which ${rule.name} in ${rule.file} line ${rule.line} asks for; sign the image`;
    return { kind: 'unproven', reason, action: onTightened };
  }

  /** Throws FetchError `policy_refused` for a module that may not run, whatever it had to prove to come here. */
  pass(module: JudgedModule | undefined): void {
    const judgement = this.judge(module);
    if (judgement.kind !== 'allowed') throw new FetchError('policy_refused', judgement.reason);
  }

  /** Why a plan cannot come to anything under the policy in force, as far as that is known without its bytes. */
  refusalOf(plan: ExtensionPlan): RefusedModule | undefined {
    const policy = this.#policy.current;
    if (policy.file === undefined || plan.kind === 'refused') return undefined;
    const place = plan.kind === 'fetch' ? undefined : placeOf(plan);
    if (plan.kind !== 'fetch' && place === undefined) return undefined;
    if (place !== undefined && place.kind !== 'embedded' && isDigestAsked(policy, place.kind))
      return undefined;
    const decision = decideModule(policy, subjectOf(plan, place));
    return decision.allowed ? undefined : decision;
  }

  /** Whether what runs stays when an update to this plan fails. */
  actionOnFailure(plan: WasmPlan, error: unknown): RunningAction {
    const isRefused = error instanceof FetchError && refusedByPolicy.has(error.code);
    const place = plan.kind === 'fetch' ? undefined : placeOf(plan);
    if (plan.kind !== 'fetch' && place === undefined) return 'keep';
    return actionOnFailure(this.#policy.current, subjectOf(plan, place), isRefused);
  }

  /** Longest hold of a first load in ms; undefined: as long as the fetch may take. */
  maxHoldMs(plan: WasmPlan): number | undefined {
    if (plan.kind !== 'fetch') return undefined;
    const decision = decideModule(this.#policy.current, { kind: 'remote', url: plan.request.url });
    const maxHoldMs = decision.allowed ? decision.maxHoldMs : undefined;
    return maxHoldMs === undefined || maxHoldMs >= plan.request.timeoutMs ? undefined : maxHoldMs;
  }

  /** How often it is to be looked for another module of this URL, in ms; undefined: never. */
  pollIntervalMs(url: string): number | undefined {
    return pollTerms(this.#policy.current, url).pollIntervalMs;
  }

  /** Whether it is looked for another module of this URL as it was before, as often and under the same pull policy. */
  isPolledAs(before: Policy, url: string): boolean {
    const [now, then] = [pollTerms(this.#policy.current, url), pollTerms(before, url)];
    return now.pollIntervalMs === then.pollIntervalMs && now.pullPolicy === then.pullPolicy;
  }

  /** Calls `listener` after each change of the policy, until the function that is returned is called. */
  onChange(listener: (before: Policy) => void): () => void {
    return this.#policy.onChange((_, before) => listener(before));
  }

  async #digestOf(place: LocalPlace, signal: AbortSignal): Promise<Sha256 | undefined> {
    if (place.kind === 'embedded' || !isDigestAsked(this.#policy.current, place.kind)) return undefined;
    if (place.kind === 'local') return fileDigest(place.path, signal);
    return place.bytes === undefined ? undefined : createHash('sha256').update(place.bytes).digest('hex');
  }
}

/** What is refused is not looked for. */
function pollTerms(policy: Policy, url: string): Pick<PluginTerms, 'pollIntervalMs' | 'pullPolicy'> {
  const decision = decideModule(policy, { kind: 'remote', url });
  return decision.allowed ? decision : { pollIntervalMs: undefined, pullPolicy: undefined };
}

/** As it is told to istiod and in the log. Pure. */
export function refusalError({ reason }: RefusedModule): FetchError {
  return new FetchError('policy_refused', reason);
}

/** No way to the module would help. */
const refusedByPolicy: ReadonlySet<FetchErrorCode> = new Set(['policy_refused', 'unsigned']);

/** Where Wasm is that needs no download. */
type LocalPlace = LocalCode | { readonly kind: 'embedded' };

/** Undefined: there is no Wasm in it. */
function placeOf(plan: Exclude<WasmPlan, { readonly kind: 'fetch' }>): LocalPlace | undefined {
  if (plan.kind === 'as-is') return plan.holdsWasm ? { kind: 'embedded' } : undefined;
  return plan.code;
}

function withoutBytes(
  place: Exclude<LocalPlace, { readonly kind: 'embedded' }>,
): { readonly kind: 'local'; readonly path: string } | { readonly kind: 'inline' } {
  return place.kind === 'local' ? place : { kind: 'inline' };
}

function subjectOf(plan: WasmPlan, place: LocalPlace | undefined): ModuleSubject {
  if (plan.kind === 'fetch') return { kind: 'remote', url: plan.request.url };
  if (place === undefined || place.kind === 'embedded') return { kind: 'embedded' };
  return { ...withoutBytes(place), sha256: undefined };
}

function isSignedBy({ signedBy }: JudgedModule, mark: string | undefined): boolean {
  return mark !== undefined && signedBy.includes(mark);
}

/** Every digest by which a module may be listed. */
function chainOf({ digest, checksum, digests }: FetchedModule): readonly Sha256[] {
  const { index = [], manifest, layer, archive } = digests ?? {};
  const all = [...index, manifest, layer, archive, checksum, digest].filter((each) => each !== undefined);
  return [...new Set(all)];
}

async function fileDigest(path: string, signal: AbortSignal): Promise<Sha256> {
  const what = `the local module ${JSON.stringify(path)}, whose sha256 the policy asks for,`;
  try {
    // A pipe would never come to its end.
    if (!(await stat(path)).isFile())
      throw new FetchError('store', `${what} is no regular file; name a file`);
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(path, { signal })) hash.update(chunk as Uint8Array);
    return hash.digest('hex');
  } catch (error) {
    if (error instanceof FetchError) throw error;
    const isAbsent = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    const problem = isAbsent ? 'is not there; mount it into the proxy container' : describeError(error);
    throw new FetchError(isAbsent ? 'not_found' : 'store', `${what} ${problem}`, { cause: error });
  }
}
