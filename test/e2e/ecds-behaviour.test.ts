/**
 * What Envoy was seen to do with extension configs, one test for each thing that would go wrong if the agent did not
 * know of it. That Envoy keeps the old plugin after a refusal and that a listener is accepted after the repair is in
 * `plugin-rejection.test.ts` and `repair.test.ts`, modules that would end Envoy are in `preflight.test.ts`.
 */
import assert from 'node:assert/strict';
import { readdir, utimes } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { runCommand } from '../agent/cli/command-process.ts';
import type { AdsStream } from '../support/control-plane/ads-stream.ts';
import type { Resource } from '../support/control-plane/discovery-messages.ts';
import { rbacFilter, type WasmPlugin, wasmPlugin } from '../support/control-plane/extension-configs.ts';
import { typeUrls } from '../support/control-plane/type-urls.ts';
import { buildHeaderPlugin, buildPlugin } from '../support/plugin-build.ts';
import { poll } from '../support/polling.ts';
import { basicAuthConfig, Gateway, type Mode, modes, skipReason } from './gateway.ts';

/** The plugin itself refuses it: nothing before Envoy can know. */
const refusedConfig = { basic_auth_rules: [] };
const otherConfig = {
  basic_auth_rules: [{ prefix: '/other', request_methods: ['GET'], credentials: ['ok:test'] }],
};

async function start(
  t: Parameters<typeof Gateway.start>[0],
  mode: Mode,
): Promise<{ gateway: Gateway; url: string }> {
  // Envoy soon forgets filters of listeners that are gone.
  const gateway = await Gateway.start(t, { mode, agent: { proxyConfig: { drainDuration: '1s' } } });
  const { path } = await buildPlugin();
  const image = { repository: 'wasm/basic_auth', tag: '1', layout: 'compat', wasm: path } as const;
  const { url } = await gateway.registry.pushImage(image);
  return { gateway, url };
}

const blobFolder = 'var/lib/istio/data/blobs/sha256';

/** As after two days in which nobody asked for a module. */
async function collectOldModules({ agent, workspace }: Gateway): Promise<void> {
  const at = Date.now() / 1_000 - 2 * 86_400;
  for (const name of await readdir(workspace.path(blobFolder)))
    await utimes(workspace.path(`${blobFolder}/${name}`), at, at);
  // Envoy is not asked: its dump names what a listener needs that still drains, for 45 s here.
  const ports = [`--status-port=${agent.ports.status}`, '--admin-port=0'];
  const folder = ['--data-folder', workspace.path('var/lib/istio/data')];
  const { code, stderr } = await runCommand(['cache', 'gc', ...ports, ...folder]);
  assert.equal(code, 0, stderr);
}

function watchesEcds(stream: AdsStream, name: string): boolean {
  return stream.watches.get(typeUrls.ecds)?.names.has(name) === true;
}

async function createdVmCount(gateway: Gateway): Promise<string> {
  return gateway.agent.admin.get('/stats?filter=^wasm\\..*runtime.v8.created$');
}

