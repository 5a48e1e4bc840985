import type { FetchSettings, ModuleTerms } from '../fetch/fetch-settings.ts';
import type { Signer } from '../fetch/signature/signer.ts';
import { decideModule, registryFor } from './policy.ts';
import type { Policy } from './policy-data.ts';

/** Of a module that is refused: nobody fetches it. */
const noTerms: ModuleTerms = { layouts: [], mirrors: [] };

/** What the policy in force says about fetching, asked anew for each request. */
export function fetchRules(current: () => Policy): FetchSettings {
  return {
    host: (hostText) => registryFor(current(), hostText),
    module: (url) => {
      const decision = decideModule(current(), { kind: 'remote', url });
      return decision.allowed ? decision : noTerms;
    },
    blockedCidrs: () => current().blockedCidrs,
    maxModuleBytes: () => current().caps.maxModuleBytes,
    connectionsPerHost: () => current().caps.connectionsPerHost,
  };
}

/**
 * Who must have signed the image of a URL, by the policy in force: any one of them suffices. Undefined: nobody need.
 * An empty list, where the URL is refused by now: nobody can. Pure.
 */
export function signersFor(policy: Policy, url: string): readonly Signer[] | undefined {
  const decision = decideModule(policy, { kind: 'remote', url });
  if (!decision.allowed) return [];
  if (decision.signers.length === 0) return undefined;
  return policy.trustedSigners.filter(({ name }) => decision.signers.includes(name));
}
