import { archiveTarget } from './archive-target.ts';
import type { FuzzTarget } from './fuzz-target.ts';
import { manifestTarget } from './manifest-target.ts';
import { moduleTarget } from './module-target.ts';
import { challengeTarget, referenceTarget } from './text-targets.ts';
import { wireTargets } from './wire/wire-targets.ts';

/** Everything that is fuzzed. */
export const fuzzTargets: readonly FuzzTarget[] = [
  referenceTarget,
  challengeTarget,
  manifestTarget,
  archiveTarget,
  moduleTarget,
  ...wireTargets,
];
