import type { FetchSettings, ModuleTerms, SignerDemand } from '../fetch/fetch-settings.ts';
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
    signersFor: (url) => signersFor(current(), url),
    blockedCidrs: () => current().blockedCidrs,
    maxModuleBytes: () => current().caps.maxModuleBytes,
    connectionsPerHost: () => current().caps.connectionsPerHost,
  };
}

/** Nobody can sign what is refused by now. */
function signersFor(policy: Policy, url: string): SignerDemand | undefined {
  const decision = decideModule(policy, { kind: 'remote', url });
  if (!decision.allowed) return { signers: [] };
  const { signers: names } = decision;
  if (names.length === 0) return undefined;
  return { signers: policy.trustedSigners.filter(({ name }) => names.includes(name)) };
}
