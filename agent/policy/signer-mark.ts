import { createHash } from 'node:crypto';
import type { Policy } from './policy-data.ts';

/**
 * A mark of what a signer is, not of its name alone: it changes with its keys, its identities and its trusted root.
 * Undefined for a name that the policy does not have. Pure.
 */
export function signerMark(policy: Policy, name: string): string | undefined {
  const signer = policy.signers.find((candidate) => candidate.name === name);
  return signer === undefined ? undefined : createHash('sha256').update(JSON.stringify(signer)).digest('hex');
}
