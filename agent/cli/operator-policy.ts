import type { FetchSettings, ModuleTerms } from '../fetch/fetch-settings.ts';
import { parseSigners } from '../fetch/signature/signer.ts';
import { decideModule, registryFor } from '../policy/policy.ts';
import { type Policy, permissivePolicy } from '../policy/policy-data.ts';
import { loadPolicyFile } from '../policy/policy-file.ts';
import { formatPolicyProblem } from '../policy/policy-problem.ts';
import { CommandError } from './command-error.ts';
import { exitCodes } from './operator-run.ts';

/** Reads the policy file, or takes none. Throws CommandError with every fault of the file. */
export async function readOperatorPolicy(path: string | undefined): Promise<Policy> {
  if (path === undefined) return permissivePolicy;
  const load = await loadPolicyFile(path);
  switch (load.kind) {
    case 'loaded':
      return load.policy;
    case 'rejected':
      throw new CommandError(load.problems.map(formatPolicyProblem), { exitCode: exitCodes.usage });
    default:
      return load satisfies never;
  }
}

const noTerms: ModuleTerms = { layouts: [], mirrors: [] };

/** What the policy says about fetching. */
export async function operatorSettings(policy: Policy): Promise<FetchSettings> {
  const parsed = await parseSigners(policy.signers);
  const trusted = parsed.kind === 'parsed' ? parsed.signers : [];
  return {
    host: (hostText) => registryFor(policy, hostText),
    module: (url) => {
      const decision = decideModule(policy, { kind: 'remote', url });
      return decision.allowed ? decision : noTerms;
    },
    signersFor: (url) => {
      const decision = decideModule(policy, { kind: 'remote', url });
      if (!decision.allowed) return { signers: [] };
      const { signers: names } = decision;
      return names.length === 0
        ? undefined
        : { signers: trusted.filter((signer) => names.includes(signer.name)) };
    },
    blockedCidrs: () => policy.blockedCidrs,
    maxModuleBytes: () => policy.caps.maxModuleBytes,
    connectionsPerHost: () => policy.caps.connectionsPerHost,
  };
}