for (const mode of modes) {
  describe(`extension configs in Envoy over ${mode}`, { skip: skipReason }, () => {
    test('a listener waits for its last one, and then one that comes alone leaves the other in force', async (t) => {
      const { gateway, url } = await start(t, mode);
      const { registry, controlPlane } = gateway;
      const header = await buildHeaderPlugin('slow');
      const image = { repository: 'wasm/slow', tag: '1', layout: 'compat', wasm: header.path } as const;
      const slow = await registry.pushImage(image);
      const asked = Promise.withResolvers<void>();
      const answered = Promise.withResolvers<void>();
      const until = async (): Promise<void> => {
        asked.resolve();
        await answered.promise;
      };
      registry.http.script({ path: /wasm\/slow/, times: 1 }, { kind: 'delay', until });
      const fast = wasmPlugin({ name: 'fast', url, pluginConfig: basicAuthConfig });
      const last = wasmPlugin({ name: 'last', url: slow.url });
      const { version } = gateway.apply([fast, last]);
      await asked.promise;
      await gateway.untilInForce(fast.name, 'plugin');
      assert.equal(await gateway.status('/productpage'), 200, 'the listener of before serves');
      answered.resolve();
      await gateway.until('/productpage', 401);
      await controlPlane.waitForAck('ecds', { version });

      const changed = wasmPlugin({ name: 'fast', url, pluginConfig: otherConfig });
      gateway.apply([changed, last]);
      await gateway.until('/other', 401);
      assert.equal(await gateway.status('/productpage'), 200);
      assert.equal((await gateway.plugin(last.name))?.['inForce'], 'plugin');
    });

    test('two hundred in one push go down each alone, and istiod hears one ACK', async (t) => {
      const { gateway } = await start(t, mode);
      const { controlPlane } = gateway;
      const extensions: readonly Resource[] = Array.from({ length: 200 }, (_, index) =>
        rbacFilter({ name: `filter.${index}`, action: 'allow' }),
      );
      gateway.apply([], extensions);
      await poll(
        async () => {
          const running = (await gateway.plugins()).filter((plugin) => plugin['inForce'] === 'plugin').length;
          return running === extensions.length
            ? { done: true, value: undefined }
            : { done: false, seen: `${running} in force` };
        },
        { what: 'All filters in force', deadlineMs: 20_000 },
      );
      const { version } = controlPlane.pushEcds();
      await controlPlane.waitForAck('ecds', { version });
      assert.equal(controlPlane.counter('pilot_total_xds_rejects', 'ecds'), 0);
      assert.equal(await gateway.status('/productpage'), 200);
    });

    test('the ACK of bytes that were refused right before is not believed', async (t) => {
      const { gateway, url } = await start(t, mode);
      const { controlPlane } = gateway;
      const good = gateway.apply([wasmPlugin({ name: 'a', url, pluginConfig: basicAuthConfig })]);
      await gateway.until('/productpage', 401);
      await controlPlane.waitForAck('ecds', { version: good.version });
      const refused = wasmPlugin({ name: 'a', url, pluginConfig: refusedConfig });
      gateway.apply([refused]);
      // Before Envoy has answered: it takes the second one for what it has.
      const { version } = controlPlane.pushEcds();
      const nack = await controlPlane.waitForNack('ecds', { version });
      assert.ok(nack.message.startsWith(`${refused.name}: `), nack.message);
      const update = gateway.changeListener('http.changed');
      await gateway.untilListenerRoutes('http.changed');
      await controlPlane.waitForAck('lds', { version: update.version });
      assert.equal(await gateway.status('/productpage'), 401);
    });

    test('after a refusal the good config before it, or another good one, is accepted', async (t) => {
      const { gateway, url } = await start(t, mode);
      const { controlPlane } = gateway;
      for (const [config, path] of [
        [basicAuthConfig, '/productpage'],
        [otherConfig, '/other'],
      ] as const) {
        const good = gateway.apply([wasmPlugin({ name: 'a', url, pluginConfig: config })]);
        await controlPlane.waitForAck('ecds', { version: good.version });
        await gateway.until(path, 401);
        const bad = gateway.apply([wasmPlugin({ name: 'a', url, pluginConfig: refusedConfig })]);
        await controlPlane.waitForNack('ecds', { version: bad.version });
        const again = gateway.apply([wasmPlugin({ name: 'a', url, pluginConfig: config })]);
        await controlPlane.waitForAck('ecds', { version: again.version });
        assert.equal(await gateway.status(path), 401);
      }
    });

    test('of two in one push the good one is in force, and only the other is refused', async (t) => {
      const { gateway, url } = await start(t, mode);
      const { controlPlane } = gateway;
      const bad = wasmPlugin({ name: 'bad', url, pluginConfig: refusedConfig, failStrategy: 'FAIL_OPEN' });
      const good = wasmPlugin({ name: 'good', url, pluginConfig: basicAuthConfig });
      gateway.apply([bad, good]);
      await gateway.until('/productpage', 401);
      await gateway.untilInForce(bad.name, 'fallback');
      await gateway.untilInForce(good.name, 'plugin');
      const nack = await controlPlane.waitForNack('ecds');
      assert.ok(nack.message.startsWith(`${bad.name}: `), nack.message);
      assert.ok(!nack.message.includes(good.name), nack.message);
      assert.equal(await gateway.status('/other'), 200);
    });

    test('two plugins of one module keep to their own configuration', async (t) => {
      const { gateway, url } = await start(t, mode);
      const plugins: readonly WasmPlugin[] = [
        wasmPlugin({ name: 'a', url, pluginConfig: basicAuthConfig }),
        wasmPlugin({ name: 'b', url, pluginConfig: otherConfig }),
      ];
      gateway.apply(plugins);
      await gateway.until('/productpage', 401);
      await gateway.until('/other', 401);
      assert.equal(await gateway.status('/open'), 200);
    });

    test('a plugin that comes beside another, or goes, makes the agent forget none', async (t) => {
      const { gateway, url } = await start(t, mode);
      const { controlPlane } = gateway;
      const first = wasmPlugin({ name: 'first', url, pluginConfig: basicAuthConfig });
      const missing = `oci://${gateway.registry.host}/wasm/missing:1`;
      const failing = wasmPlugin({ name: 'failing', url: missing, failStrategy: 'FAIL_OPEN' });
      const second = wasmPlugin({ name: 'second', url, pluginConfig: otherConfig });
      gateway.apply([first]);
      await gateway.until('/productpage', 401);
      // istiod answers the new name alone.
      gateway.apply([first, failing, second]);
      await gateway.until('/other', 401);
      const namesOf = async (): Promise<unknown> =>
        new Set((await gateway.plugins()).map((plugin) => plugin['name']));
      assert.deepEqual(await namesOf(), new Set([failing.name, first.name, second.name]));
      gateway.apply([first, failing]);
      // Envoy drops the name once its old listener is drained; delta istiod answers that with an empty response.
      await controlPlane.journal.waitFor(
        'Envoy to drop the name',
        () => controlPlane.openStreams.find((stream) => !watchesEcds(stream, second.name)),
        { timeoutMs: 20_000 },
      );
      assert.deepEqual(await namesOf(), new Set([failing.name, first.name]));
      await gateway.registry.pushImage({
        repository: 'wasm/missing',
        tag: '1',
        layout: 'compat',
        wasm: (await buildHeaderPlugin('late')).path,
      });
      await gateway.untilInForce(failing.name, 'plugin');
      assert.deepEqual(await namesOf(), new Set([failing.name, first.name]));
    });

    test('the same config again starts no VM', async (t) => {
      const { gateway, url } = await start(t, mode);
      const { controlPlane } = gateway;
      const first = gateway.apply([wasmPlugin({ name: 'a', url, pluginConfig: basicAuthConfig })]);
      await gateway.until('/productpage', 401);
      await controlPlane.waitForAck('ecds', { version: first.version });
      const before = await createdVmCount(gateway);
      const { version } = controlPlane.pushEcds();
      await controlPlane.waitForAck('ecds', { version });
      assert.equal(await createdVmCount(gateway), before);
    });

    test('a collection of old modules leaves the file that Envoy runs, so that a refused update can be undone', async (t) => {
      const { gateway, url } = await start(t, mode);
      const { controlPlane, registry, workspace } = gateway;
      const header = await buildHeaderPlugin('brief');
      const image = { repository: 'wasm/brief', tag: '1', layout: 'compat', wasm: header.path } as const;
      const brief = await registry.pushImage(image);
      const kept = wasmPlugin({ name: 'a', url, pluginConfig: basicAuthConfig });
      gateway.apply([kept, wasmPlugin({ name: 'brief', url: brief.url })]);
      await gateway.until('/productpage', 401);
      const { version } = gateway.apply([kept]);
      await controlPlane.waitForAck('ecds', { version });
      await poll(
        async () => {
          await collectOldModules(gateway);
          const left = await readdir(workspace.path(blobFolder));
          return left.length === 1 ? { done: true, value: undefined } : { done: false, seen: left.join(' ') };
        },
        { what: 'The end of the module that nobody runs', deadlineMs: 30_000 },
      );

      const bad = gateway.apply([wasmPlugin({ name: 'a', url, pluginConfig: refusedConfig })]);
      await controlPlane.waitForNack('ecds', { version: bad.version });
      const update = gateway.changeListener('http.changed');
      await gateway.untilListenerRoutes('http.changed');
      await controlPlane.waitForAck('lds', { version: update.version });
      assert.equal(await gateway.status('/productpage'), 401);
    });
  });
}

describe('a removed extension config', { skip: skipReason }, () => {
  test('that delta names is taken out of Envoy, which fails closed, and comes back with the next push', async (t) => {
    const { gateway, url } = await start(t, 'delta');
    const { controlPlane } = gateway;
    const plugin = wasmPlugin({ name: 'a', url, pluginConfig: basicAuthConfig });
    const first = gateway.apply([plugin]);
    await gateway.until('/productpage', 401);
    await controlPlane.waitForAck('ecds', { version: first.version });
    const removed = { typeUrl: 'ecds', resources: [], removed: [plugin.name], version: 'removed' } as const;
    controlPlane.pushRaw(removed);
    await controlPlane.waitForAck('ecds', { version: 'removed' });
    await gateway.until('/productpage', 500);
    assert.equal(await gateway.plugin(plugin.name), undefined);
    const { version } = controlPlane.pushEcds();
    await controlPlane.waitForAck('ecds', { version });
    await gateway.until('/productpage', 401);
  });
});
