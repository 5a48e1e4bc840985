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
