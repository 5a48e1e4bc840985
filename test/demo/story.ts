import {
  type FailStrategy,
  type WasmPlugin,
  wasmPlugin,
} from '../support/control-plane/extension-configs.ts';
import type { Steps } from '../support/steps.mjs';
import { type Expectation, expectAnswer, expectText } from './expectation.ts';
import type { Stage } from './stage.ts';

/** The user that the first configuration admits: `Authorization: Basic YWRtaW4zOmFkbWluMw==`. */
export const firstUser = 'admin3:admin3';
const secondUser = 'ops:secret';
const protectedPath = '/productpage';
const openPath = '/reviews';

/** Plays the story on the stage. Throws Error at the first thing that is not as promised. */
export async function playStory(stage: Stage, steps: Steps, signal: AbortSignal): Promise<void> {
  const step = (
    title: string,
    act: () => Promise<string | undefined> | undefined,
    ...promised: Expectation[]
  ) =>
    steps.run(title, async (running) => {
      const details = [await act()];
      for (const each of promised) details.push(await expectAnswer(stage.gatewayUrl, each, { signal }));
      running.detail(details.filter((detail) => detail !== undefined).join(', '));
    });

  await step('Before the plugin all is open', () => undefined, { path: protectedPath, status: 200 });

  await step(
    'Plugin applied: the page needs credentials',
    () => applied(stage, [basicAuth(stage, [firstUser])]),
    { path: protectedPath, status: 401 },
    { path: protectedPath, credentials: firstUser, status: 200 },
    { path: openPath, status: 200 },
  );

  await step(
    'Its configuration changed: other credentials',
    () => applied(stage, [basicAuth(stage, [secondUser])]),
    { path: protectedPath, credentials: firstUser, status: 401 },
    { path: protectedPath, credentials: secondUser, status: 200 },
    { path: openPath, status: 200 },
  );

  await step('Plugin deleted: all is open again', () => applied(stage, []), {
    path: protectedPath,
    status: 200,
  });

  await step(
    'Image missing, fail-close: requests are refused',
    () => missing(stage, 'closed', 'FAIL_CLOSE', 'wasm-default-deny', signal),
    { path: protectedPath, status: 403 },
  );

  await step(
    'Image missing, fail-open: requests pass',
    () => missing(stage, 'open', 'FAIL_OPEN', 'wasm-default-allow', signal),
    { path: protectedPath, status: 200 },
  );

  await step('All plugins gone', () => applied(stage, []), { path: protectedPath, status: 200 });
}

/** The basic-auth plugin for these users (`user:password`). */
export function basicAuth(stage: Stage, credentials: readonly string[]): WasmPlugin {
  const rule = { prefix: protectedPath, request_methods: ['GET', 'POST'], credentials };
  return wasmPlugin({
    name: 'basic-auth',
    url: stage.image.url,
    phase: 'AUTHN',
    pluginConfig: { basic_auth_rules: [rule] },
  });
}

async function applied(stage: Stage, plugins: readonly WasmPlugin[]): Promise<undefined> {
  stage.apply(...plugins);
}

/** Applies a plugin whose image does not exist; waits for the filter in its place and for the count of the failure. */
async function missing(
  stage: Stage,
  name: string,
  failStrategy: FailStrategy,
  statPrefix: string,
  signal: AbortSignal,
): Promise<string> {
  const { controlPlane } = stage;
  const rejectsBefore = controlPlane.counter('pilot_total_xds_rejects', 'ecds');
  stage.apply(
    wasmPlugin({
      name: `missing-${name}`,
      url: `oci://${stage.registry.host}/no_such_image:1.0.0`,
      failStrategy,
      pluginConfig: { basic_auth_rules: [] },
    }),
  );
  await expectText(
    `Envoy to run the filter ${statPrefix}`,
    async (lookSignal) => {
      const dump = JSON.stringify(await stage.agent.admin.configDump('', { signal: lookSignal }));
      return { found: dump.includes(statPrefix) ? statPrefix : undefined, seen: 'a config dump without it' };
    },
    { signal },
  );
  return expectText(
    'the control plane to count the failure in pilot_total_xds_rejects{type="ecds"}',
    async () => {
      const line = /^pilot_total_xds_rejects\{type="ecds"\} .*$/m.exec(controlPlane.metrics())?.[0];
      const isCounted = controlPlane.counter('pilot_total_xds_rejects', 'ecds') > rejectsBefore;
      return { found: isCounted ? line : undefined, seen: line ?? 'no such counter' };
    },
    { signal },
  );
}
