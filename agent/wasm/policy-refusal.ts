import { FetchError } from '../fetch/types.ts';
import type { RefusedModule } from '../policy/policy.ts';

/** The policy refuses a module. The message names the rule with its file and line. */
export class PolicyRefusal extends FetchError {
  readonly decision: RefusedModule;

  constructor(decision: RefusedModule) {
    super('policy_refused', decision.reason);
    this.decision = decision;
  }
}
