import { displayUrl } from '../fetch/module-url.ts';
import { hostKey } from './host-key.ts';
import { type MirrorTarget, mirrorTargets } from './mirror-target.ts';
import { type ModulePlace, readPlace } from './module-place.ts';
import { matchesPlace } from './place-pattern.ts';
import type {
  LayoutFolder,
  ModuleProof,
  ModuleRule,
  PluginTerms,
  Policy,
  RegistrySettings,
  RuleSite,
  RunningAction,
} from './policy-data.ts';

/** Which module is asked for. */
export type ModuleSubject =
  | { readonly kind: 'remote'; readonly url: string }
  /** A file that Envoy reads. `sha256` is of its bytes, when somebody has read them. */
  | { readonly kind: 'local'; readonly path: string; readonly sha256: string | undefined }
  /** Bytes in the config, or in an environment variable of Envoy. */
  | { readonly kind: 'inline'; readonly sha256: string | undefined }
  /** Wasm somewhere inside of another filter: nobody looks which. */
  | { readonly kind: 'embedded' };

/** The module may be used if it proves what is asked. */
export interface AllowedModule extends PluginTerms, ModuleProof {
  readonly allowed: true;
  readonly rule: RuleSite;
  /** In order, after the layouts and before the origin. */
  readonly mirrors: readonly MirrorTarget[];
  readonly layouts: readonly LayoutFolder[];
}

/** The module may not be used. */
export interface RefusedModule {
  readonly allowed: false;
  readonly rule: RuleSite;
  /** For people: what, by which rule of which file in which line, and what to do. Holds no secret. */
  readonly reason: string;
  /** What is to be done with a plugin that runs with it. */
  readonly onTightened: RunningAction;
}

export type ModuleDecision = AllowedModule | RefusedModule;

/**
 * Decides on one module. For remote modules `sha256` and `signers` are still to be proven when bytes are there
 * (`refuseDigests`, and the signature check); for local and inline ones all is decided here. Pure.
 */
export function decideModule(policy: Policy, subject: ModuleSubject): ModuleDecision {
  switch (subject.kind) {
    case 'remote':
      return decideRemote(policy, subject.url);
    case 'local':
      return decideLocal(policy, subject.path, subject.sha256);
    case 'inline':
      return decideInline(policy, subject.sha256);
    case 'embedded':
      return decideEmbedded(policy);
    default:
      return subject satisfies never;
  }
}

function decideRemote(policy: Policy, url: string): ModuleDecision {
  const { fallthrough } = policy;
  // Without a policy the fetch itself says what is wrong with a URL, in the stock agent's words.
  if (policy.file === undefined) return allow(fallthrough, noProof, [], []);
  const what = `the module ${displayUrl(url)}`;
  const reading = readPlace(url);
  if (reading.kind === 'unreadable') {
    return refuse(fallthrough, `${what}: the URL ${reading.reason}, so no rule can hold for it`);
  }
  const { place } = reading;
  const layouts = policy.layouts;
  const mirrors = mirrorTargets(policy.mirrors, url, place);
  const rule = policy.modules.find(({ pattern }) => matchesPlace(pattern, place));
  if (rule === undefined) {
    if (fallthrough.action === 'allow') return allow(fallthrough, noProof, mirrors, layouts);
    const advice = 'add a rule under "modules" that allows it, or use a module from an allowed place';
    return refuse(fallthrough, `${what} matches no rule and ${where(fallthrough.site)} is deny; ${advice}`);
  }
  const by = `${where(rule.site)} (${rule.action} ${rule.matchText})`;
  if (rule.action === 'deny')
    return refuse(rule, `${what} is denied by ${by}; use a module from an allowed place`);
  const gap = missingProof(policy, rule, place);
  if (gap !== undefined) return refuse(rule, `${what} does not fulfil ${by}: ${gap}`);
  // Over HTTP the listed sha256 stands in for a signature: there is no place for one.
  const signers = place.scheme === 'oci' ? rule.signers : [];
  return allow(rule, { signers, sha256: rule.sha256 }, mirrors, layouts);
}

