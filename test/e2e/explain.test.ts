import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { runCommand } from '../agent/cli/command-process.ts';
import { wasmPlugin } from '../support/control-plane/extension-configs.ts';
import { httpGet } from '../support/http-get.ts';
import { buildPlugin } from '../support/plugin-build.ts';
import { basicAuthConfig, Gateway, skipReason } from './gateway.ts';

interface Told {
  readonly what: string;
  readonly why?: string;
}

describe('the agent explains itself', { skip: skipReason }, () => {
  test('page, command and metrics tell of a failure, of what stands in, and of the healing', async (t) => {
    const gateway = await Gateway.start(t, { mode: 'delta' });
    const port = new URL(gateway.agent.statusUrl).port;
    const image = { repository: 'wasm/basic_auth', tag: '1', layout: 'compat' } as const;
    const plugin = wasmPlugin({
      name: 'basic-auth',
      url: `oci://${gateway.registry.host}/${image.repository}:${image.tag}`,
      pluginConfig: basicAuthConfig,
    });
    const history = async (): Promise<readonly string[]> => {
      const seen = (await gateway.plugin(plugin.name))?.['history'] as readonly Told[];
      return seen.map(({ what }) => what);
    };

    gateway.apply([plugin]);
    await gateway.until('/productpage', 403);
    await gateway.untilMetric(
      /^istio_agent_ferry_wasm_fallback_in_force\{action="deny",plugin="istio-system\.basic-auth"\} 1$/,
    );
    await gateway.untilMetric(
      /^istio_agent_ferry_wasm_fetch_failures_total\{reason="not_found",source="oci"\} \d+$/,
    );
    assert.deepEqual((await history()).slice(0, 3), ['pushed', 'failed', 'fallback']);
    const table = await runCommand(['wasm', 'status', '--status-port', port]);
    assert.equal(table.code, 0, table.stderr);
    assert.match(table.stdout, /^istiod +\S+ at \S+: connected for \w+, delta$/m);
    assert.match(table.stdout, /^istio-system\.basic-auth +failed +fallback deny +.* (?:in \d+s|now)$/m);
    assert.match(
      table.stdout,
      /^ {2}why: (?:\(\d+ tries\) )?cannot fetch Wasm module [\s\S]*status\s+code\s+404\s+\(MANIFEST_UNKNOWN\)/m,
    );
    const page = await httpGet(`${gateway.agent.statusUrl}/debug/wasm`, { headers: { accept: 'text/html' } });
    assert.match(page.text, /Requests are DENIED in the place of istio-system\.basic-auth/);

    const { path } = await buildPlugin();
    await gateway.registry.pushImage({ ...image, wasm: path });
    await gateway.until('/productpage', 401);
    await gateway.untilMetric(
      /^istio_agent_ferry_wasm_plugin_state\{plugin="istio-system\.basic-auth",state="active"\} 1$/,
    );
    await gateway.untilMetric(/^istio_agent_ferry_wasm_retries_total \d+$/);
    assert.deepEqual((await history()).slice(-2), ['offered', 'accepted']);
    const healed = await runCommand(['wasm', 'status', '--status-port', port]);
    assert.match(healed.stdout, /^istio-system\.basic-auth +active +plugin +oci +\S+ KiB +[0-9a-f]{8} /m);
    assert.doesNotMatch(await gateway.agent.metrics(), /fallback_in_force\{/);
  });
});
