import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { runCommand } from '../agent/cli/command-process.ts';
import { wasmPlugin } from '../support/control-plane/extension-configs.ts';
import { httpGet } from '../support/http-get.ts';
import { buildTrappingPlugin } from '../support/plugin-build.ts';
import { Gateway, skipReason } from './gateway.ts';

const trap = { 'x-trap': '1' };

describe('a VM that fails while it serves', { skip: skipReason }, () => {
  test('is told of by page, command and metrics, when Envoy starts it again', async (t) => {
    const gateway = await Gateway.start(t, { mode: 'delta' });
    const { path } = await buildTrappingPlugin();
    const image = { repository: 'wasm/trap', tag: '1', layout: 'compat', wasm: path } as const;
    const { url } = await gateway.registry.pushImage(image);
    const plugin = wasmPlugin({ name: 'trap', url, failStrategy: 'FAIL_RELOAD' });
    const { version } = gateway.apply([plugin]);
    await gateway.controlPlane.waitForAck('ecds', { version });
    await gateway.until('/other', 200);
    const quiet = JSON.parse(await gateway.debugPage()) as { vms: unknown };
    assert.deepEqual(quiet.vms, { failed: [] });
    assert.doesNotMatch(await gateway.agent.metrics(), /ferry_wasm_vm_reloads_total/);

    assert.equal(await gateway.status('/other', trap), 503);
    // Envoy waits about a second before it starts the VM again, and the next request after that does it.
    assert.equal(await gateway.status('/other'), 503);
    await gateway.until('/other', 200);
    await gateway.untilMetric(
      /^istio_agent_ferry_wasm_vm_reloads_total\{plugin="istio-system\.trap",result="success"\} 1$/,
    );
    await gateway.untilMetric(
      /^istio_agent_ferry_wasm_vm_reloads_total\{plugin="istio-system\.trap",result="refused_request"\} [1-9]/,
    );
    const words = /The VM failed while it served: Envoy started it again once, \d+ requests? w\w+\s+refused/;
    const page = await httpGet(`${gateway.agent.statusUrl}/debug/wasm`, { headers: { accept: 'text/html' } });
    assert.match(page.text, words);
    const port = new URL(gateway.agent.statusUrl).port;
    const table = await runCommand(['wasm', 'status', '--status-port', port]);
    assert.equal(table.code, 0, table.stderr);
    assert.match(table.stdout, words);
  });

  for (const [failStrategy, status] of [
    ['FAIL_CLOSE', 503],
    ['FAIL_OPEN', 200],
  ] as const) {
    test(`stays dead with ${failStrategy}, answers ${status}, and Envoy's log alone names it`, async (t) => {
      const gateway = await Gateway.start(t, { mode: 'delta' });
      const { path } = await buildTrappingPlugin();
      const image = { repository: 'wasm/trap', tag: '1', layout: 'compat', wasm: path } as const;
      const { url } = await gateway.registry.pushImage(image);
      const { version } = gateway.apply([wasmPlugin({ name: 'trap', url, failStrategy })]);
      await gateway.controlPlane.waitForAck('ecds', { version });
      await gateway.until('/other', 200);
      await gateway.status('/other', trap);
      await gateway.agent.waitForLog(/Function: proxy_on_request_headers failed: .*unreachable/);
      assert.equal(await gateway.status('/other'), status);
      const page = JSON.parse(await gateway.debugPage()) as { vms: unknown };
      assert.deepEqual(page.vms, { failed: [] }, 'should Envoy tell of it now, say so in docs/operations.md');
    });
  }
});