/** What a module of this place can never prove; undefined when it can. */
function missingProof(policy: Policy, rule: ModuleRule, place: ModulePlace): string | undefined {
  if (place.scheme !== 'oci' && rule.signers.length > 0 && rule.sha256 === undefined) {
    return "it asks for a signature, and modules from http(s) URLs have none; list the module's sha256 in the rule, or push it to a registry";
  }
  const isHttpMeant = rule.pattern.kind === 'web' || policy.registries.get(place.host)?.isPlainHttp === true;
  if (place.scheme === 'http' && !isHttpMeant) {
    return `plain http is not allowed for it; use https, or set plainHttp: true for ${place.host} under "registries", or allow the http:// URL itself`;
  }
  return undefined;
}

function decideLocal(policy: Policy, path: string, sha256: string | undefined): ModuleDecision {
  const what = `the local module ${JSON.stringify(path)}`;
  const rule = policy.local;
  if (rule === undefined) return decideByDefault(policy, what, 'local');
  const by = where(rule.site);
  if (rule.action === 'deny') return refuse(rule, `${what} is denied by ${by}; use a remote module`);
  if (rule.paths !== undefined && !rule.paths.some((allowed) => isUnder(allowed, path))) {
    return refuse(
      rule,
      `${what} is in none of the paths of ${by}; add its folder to "paths" (absolute, without "..")`,
    );
  }
  return allowListed(rule, what, sha256, rule.sha256);
}

function decideInline(policy: Policy, sha256: string | undefined): ModuleDecision {
  const what = 'the inline module';
  const rule = policy.inline;
  if (rule === undefined) return decideByDefault(policy, what, 'inline');
  if (rule.action === 'deny') {
    return refuse(rule, `${what} is denied by ${where(rule.site)}; use a remote module`);
  }
  return allowListed(rule, what, sha256, rule.sha256);
}

function decideEmbedded(policy: Policy): ModuleDecision {
  const { fallthrough } = policy;
  if (fallthrough.action === 'allow') return allow(fallthrough, noProof, [], []);
  const what = 'Wasm inside of another filter';
  const advice = 'use an extension config of its own for the module';
  return refuse(fallthrough, `${what} matches no rule and ${where(fallthrough.site)} is deny; ${advice}`);
}

/** True when a decision on such a module needs to know its bytes. Pure. */
export function isDigestAsked(policy: Policy, kind: 'local' | 'inline'): boolean {
  const rule = policy[kind];
  return rule?.action === 'allow' && rule.sha256 !== undefined;
}

/** What is to be done where an update of a plugin cannot be had: what its rule says, or that which refuses it. Pure. */
export function actionOnFailure(policy: Policy, subject: ModuleSubject, isRefused: boolean): RunningAction {
  const decision = decideModule(policy, subject);
  return !decision.allowed || isRefused ? decision.onTightened : decision.onUpdateFailure;
}

function decideByDefault(policy: Policy, what: string, key: 'local' | 'inline'): ModuleDecision {
  const { fallthrough } = policy;
  if (fallthrough.action === 'allow') return allow(fallthrough, noProof, [], []);
  const advice = `add "${key}" with action: allow if it is wanted`;
  return refuse(fallthrough, `${what} matches no rule and ${where(fallthrough.site)} is deny; ${advice}`);
}

function allowListed(
  rule: PluginTerms & { readonly site: RuleSite },
  what: string,
  sha256: string | undefined,
  listed: readonly string[] | undefined,
): ModuleDecision {
  if (listed !== undefined && (sha256 === undefined || !listed.includes(sha256))) {
    const seen = sha256 === undefined ? 'cannot be read to know its sha256' : `has the sha256 ${sha256}`;
    return refuse(
      rule,
      `${what} ${seen}, and ${where(rule.site)} lists others; add it there if it is wanted`,
    );
  }
  return allow(rule, { signers: [], sha256: listed }, [], []);
}

