import assert from 'node:assert/strict';
import { copyFile } from 'node:fs/promises';
import { describe, type TestContext, test } from 'node:test';
import { pluginResource } from '../agent/wasm/extension-fixtures.ts';
import { ConfigMapMount } from '../support/config-map.ts';
import { wasmPlugin, wasmPluginResourceName } from '../support/control-plane/extension-configs.ts';
import { buildPlugin } from '../support/plugin-build.ts';
import { basicAuthConfig, Gateway, type Mode, modes, skipReason } from './gateway.ts';

const denyAll = 'version: 1\ndefaultAction: deny\n';
const name = wasmPluginResourceName('istio-system', 'basic-auth');

/** A gateway whose agent has a policy, mounted as a ConfigMap. */
class PolicedGateway {
  readonly gateway: Gateway;
  readonly #mount: ConfigMapMount;
  #generation = 1;

  private constructor(gateway: Gateway, mount: ConfigMapMount) {
    this.gateway = gateway;
    this.#mount = mount;
  }

  static async start(t: TestContext, mode: Mode, text: string): Promise<PolicedGateway> {
    let mount: ConfigMapMount | undefined;
    const gateway = await Gateway.start(t, {
      mode,
      agent: { env: { WASM_POLICY_FILE: 'etc/ferry/policy.yaml' } },
      prepare: async (workspace) => {
        mount = await ConfigMapMount.create(workspace.path('etc/ferry'), { 'policy.yaml': text });
      },
    });
    assert.ok(mount);
    return new PolicedGateway(gateway, mount);
  }

  /** The policy that allows the gateway's registry, on these terms. */
  allowRegistry(terms = ''): string {
    return `${denyAll}modules:\n  - { registry: "${this.gateway.registry.host}", action: allow${terms} }\n`;
  }

  /** Another policy; resolves when it is in force. */
  async change(text: string): Promise<void> {
    await this.write(text);
    this.#generation += 1;
    await this.gateway.untilMetric(
      new RegExp(`^istio_agent_ferry_wasm_policy_generation ${this.#generation}$`),
    );
  }

  /** Whatever comes of it. */
  async write(text: string): Promise<void> {
    await this.#mount.swap({ 'policy.yaml': text });
  }

  /** istiod pushes the plugin; resolves with the version of the push. */
  async apply(failStrategy: 'FAIL_CLOSE' | 'FAIL_OPEN' = 'FAIL_CLOSE'): Promise<string> {
    const { path } = await buildPlugin();
    const image = { repository: 'wasm/basic_auth', tag: '1', layout: 'oci-artifact', wasm: path } as const;
    const { url } = await this.gateway.registry.pushImage(image);
    const plugin = wasmPlugin({ name: 'basic-auth', url, pluginConfig: basicAuthConfig, failStrategy });
    return this.gateway.apply([plugin]).version;
  }

  get rejectCount(): number {
    return this.gateway.controlPlane.counter('pilot_total_xds_rejects', 'ecds');
  }
}

