import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { typeUrls } from '../../proto/type-urls.ts';
import { wasmPlugin } from '../support/control-plane/extension-configs.ts';
import { httpGet } from '../support/http-get.ts';
import { buildHeaderPlugin, buildPlugin, buildPluginWithoutAbi } from '../support/plugin-build.ts';
import { poll } from '../support/polling.ts';
import { createWorkspace } from '../support/workspace.ts';
import { Gateway, modes, skipReason } from './gateway.ts';

const image = { repository: 'wasm/moving', tag: 'stable', layout: 'compat' } as const;
/** The header plugin takes it; the basic-auth plugin refuses it when Envoy starts it. */
const pluginConfig = { basic_auth_rules: [] };
/** The shortest that a policy may ask for; half of it may be added at random. */
const polled = 'defaults: { pullPolicy: Always, pollInterval: 10s }\n';
const allowAll = 'version: 1\ndefaultAction: allow\n';

/** Some looks, and the time that a busy machine takes. */
const deadlineMs = 40_000;

/** A gateway with the first build of a plugin whose tag can move. */
class MovingTag {
  readonly gateway: Gateway;
  readonly plugin: ReturnType<typeof wasmPlugin>;
  readonly #writePolicy: (text: string) => Promise<unknown>;

  private constructor(
    gateway: Gateway,
    plugin: ReturnType<typeof wasmPlugin>,
    writePolicy: (text: string) => Promise<unknown>,
  ) {
    this.gateway = gateway;
    this.plugin = plugin;
    this.#writePolicy = writePolicy;
  }

  static async start(t: TestContext, mode: (typeof modes)[number], policy: string): Promise<MovingTag> {
    const files = await createWorkspace();
    t.after(() => files.close());
    const path = await files.write('policy.yaml', policy);
    const gateway = await Gateway.start(t, { mode, agent: { env: { WASM_POLICY_FILE: path } } });
    const { path: wasm } = await buildHeaderPlugin('one');
    const { url } = await gateway.registry.pushImage({ ...image, wasm });
    const plugin = wasmPlugin({ name: 'moving', url, pluginConfig });
    const moving = new MovingTag(gateway, plugin, (text) => files.write('policy.yaml', text));
    const { version } = gateway.apply([plugin]);
    await gateway.controlPlane.waitForAck('ecds', { version });
    await moving.untilBuild('one');
    return moving;
  }

  /** The tag names this module from now on; nobody tells the agent. */
  async move(wasm: string): Promise<void> {
    await this.gateway.registry.pushImage({ ...image, wasm });
  }

  async setPolicy(text: string): Promise<void> {
    await this.#writePolicy(text);
  }

  /** What `/debug/wasm` says. */
  async shown(): Promise<Record<string, unknown>> {
    return (await this.gateway.plugin(this.plugin.name)) ?? {};
  }

  /** Which build answers; none when no plugin does. */
  async build(): Promise<string | undefined> {
    return (await httpGet(`${this.gateway.url}/productpage`)).headers['x-plugin-build'];
  }

  async untilBuild(label: string): Promise<void> {
    await poll(
      async () => {
        const seen = await this.build();
        return seen === label ? { done: true, value: undefined } : { done: false, seen: `build ${seen}` };
      },
      { what: `Answers of build ${label}`, deadlineMs },
    );
  }

  /** Waits until the last error of the plugin matches. */
  async untilError(pattern: RegExp): Promise<void> {
    await poll(
      async () => {
        const { lastError } = await this.shown();
        const isSeen = pattern.test(String(lastError));
        return isSeen ? { done: true, value: undefined } : { done: false, seen: String(lastError) };
      },
      { what: `An error like ${pattern}`, deadlineMs },
    );
  }

  /** Everything about extension configs that istiod has heard or said so far. */
  heard(): number {
    return this.gateway.controlPlane.journal.entries.filter((entry) => {
      if (entry.kind === 'request') return entry.request.typeUrl === typeUrls.extensionConfig;
      return entry.kind === 'response' && entry.typeUrl === typeUrls.extensionConfig;
    }).length;
  }
}

for (const mode of modes) {
  describe(`a plugin whose tag moves, polled over ${mode}`, { skip: skipReason }, () => {
    test('rolls to each sound module, keeps its own where Envoy refuses the new one, and istiod hears nothing', async (t) => {
      const moving = await MovingTag.start(t, mode, `${allowAll}${polled}`);
      const { gateway } = moving;
      const heard = moving.heard();
      assert.ok(heard > 0);

      await moving.move((await buildHeaderPlugin('two')).path);
      await moving.untilBuild('two');

      // Envoy itself refuses this one.
      await moving.move((await buildPlugin()).path);
      await moving.untilError(/Unable to create Wasm plugin/);
      await gateway.untilMetric(/^istio_agent_ferry_wasm_envoy_rejects_total 1$/);
      await moving.untilBuild('two');
      assert.equal((await moving.shown())['inForce'], 'plugin');

      const { state, inForce, history } = await moving.shown();
      assert.deepEqual([state, inForce], ['active', 'plugin']);
      assert.match(JSON.stringify(history), /its name means another module now/);
      assert.equal(moving.heard(), heard, 'istiod has one verdict on its push, from the beginning');
    });

    test('keeps its module where the new one does not pass the preflight', async (t) => {
      const moving = await MovingTag.start(t, mode, `${allowAll}${polled}`);
      const heard = moving.heard();
      await moving.move((await buildPluginWithoutAbi()).path);
      await moving.untilError(/no_abi_export/);
      assert.equal(await moving.build(), 'one');
      const { state, inForce } = await moving.shown();
      assert.deepEqual([state, inForce], ['active', 'plugin']);
      await moving.gateway.untilMetric(/ferry_wasm_preflight_refusals_total\{code="no_abi_export"\} 1$/);
      // It is told from the first on.
      assert.doesNotMatch(
        await moving.gateway.agent.metrics(),
        /^istio_agent_ferry_wasm_envoy_rejects_total/m,
      );
      assert.equal(moving.heard(), heard);
    });

    test('is polled as soon as the policy says so, and no more when it does not', async (t) => {
      const moving = await MovingTag.start(t, mode, allowAll);
      const heard = moving.heard();
      assert.equal((await moving.shown())['nextRecheckAt'], undefined);
      await moving.move((await buildHeaderPlugin('two')).path);

      await moving.setPolicy(`${allowAll}${polled}`);
      await moving.untilBuild('two');
      assert.notEqual((await moving.shown())['nextRecheckAt'], undefined);

      await moving.setPolicy(allowAll);
      await poll(
        async () => {
          const { nextRecheckAt } = await moving.shown();
          return nextRecheckAt === undefined
            ? { done: true, value: undefined }
            : { done: false, seen: `a look at ${JSON.stringify(nextRecheckAt)}` };
        },
        { what: 'The end of polling', deadlineMs },
      );
      assert.equal(moving.heard(), heard);
    });
  });
}
