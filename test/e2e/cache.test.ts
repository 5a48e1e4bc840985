import assert from 'node:assert/strict';
import { readdir, stat, utimes } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { type CommandResult, runCommand } from '../agent/cli/command-process.ts';
import { wasmPlugin } from '../support/control-plane/extension-configs.ts';
import { buildHeaderPlugin, buildPlugin } from '../support/plugin-build.ts';
import { poll } from '../support/polling.ts';
import { basicAuthConfig, Gateway, skipReason } from './gateway.ts';

async function onCache(gateway: Gateway, ...words: string[]): Promise<CommandResult> {
  const { status, admin } = gateway.agent.ports;
  return runCommand([
    'cache',
    ...words,
    `--status-port=${status}`,
    `--admin-port=${admin}`,
    '--data-folder',
    gateway.workspace.path('var/lib/istio/data'),
  ]);
}

async function blobNames(gateway: Gateway): Promise<readonly string[]> {
  return readdir(gateway.workspace.path('var/lib/istio/data/blobs/sha256'));
}

/** As if nobody had used the modules for two days. */
async function age(gateway: Gateway): Promise<void> {
  const at = Date.now() / 1_000 - 2 * 86_400;
  for (const name of await blobNames(gateway)) {
    await utimes(gateway.workspace.path(`var/lib/istio/data/blobs/sha256/${name}`), at, at);
  }
}

describe('the cache of a running agent', { skip: skipReason }, () => {
  test('gc takes a module only when neither agent nor Envoy needs it any more', async (t) => {
    const gateway = await Gateway.start(t, { mode: 'delta' });
    const { path } = await buildPlugin();
    const { url } = await gateway.registry.pushImage({
      repository: 'wasm/basic_auth',
      tag: '1.12.0',
      layout: 'oci-artifact',
      wasm: path,
    });
    const { version } = gateway.apply([
      wasmPlugin({ name: 'basic-auth', url, pluginConfig: basicAuthConfig }),
    ]);
    await gateway.until('/productpage', 401);
    await gateway.controlPlane.waitForAck('ecds', { version });
    assert.equal((await blobNames(gateway)).length, 1);

    await age(gateway);
    const listed = await onCache(gateway, 'ls');
    assert.match(listed.stdout, /2d ago {5}kept for \S*basic-auth, agent, Envoy {2}oci:\/\//);
    const kept = await onCache(gateway, 'gc');
    assert.equal(kept.code, 0, kept.stderr);
    assert.match(kept.stdout, /kept .* in use: kept for \S*basic-auth, agent, Envoy/);
    assert.equal((await blobNames(gateway)).length, 1);
    await gateway.restartAgent('kill');
    await gateway.until('/productpage', 401);

    gateway.apply([]);
    await gateway.until('/productpage', 200);
    await age(gateway);
    // The agent hears of the end of the subscription, and forgets; Envoy runs the module while its listener drains.
    await poll(
      async () => {
        const { stdout } = await onCache(gateway, 'ls');
        return / {2}(?:Envoy|-) {2,}oci:/.test(stdout)
          ? { done: true, value: undefined }
          : { done: false, seen: stdout };
      },
      { what: 'A module that the agent does not need', deadlineMs: 20_000 },
    );
    await gateway.restartAgent('stop');
    const collected = await onCache(gateway, 'gc');
    assert.match(collected.stdout, /deleted 1 of 1 module,/);
    assert.deepEqual(await blobNames(gateway), []);

    const again = gateway.apply([wasmPlugin({ name: 'basic-auth', url, pluginConfig: basicAuthConfig })]);
    await gateway.until('/productpage', 401);
    await gateway.controlPlane.waitForAck('ecds', { version: again.version });
  });

  test('the metrics tell its size', async (t) => {
    const gateway = await Gateway.start(t, { mode: 'sotw' });
    const { path } = await buildPlugin();
    const { size: sizeBytes } = await stat(path);
    const { url } = await gateway.registry.pushImage({
      repository: 'wasm/basic_auth',
      tag: '1.12.0',
      layout: 'oci-artifact',
      wasm: path,
    });
    gateway.apply([wasmPlugin({ name: 'basic-auth', url, pluginConfig: basicAuthConfig })]);
    await gateway.until('/productpage', 401);
    await gateway.untilMetric(new RegExp(`^istio_agent_ferry_wasm_cache_bytes ${sizeBytes}$`));
    await gateway.untilMetric(
      new RegExp(`^istio_agent_ferry_wasm_fetch_bytes_total\\{source="oci"\\} ${sizeBytes}$`),
    );
  });

  test('a quota makes no room with a module that runs, and says so', async (t) => {
    const { path } = await buildPlugin();
    const { size } = await stat(path);
    const quotaBytes = size + 1_000;
    const gateway = await Gateway.start(t, {
      mode: 'delta',
      agent: { env: { WASM_POLICY_FILE: 'etc/policy.yaml' } },
      prepare: async (workspace) => {
        const text = `version: 1\ndefaultAction: allow\ncaps:\n  quotaBytes: ${quotaBytes}\n`;
        await workspace.write('etc/policy.yaml', text);
      },
    });
    const push = async (tag: string, wasm: string): Promise<string> =>
      (await gateway.registry.pushImage({ repository: 'wasm/plugin', tag, layout: 'oci-artifact', wasm }))
        .url;
    const first = wasmPlugin({
      name: 'first',
      url: await push('first', path),
      pluginConfig: basicAuthConfig,
    });
    gateway.apply([first]);
    await gateway.until('/productpage', 401);
    await gateway.untilMetric(new RegExp(`^istio_agent_ferry_wasm_cache_limit_bytes ${quotaBytes}$`));
    const [running] = await blobNames(gateway);

    const other = await buildHeaderPlugin('other');
    const second = wasmPlugin({
      name: 'second',
      url: await push('second', other.path),
      failStrategy: 'FAIL_OPEN',
    });
    gateway.apply([first, second]);
    await gateway.untilInForce(second.name, 'fallback');
    const refused = await gateway.plugin(second.name);
    assert.match(String(refused?.['lastError']), /the quota is \d+ and no unused module is left to delete/);
    assert.deepEqual(await blobNames(gateway), [running]);
    assert.equal(await gateway.status('/productpage'), 401);
  });
});
