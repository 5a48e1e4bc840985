import type { TestContext } from 'node:test';
import * as fc from 'fast-check';
import type { StreamKind } from '../../../agent/xds/interceptor.ts';
import { allowAll, policyOf } from '../policy/policy-fixture.ts';
import { type EcdsStep, EcdsWorld, ecdsSteps, type WorldPolicies } from './ecds-world.ts';
import { registryHost } from './model-plugin.ts';

/** What happens, one after the other; the number chooses among what there is. */
export type EcdsStory = readonly (readonly [EcdsStep, number])[];

/** The steps that every plugin takes come more often, so that the others find something to disturb. */
const weights: Readonly<Partial<Record<EcdsStep, number>>> = {
  change: 4,
  fetched: 5,
  answer: 7,
  failed: 2,
  subscribe: 2,
};

const stories = fc.array(
  fc.tuple(
    fc.oneof(...ecdsSteps.map((step) => ({ arbitrary: fc.constant(step), weight: weights[step] ?? 1 }))),
    fc.nat(59),
  ),
  { maxLength: 60 },
);

async function readPolicies(): Promise<WorldPolicies> {
  const rule = (text: string) => policyOf(`${allowAll}modules: [{ registry: ${registryHost}, ${text} }]\n`);
  return {
    allow: await rule('action: allow'),
    keep: await rule('action: deny, onTightened: keep'),
    stop: await rule('action: deny, onTightened: failStrategy'),
    hurry: await rule('action: allow, maxHold: 2s'),
  };
}
const policies = readPolicies();

/** Plays one story to its end. The timers of the test must be mocked. Throws where a promise is broken. */
export async function play(test: TestContext, kind: StreamKind, story: EcdsStory): Promise<void> {
  const world = new EcdsWorld(kind, await policies, (ms) => test.mock.timers.tick(ms));
  await world.begin();
  for (const [step, pick] of story) await world.step(step, pick);
  await world.finish();
}

/** Plays stories drawn at random; a broken promise is told with the shortest story found. */
export async function playRandom(
  test: TestContext,
  kind: StreamKind,
  options: { readonly numRuns: number; readonly seed?: number },
): Promise<void> {
  test.mock.timers.enable({ apis: ['setTimeout'] });
  await fc.assert(
    fc.asyncProperty(stories, (story) => play(test, kind, story)),
    options,
  );
}