/**
 * Why the bytes of an allowed module are refused; undefined when one of their digests is listed, or none need be.
 * `digests` are all of the verified chain: index, manifest, layer, archive and module. To be asked after each fetch
 * and each cache hit. Pure.
 */
export function refuseDigests(
  decision: AllowedModule,
  url: string,
  digests: readonly string[],
): RefusedModule | undefined {
  const { sha256, rule, onTightened } = decision;
  if (sha256 === undefined || digests.some((digest) => sha256.includes(digest))) return undefined;
  const has = digests.length === 0 ? 'has no known digest' : `has the digests ${digests.join(', ')}`;
  const reason = `refused by policy: the module ${displayUrl(url)} ${has}, and ${where(rule)} lists others; add one of them there if the module is wanted`;
  return { allowed: false, rule, reason, onTightened };
}

/** What a changed policy means for a plugin that runs. */
export type RunningVerdict =
  /** It may run on, if it has the signature that `decision` asks for. */
  | { readonly kind: 'allowed'; readonly decision: AllowedModule }
  /** It is refused now; `action` is what the rule that refuses it wants done. */
  | {
      readonly kind: 'refused';
      readonly action: RunningAction;
      readonly reason: string;
      readonly rule: RuleSite;
    };

/** Decides on a plugin that runs. `digests` are those of its chain (see `refuseDigests`). Pure. */
export function judgeRunning(
  policy: Policy,
  running: { readonly subject: ModuleSubject; readonly digests: readonly string[] },
): RunningVerdict {
  const { subject, digests } = running;
  const decision = decideModule(policy, subject);
  if (!decision.allowed) return stopped(decision);
  const refusal = subject.kind === 'remote' ? refuseDigests(decision, subject.url, digests) : undefined;
  return refusal === undefined ? { kind: 'allowed', decision } : stopped(refusal);
}

function stopped({ onTightened, reason, rule }: RefusedModule): RunningVerdict {
  return { kind: 'refused', action: onTightened, reason, rule };
}

/** How a host is spoken to; undefined when the policy says nothing of it. `hostText` is `host` or `host:port`. Pure. */
export function registryFor(policy: Policy, hostText: string): RegistrySettings | undefined {
  const key = hostKey(hostText);
  return key === undefined ? undefined : policy.registries.get(key);
}

const noProof: ModuleProof = { signers: [], sha256: undefined };

function allow(
  terms: PluginTerms & { readonly site: RuleSite },
  proof: ModuleProof,
  mirrors: readonly MirrorTarget[],
  layouts: readonly LayoutFolder[],
): AllowedModule {
  return {
    allowed: true,
    rule: terms.site,
    signers: proof.signers,
    sha256: proof.sha256,
    mirrors,
    layouts,
    pullPolicy: terms.pullPolicy,
    staleIfErrorMs: terms.staleIfErrorMs,
    pollIntervalMs: terms.pollIntervalMs,
    onUpdateFailure: terms.onUpdateFailure,
    onTightened: terms.onTightened,
    maxHoldMs: terms.maxHoldMs,
    originTimeoutMs: terms.originTimeoutMs,
  };
}

function refuse(rule: PluginTerms & { readonly site: RuleSite }, reason: string): RefusedModule {
  return {
    allowed: false,
    rule: rule.site,
    reason: `refused by policy: ${reason}`,
    onTightened: rule.onTightened,
  };
}

function where({ name, file, line }: RuleSite): string {
  return `${name} in ${file} line ${line}`;
}

/** By whole parts of the path. What is not absolute, or leads up again, is under nothing. */
function isUnder(folder: string, path: string): boolean {
  const parts = partsOf(path);
  const wanted = partsOf(folder);
  if (!path.startsWith('/') || parts.includes('..')) return false;
  return wanted.every((part, index) => part === parts[index]);
}

function partsOf(path: string): readonly string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}
