import type { FuzzTarget } from '../fuzz-target.ts';
import { ecdsSessionTarget } from './ecds-session-target.ts';
import { extensionPlanTarget } from './extension-plan-target.ts';
import { framesTarget } from './frames-target.ts';
import { messageTypeTarget } from './message-type-target.ts';
import { walkersTarget } from './walkers-target.ts';

/** What reads the bytes of istiod and Envoy. */
export const wireTargets: readonly FuzzTarget[] = [
  framesTarget,
  messageTypeTarget,
  walkersTarget,
  extensionPlanTarget,
  ecdsSessionTarget,
];
