import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AdminError } from '../../../agent/envoy/admin.ts';
import { PluginVms, parsePluginVms, reportVms } from '../../../agent/envoy/plugin-vms.ts';

const body = `wasm.envoy.wasm.runtime.v8.created: 9
wasm.shop.jwt~istio-translated-wasmplugin.vm_reload_backoff: 5
wasm.shop.jwt~istio-translated-wasmplugin.vm_reload_failure: 2
wasm.shop.jwt~istio-translated-wasmplugin.vm_reload_success: 1
wasm.a.vm_reload_success.vm_reload_success: 3
wasm.shop.quiet.vm_reload_success: 0
wasm.wasm_vm_count: 6
`;

describe('the VMs of plugins', () => {
  test('that failed while they served are read from the stats of Envoy, by plugin', () => {
    assert.deepEqual(parsePluginVms(body), [
      { plugin: 'a.vm_reload_success', reloadCount: 3, failedReloadCount: 0, refusedCount: 0 },
      {
        plugin: 'shop.jwt~istio-translated-wasmplugin',
        reloadCount: 1,
        failedReloadCount: 2,
        refusedCount: 5,
      },
    ]);
    assert.deepEqual(parsePluginVms(''), []);
  });

  test('are asked for once by all who look at the same time, and again later', async () => {
    const asked: string[] = [];
    const answers: PromiseWithResolvers<string>[] = [];
    const vms = new PluginVms({
      admin: {
        get: async (path) => {
          asked.push(path);
          const answer = Promise.withResolvers<string>();
          answers.push(answer);
          return answer.promise;
        },
      },
    });
    const looks = [vms.look(), vms.look()];
    assert.equal(asked.length, 1);
    assert.match(asked[0] ?? '', /^\/stats\?usedonly&filter=/);
    answers[0]?.resolve(body);
    const [first, second] = await Promise.all(looks);
    assert.ok(first?.kind === 'seen' && first === second);
    const later = vms.look();
    assert.equal(asked.length, 2);
    answers[1]?.resolve('');
    assert.deepEqual(await later, { kind: 'seen', vms: [] });
  });

  test('of an Envoy that does not answer are not known, and the report says why', async () => {
    const error = new AdminError('timeout', 'GET /stats: no full answer within 1000 ms');
    const vms = new PluginVms({ admin: { get: async () => Promise.reject(error) } });
    const reading = await vms.look();
    assert.equal(reading.kind, 'unseen');
    assert.deepEqual(reportVms(reading), { failed: [], problem: error.message });
    assert.equal(reportVms(undefined), undefined);
  });
});