for (const mode of modes) {
  describe(`a policy over ${mode}`, { skip: skipReason }, () => {
    test('keeps a plugin out until the file allows it; then it comes without any push', async (t) => {
      const policed = await PolicedGateway.start(t, mode, denyAll);
      const { gateway } = policed;
      const version = await policed.apply();
      const { message } = await gateway.controlPlane.waitForNack('ecds', { version });
      assert.match(
        message,
        /refused by policy: the module oci:\/\/127\.0\.0\.1:\d+\/wasm\/basic_auth:1 matches no rule/,
      );
      assert.match(
        message,
        /defaultAction in \S+\/etc\/ferry\/policy\.yaml line 2 is deny; add a rule under "modules"/,
      );
      await gateway.until('/productpage', 403);
      assert.deepEqual(gateway.registry.http.requests, [], 'nobody asked for what is refused');
      await gateway.untilMetric(/^istio_agent_ferry_wasm_refusals_total\{reason="policy_refused"\} 1$/);

      await policed.change(policed.allowRegistry());
      await gateway.until('/productpage', 401);
      await gateway.controlPlane.waitForAck('ecds', { version });
      assert.equal(policed.rejectCount, 1);
    });

    test('that becomes stricter stops a running plugin, and gives it back', async (t) => {
      const policed = await PolicedGateway.start(t, mode, denyAll);
      const { gateway } = policed;
      await policed.change(policed.allowRegistry());
      const version = await policed.apply('FAIL_OPEN');
      await gateway.until('/productpage', 401);
      await gateway.controlPlane.waitForAck('ecds', { version });

      await policed.change(`${denyAll}defaults: { onTightened: failStrategy }\n`);
      await gateway.until('/productpage', 200);
      const { message } = await gateway.controlPlane.waitForNack('ecds', { version });
      assert.match(message, /matches no rule and defaultAction in \S+ line 2 is deny/);
      assert.equal((await gateway.untilInForce(name, 'fallback'))['fallbackAction'], 'allow');

      await policed.change(policed.allowRegistry());
      await gateway.until('/productpage', 401);
      const plugin = await gateway.untilInForce(name, 'plugin');
      assert.equal(plugin['policyRefusal'], undefined);
      assert.equal(policed.rejectCount, 1);
    });

    test('that becomes stricter keeps a running plugin, which is not loaded again after a restart', async (t) => {
      const policed = await PolicedGateway.start(t, mode, denyAll);
      const { gateway } = policed;
      await policed.change(policed.allowRegistry());
      const version = await policed.apply();
      await gateway.until('/productpage', 401);
      await gateway.controlPlane.waitForAck('ecds', { version });

      await policed.change(denyAll);
      await gateway.untilMetric(
        /^istio_agent_ferry_wasm_policy_kept\{plugin="istio-system\.basic-auth"\} 1$/,
      );
      assert.equal(await gateway.status('/productpage'), 401);
      const { policyRefusal } = await gateway.untilInForce(name, 'plugin');
      assert.match(String(policyRefusal), /matches no rule and defaultAction in \S+ line 2 is deny/);
      assert.equal(policed.rejectCount, 0);

      await gateway.restartAgent('kill');
      await gateway.until('/productpage', 403);
      await gateway.untilInForce(name, 'fallback');
      await gateway.agent.waitForLog(/the last known good module is not used/);
    });

    test('covers modules of the proxy itself: files and bytes in the config', async (t) => {
      const policed = await PolicedGateway.start(t, mode, denyAll);
      const { gateway } = policed;
      const { path } = await buildPlugin();
      const file = gateway.workspace.path('plugin.wasm');
      await copyFile(path, file);
      const local = wasmPlugin({ name: 'basic-auth', url: `file://${file}`, pluginConfig: basicAuthConfig });
      const first = gateway.apply([local]);
      const refused = await gateway.controlPlane.waitForNack('ecds', { version: first.version });
      assert.match(
        refused.message,
        /refused by policy: the local module "\S+\/plugin\.wasm" matches no rule/,
      );
      await gateway.until('/productpage', 403);

      await policed.change(`${denyAll}local: { action: allow, paths: ["${file}"] }\n`);
      await gateway.until('/productpage', 401);

      const { typeUrl, value } = pluginResource({ name: 'inline', code: 'inline' });
      const second = gateway.apply([local], [{ name: 'inline', typeUrl, value: Buffer.from(value) }]);
      const { message } = await gateway.controlPlane.waitForNack('ecds', { version: second.version });
      assert.match(
        message,
        /inline: refused by policy: the inline module matches no rule and defaultAction in/,
      );
      await gateway.until('/other', 403);
    });
  });
}

describe('a policy file with faults', { skip: skipReason }, () => {
  test('changes nothing while the agent runs, and shows on the page and in the metrics', async (t) => {
    const policed = await PolicedGateway.start(t, 'delta', denyAll);
    const { gateway } = policed;
    await policed.change(policed.allowRegistry());
    await policed.apply();
    await gateway.until('/productpage', 401);
    await policed.write(`${denyAll}modulez: []\n`);
    await gateway.untilMetric(/^istio_agent_ferry_wasm_policy_problems 1$/);
    await gateway.untilMetric(/^istio_agent_ferry_wasm_policy_generation 2$/);
    assert.equal(await gateway.status('/productpage'), 401);
    const page = JSON.parse(await gateway.debugPage()) as { policy: { problems: string[] } };
    assert.match(
      page.policy.problems.join(),
      /policy\.yaml:3:1: modulez: is unknown; did you mean modules\?/,
    );
  });
});
