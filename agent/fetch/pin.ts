import type { Sha256 } from '../../cache/types.ts';
import type { MatchedPin, ModuleDigests } from './types.ts';

/** The first rung, outermost first, whose digest is `pin`. Pure. */
export function matchPin(pin: Sha256, digests: ModuleDigests): MatchedPin | undefined {
  if (digests.index.includes(pin)) return 'index';
  if (digests.manifest === pin) return 'manifest';
  if (digests.layer === pin) return 'layer';
  if (digests.archive === pin) return 'archive';
  return digests.module === pin ? 'module' : undefined;
}

/** The digests as text for an error, outermost first. */
export function describeDigests(digests: ModuleDigests): string {
  const named: readonly (readonly [string, Sha256 | undefined])[] = [
    ...digests.index.map((digest) => ['index', digest] as const),
    ['manifest', digests.manifest],
    ['layer', digests.layer],
    ['archive', digests.archive],
    ['module', digests.module],
  ];
  return named
    .filter(([, digest]) => digest !== undefined)
    .map(([name, digest]) => `${name} ${digest}`)
    .join(', ');
}

/** True for 64 lower-case hex digits: the only form of a pin. */
export function isSha256(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text);
}
