import {
  type Policy,
  type PolicyListener,
  type PolicySource,
  permissivePolicy,
} from '../../../agent/policy/policy-data.ts';

/** A policy that the test changes. */
export class HandPolicy implements PolicySource {
  current: Policy = permissivePolicy;
  readonly #listeners = new Set<PolicyListener>();

  onChange(listener: PolicyListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  set(policy: Policy): void {
    const before = this.current;
    this.current = policy;
    for (const listener of this.#listeners) listener(policy, before);
  }
}
