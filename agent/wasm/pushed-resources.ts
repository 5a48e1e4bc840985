import type { AnyMessage } from '../../proto/any-message.ts';
import { type ExtensionPlan, planExtensionConfig } from './extension-plan.ts';
import type { ResourceShell } from './rollout.ts';

/** One resource of a push. */
export interface PushedResource {
  readonly any: AnyMessage;
  /** Delta: the wrapper it came in, whose name is the one that Envoy has asked for. */
  readonly wrapper: ResourceShell | undefined;
  /** Tells which one it is where it has no name that could be read. */
  readonly place: string;
}

/** A resource with what is to be done with it. */
export interface NamedPlan {
  readonly name: string;
  readonly plan: ExtensionPlan;
  readonly wrapper: ResourceShell | undefined;
}

/** A resource that is refused, without a name under which that could be told. */
export interface NamelessResource {
  readonly place: string;
  readonly reason: string;
}

/**
 * Plans every resource of one response. Pure. Each name comes once in `named`: resources that share one are refused
 * together.
 */
export function planResources(resources: readonly PushedResource[]): {
  readonly named: readonly NamedPlan[];
  readonly nameless: readonly NamelessResource[];
} {
  const named = new Map<string, NamedPlan>();
  const nameless: NamelessResource[] = [];
  for (const { any, wrapper, place } of resources) {
    const plan = planExtensionConfig(any);
    const name = wrapper === undefined || wrapper.name === '' ? plan.name : wrapper.name;
    if (name === '') {
      const reason = plan.kind === 'refused' ? plan.reason : 'extension config has no name';
      nameless.push({ place, reason });
      continue;
    }
    const first = named.get(name);
    named.set(name, { name, wrapper, plan: first === undefined ? plan : refuseBoth(first.plan, plan) });
  }
  return { named: [...named.values()], nameless };
}

/** Of two resources with one name nobody can tell which is meant: none is used. Envoy refuses them as well. */
function refuseBoth(first: ExtensionPlan, second: ExtensionPlan): ExtensionPlan {
  const standIns = [first, second].filter((plan) => plan.kind !== 'as-is');
  const standIn = standIns.find(({ fallbackAction }) => fallbackAction === 'deny') ?? standIns[0];
  return {
    kind: 'refused',
    name: first.name,
    reason: 'the response holds several extension configs of this name, one is allowed',
    result: 'unmarshal_failure',
    fallbackAction: standIn?.fallbackAction,
    fallback: standIn?.fallback,
  };
}
