import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { before, describe, test } from 'node:test';
import { type ExtensionPlan, planExtensionConfig } from '../../../agent/wasm/extension-plan.ts';
import { loadJsonFilters } from '../../../agent/wasm/json-filters.ts';
import { typeUrls } from '../../../proto/type-urls.ts';
import { MessageWriter } from '../../../proto/wire.ts';
import * as codec from '../../support/ecds-codec.ts';
import {
  appended,
  extensionResource,
  otherResource,
  type PluginFixture,
  pluginResource,
  structResource,
  unknownField,
} from './extension-fixtures.ts';

const capturesFolder = new URL('../../../../shared/captures/', import.meta.url);

function planFetch(resource: codec.Any): Extract<ExtensionPlan, { kind: 'fetch' }> {
  const plan = planExtensionConfig(resource);
  assert.equal(plan.kind, 'fetch');
  return plan;
}

function filterOf(bytes: Uint8Array): { typeUrl: string; value: Uint8Array } {
  const { typedConfig } = codec.decodeExtensionConfig(bytes);
  assert.ok(typedConfig);
  return typedConfig;
}

function vmOf(bytes: Uint8Array): codec.VmConfig {
  const filter = filterOf(bytes);
  const wasm = codec.decodeWasm(filter.typeUrl === typeUrls.httpWasm ? 'http' : 'network', filter.value);
  assert.equal(wasm.config?.vm.case, 'vmConfig');
  return wasm.config.vm.value;
}

before(loadJsonFilters);

describe('planning an extension config', () => {
  test('reads the request of a remote module', () => {
    const plan = planFetch(
      pluginResource({
        name: 'extensions.istio.io/trafficextension/ns.basic',
        url: 'oci://registry.example/a:1',
        sha256: 'ab',
        environment: {
          ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION: '42',
          ISTIO_META_WASM_IMAGE_PULL_POLICY: 'Always',
          ISTIO_META_WASM_IMAGE_PULL_SECRET: '{"auths":{}}',
        },
      }),
    );
    assert.deepEqual(plan.request, {
      resourceName: 'extensions.istio.io/trafficextension/ns.basic',
      url: 'oci://registry.example/a:1',
      sha256: 'ab',
      timeoutMs: 30_000,
      pullPolicy: 'always',
      pullSecret: '{"auths":{}}',
      pluginResourceVersion: '42',
    });
  });

  const requestRows: readonly [string, PluginFixture, object][] = [
    ['the text nil is no checksum', { sha256: 'nil' }, { sha256: undefined }],
    ['an empty checksum is none', { sha256: '' }, { sha256: undefined }],
    ['no timeout is five seconds', { timeoutSeconds: undefined }, { timeoutMs: 5_000 }],
    ['a timeout of zero stays zero', { timeoutSeconds: 0 }, { timeoutMs: 0 }],
    ['a part of a second counts', { timeoutSeconds: 1.5 }, { timeoutMs: 1_500 }],
    ['no policy is unspecified', {}, { pullPolicy: 'unspecified' }],
    [
      'IfNotPresent is read',
      { environment: { ISTIO_META_WASM_IMAGE_PULL_POLICY: 'IfNotPresent' } },
      { pullPolicy: 'if-not-present' },
    ],
    [
      'an unknown policy is unspecified',
      { environment: { ISTIO_META_WASM_IMAGE_PULL_POLICY: 'always' } },
      { pullPolicy: 'unspecified' },
    ],
  ];
  for (const [name, fixture, expected] of requestRows) {
    test(name, () => {
      const { request } = planFetch(pluginResource(fixture));
      assert.deepEqual({ ...request, ...expected }, request);
    });
  }

  for (const kind of ['http', 'network'] as const) {
    test(`points the ${kind} filter at the file and keeps the rest`, () => {
      const plan = planFetch(pluginResource({ kind, configuration: '{"a":1}', failurePolicy: 3 }));
      const bytes = plan.rewrite('/var/lib/istio/data/blobs/sha256/aa');
      const filter = filterOf(bytes);
      assert.equal(filter.typeUrl, kind === 'http' ? typeUrls.httpWasm : typeUrls.networkWasm);
      const vm = vmOf(bytes);
      assert.deepEqual(vm.code?.specifier.case, 'local');
      assert.equal(vm.code?.specifier.value?.specifier?.value, '/var/lib/istio/data/blobs/sha256/aa');
      const wasm = codec.decodeWasm(kind, filter.value);
      assert.equal(wasm.config?.failurePolicy, 3);
      assert.equal(wasm.config?.configuration?.typeUrl, 'type.googleapis.com/google.protobuf.StringValue');
      assert.equal(codec.decodeExtensionConfig(bytes).name, 'plugin');
    });
  }

  test('strips every ISTIO_META_ key and keeps the others', () => {
    const environment = { ISTIO_META_WASM_IMAGE_PULL_SECRET: '{}', ISTIO_META_X: '1', MINE: 'kept' };
    const vm = vmOf(planFetch(pluginResource({ environment })).rewrite('/m'));
    assert.deepEqual(vm.environmentVariables?.keyValues, { MINE: 'kept' });
  });

  test('removes the environment message when nothing is left in it', () => {
    const vm = vmOf(planFetch(pluginResource({ environment: { ISTIO_META_X: '1' } })).rewrite('/m'));
    assert.equal(vm.environmentVariables, undefined);
  });

  test('keeps the environment message for its host keys', () => {
    const fixture = { environment: { ISTIO_META_X: '1' }, hostEnvironmentKeys: ['HOME'] };
    const vm = vmOf(planFetch(pluginResource(fixture)).rewrite('/m'));
    assert.deepEqual(vm.environmentVariables?.hostEnvKeys, ['HOME']);
    assert.deepEqual(vm.environmentVariables?.keyValues, {});
  });

  for (const code of ['local', 'inline'] as const) {
    test(`passes ${code} code untouched`, () => {
      const resource = pluginResource({ code, environment: { MINE: '1' } });
      const plan = planExtensionConfig(resource);
      assert.equal(plan.kind, 'local');
      assert.deepEqual(Buffer.from(plan.bytes), Buffer.from(resource.value));
    });

    test(`strips agent keys from ${code} code: a pull secret must not reach Envoy`, () => {
      const environment = { ISTIO_META_WASM_IMAGE_PULL_SECRET: 'hidden', MINE: '1' };
      const plan = planExtensionConfig(pluginResource({ code, environment }));
      assert.equal(plan.kind, 'local');
      assert.ok(!Buffer.from(plan.bytes).includes('hidden'));
      assert.deepEqual(vmOf(plan.bytes).environmentVariables?.keyValues, { MINE: '1' });
    });
  }

  const localRows: readonly (readonly [string, PluginFixture, object])[] = [
    ['a file', { code: 'local', path: '/p.wasm' }, { kind: 'file', path: '/p.wasm' }],
    ['inline bytes', { code: 'inline', bytes: Buffer.of(7) }, { kind: 'inline', bytes: Buffer.of(7) }],
    [
      'the engine that Envoy chooses',
      { code: 'local', path: '/p', runtime: '' },
      { kind: 'file', path: '/p' },
    ],
    [
      'code that is built into Envoy',
      { code: 'inline', runtime: 'envoy.wasm.runtime.null' },
      { kind: 'unseen' },
    ],
    ['another engine', { code: 'local', runtime: 'envoy.wasm.runtime.wamr' }, { kind: 'unseen' }],
  ];
  for (const [what, fixture, module] of localRows) {
    test(`tells where a module is that needs no download: ${what}`, () => {
      const plan = planExtensionConfig(pluginResource({ ...fixture, failurePolicy: 3 }));
      assert.equal(plan.kind, 'local');
      assert.deepEqual({ ...plan.module }, module);
      assert.equal(plan.fallbackAction, 'allow');
    });
  }

  test('passes what is not Wasm untouched', () => {
    const resource = otherResource('lua');
    const plan = planExtensionConfig(resource);
    assert.equal(plan.kind, 'as-is');
    assert.equal(plan.name, 'lua');
    assert.deepEqual(Buffer.from(plan.bytes), Buffer.from(resource.value));
  });

  for (const family of ['udpa', 'xds'] as const) {
    for (const kind of ['http', 'network'] as const) {
      test(`reads the ${kind} filter from a TypedStruct of ${family}`, () => {
        const json = {
          config: {
            name: 'n',
            failure_policy: 'FAIL_OPEN',
            vm_config: { code: { remote: { http_uri: { uri: 'https://a.example/m.wasm', timeout: '7s' } } } },
            configuration: { '@type': 'type.googleapis.com/google.protobuf.StringValue', value: 'x' },
          },
        };
        const plan = planFetch(structResource(family, json, 'p', kind));
        assert.equal(plan.request.url, 'https://a.example/m.wasm');
        assert.equal(plan.request.timeoutMs, 7_000);
        assert.equal(plan.fallbackAction, 'allow');
        assert.equal(
          filterOf(plan.rewrite('/m')).typeUrl,
          kind === 'http' ? typeUrls.httpWasm : typeUrls.networkWasm,
        );
      });
    }

    test(`refuses a TypedStruct of ${family} with a field Envoy does not have`, () => {
      const plan = planExtensionConfig(structResource(family, { config: { nmae: 'typo' } }));
      assert.equal(plan.kind, 'refused');
      assert.match(plan.reason, /nmae/);
    });
  }

  test('keeps fields that no schema knows, at every level', () => {
    const inner = pluginResource({ environment: { ISTIO_META_X: '1' } });
    const config = codec.decodeExtensionConfig(inner.value);
    assert.ok(config.typedConfig);
    const typedConfig = appended(config.typedConfig, unknownField('in the filter'));
    const resource = appended(extensionResource('p', typedConfig), unknownField('in the config'));
    const bytes = Buffer.from(planFetch(resource).rewrite('/m'));
    assert.ok(bytes.includes('in the filter'));
    assert.ok(bytes.includes('in the config'));
  });

  describe('in several pieces', () => {
    /** A plugin whose VM config is `vm`, then `more`, each in a message of its own. */
    const split = (vm: MessageWriter, more: MessageWriter): codec.Any => {
      const plugin = new MessageWriter().message(3, vm).text(1, 'n').message(3, more).varint(7, 3);
      const filter = codec.makeAny(typeUrls.httpWasm, new MessageWriter().message(1, plugin).finish());
      return extensionResource('p', filter);
    };
    const remote = (uri: string, sha256: string): MessageWriter =>
      new MessageWriter().message(
        2,
        new MessageWriter().message(1, new MessageWriter().text(1, uri)).text(2, sha256),
      );
    const local = (path: string): MessageWriter =>
      new MessageWriter().message(1, new MessageWriter().text(1, path));
    const code = (value: MessageWriter): MessageWriter => new MessageWriter().message(3, value);
    const environment = (...pairs: readonly (readonly [string, string])[]): MessageWriter => {
      const writer = new MessageWriter();
      for (const [key, value] of pairs) writer.message(2, new MessageWriter().text(1, key).text(2, value));
      return new MessageWriter().message(7, writer);
    };

    test('it means what all of them say', () => {
      const plan = planFetch(split(code(remote('https://a.example/1', 'ab')), environment(['MINE', '1'])));
      assert.equal(plan.request.url, 'https://a.example/1');
      const vm = vmOf(plan.rewrite('/m'));
      assert.ok(Buffer.from(plan.rewrite('/m')).includes('/m'));
      assert.equal(vm.code?.specifier.case, 'local');
      assert.deepEqual(vm.environmentVariables?.keyValues, { MINE: '1' });
    });

    test('of local and remote code the last counts, and nothing of the other', () => {
      const plan = planFetch(split(code(local('/old')), code(remote('https://a.example/1', ''))));
      assert.equal(plan.request.url, 'https://a.example/1');
      const other = planExtensionConfig(split(code(remote('https://a.example/1', '')), code(local('/new'))));
      assert.deepEqual(other.kind === 'local' && other.code, { kind: 'local', path: '/new' });
    });

    test('remote code in two pieces is one', () => {
      const checksum = new MessageWriter().message(2, new MessageWriter().text(2, 'cd'));
      const plan = planFetch(split(code(remote('https://a.example/1', '')), code(checksum)));
      assert.equal(plan.request.sha256, 'cd');
      assert.equal(plan.request.url, 'https://a.example/1');
    });

    test('no secret stays behind in any of them', () => {
      const secret = ['ISTIO_META_WASM_IMAGE_PULL_SECRET', 'hidden'] as const;
      const remoteVm = code(remote('https://a.example/1', ''));
      const first = new MessageWriter()
        .fields(remoteVm.finish())
        .fields(environment(secret, ['MINE', '1']).finish());
      const plan = planFetch(split(first, environment(['YOURS', '2'], secret)));
      assert.equal(plan.request.pullSecret, 'hidden');
      const bytes = plan.rewrite('/m');
      assert.ok(!Buffer.from(bytes).includes('hidden'));
      assert.deepEqual(vmOf(bytes).environmentVariables?.keyValues, { MINE: '1', YOURS: '2' });
    });
  });

  test('what is not changed stays to the byte, in its order', () => {
    const resource = pluginResource({ configuration: 'kept', failurePolicy: 3, environment: { A: 'b' } });
    const once = planFetch(resource).rewrite('/a');
    const expected = Buffer.from(resource.value);
    const start = expected.indexOf('kept');
    assert.ok(start > 0);
    assert.ok(Buffer.from(once).includes(expected.subarray(start - 60, start + 4)));
    // The path alone differs.
    const twice = Buffer.from(planFetch(resource).rewrite('/b'));
    assert.equal(Buffer.from(once).toString('latin1'), twice.toString('latin1').replace('/b', '/a'));
  });

  const refusedRows: readonly [string, codec.Any, RegExp, string][] = [
    ['no typed_config', extensionResource('p', undefined), /no typed_config/, 'unmarshal_failure'],
    ['no code', pluginResource({ code: 'none' }), /neither remote nor local/, 'unmarshal_failure'],
    ['no http_uri', pluginResource({ url: undefined }), /does not have httpUri/, 'miss_remote_fetch_hint'],
    [
      'a pull secret that istiod may not give',
      pluginResource({ environment: { ISTIO_META_WASM_IMAGE_PULL_SECRET: '' } }),
      /missing image pulling secret/,
      'fetch_failure',
    ],
    [
      'a Wasm filter that is cut',
      extensionResource('p', codec.makeAny(typeUrls.httpWasm, Buffer.from([0x0a, 0x7f]))),
      /does not decode/,
      'unmarshal_failure',
    ],
    [
      'a config that is cut',
      codec.makeAny(typeUrls.extensionConfig, Buffer.from([0x0a, 0x7f])),
      /does not decode/,
      'unmarshal_failure',
    ],
    [
      'another type',
      codec.makeAny('type.googleapis.com/google.protobuf.Empty', new Uint8Array()),
      /has type/,
      'unmarshal_failure',
    ],
    [
      'a TypedStruct without value',
      structResource('udpa', undefined as never),
      /no value/,
      'unmarshal_failure',
    ],
  ];
  for (const [name, resource, reason, result] of refusedRows) {
    test(`refuses ${name} and says why`, () => {
      const plan = planExtensionConfig(resource);
      assert.equal(plan.kind, 'refused');
      assert.match(plan.reason, reason);
      assert.equal(plan.result, result);
    });
  }

  const policyRows: readonly [PluginFixture, 'allow' | 'deny'][] = [
    [{}, 'deny'],
    [{ failOpen: true }, 'allow'],
    [{ failurePolicy: 1 }, 'deny'],
    [{ failurePolicy: 2 }, 'deny'],
    [{ failurePolicy: 3 }, 'allow'],
    [{ failurePolicy: 2, failOpen: true }, 'deny'],
  ];
  for (const [fixture, action] of policyRows) {
    test(`falls back to ${action} for ${JSON.stringify(fixture)}`, () => {
      assert.equal(planFetch(pluginResource(fixture)).fallbackAction, action);
    });
  }

  // The binary forms as a stock agent wrote them (network: from the message's field numbers).
  const fallbackRows: readonly ['http' | 'network', number, string, string][] = [
    ['http', 3, typeUrls.httpRbac, '32127761736d2d64656661756c742d616c6c6f77'],
    ['http', 2, typeUrls.httpRbac, '0a0032117761736d2d64656661756c742d64656e79'],
    ['network', 3, typeUrls.networkRbac, '1a127761736d2d64656661756c742d616c6c6f77'],
    ['network', 2, typeUrls.networkRbac, '0a001a117761736d2d64656661756c742d64656e79'],
  ];
  for (const [kind, failurePolicy, typeUrl, hex] of fallbackRows) {
    test(`emits the stock agent's fallback bytes: ${kind}, policy ${failurePolicy}`, () => {
      const filter = filterOf(planFetch(pluginResource({ kind, failurePolicy })).fallback());
      assert.equal(filter.typeUrl, typeUrl);
      assert.equal(Buffer.from(filter.value).toString('hex'), hex);
    });
  }

  test('never throws, whatever bytes it is given', () => {
    let seed = 7;
    const next = (): number => (seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648);
    const original = Buffer.from(pluginResource({ environment: { A: 'b' }, configuration: 'x' }).value);
    for (let round = 0; round < 5_000; round++) {
      const bytes = Buffer.from(original.subarray(0, next() % (original.length + 1)));
      for (let flips = next() % 4; flips > 0 && bytes.length > 0; flips--)
        bytes[next() % bytes.length] = next() % 256;
      const plan = planExtensionConfig(codec.makeAny(typeUrls.extensionConfig, bytes));
      if (plan.kind === 'fetch') plan.rewrite('/m');
    }
  });
});

describe('recorded conversions', () => {
  const skip = existsSync(capturesFolder) ? false : 'the recorded captures are not here';

  for (const file of [
    'a-gateway-wasmplugin.delta.jsonl',
    'b-fetch-failure.delta.jsonl',
    'e-lua-trafficextension.delta.jsonl',
  ]) {
    test(`gives the fields the stock agent gave, each to the byte: ${file}`, { skip }, () => {
      let comparedCount = 0;
      const pushed = new Map<string, codec.DeltaDiscoveryResponse>();
      for (const line of readFileSync(new URL(file, capturesFolder), 'utf8').split('\n')) {
        if (!line.includes('"kind":"message"') || !line.includes(`"type_url":"${typeUrls.extensionConfig}"`))
          continue;
        const record = JSON.parse(line) as { dir: string; bytes: string; nonce: string };
        if (record.dir !== 'istiod>agent' && record.dir !== 'agent>envoy') continue;
        const response = codec.decodeDeltaResponse(Buffer.from(record.bytes, 'base64'));
        if (record.dir === 'istiod>agent') {
          pushed.set(record.nonce, response);
          continue;
        }
        const original = pushed.get(record.nonce);
        assert.ok(original, `push ${record.nonce} was recorded`);
        for (const [index, resource] of response.resources.entries()) {
          const expected = resource.resource?.value;
          const source: codec.Any | undefined = original.resources[index]?.resource;
          assert.ok(expected && source);
          assert.equal(hex(inOurOrder(convertAs(source, expected))), hex(inOurOrder(expected)));
          comparedCount += 1;
        }
      }
      assert.ok(comparedCount > 0, 'the capture holds extension configs');
    });
  }
});

/** Our own conversion of `source`, with the path or the fallback that the recorded result shows. */
function convertAs(source: codec.Any, recorded: Uint8Array): Uint8Array {
  const plan = planExtensionConfig(source);
  if (plan.kind === 'as-is' || plan.kind === 'local') return plan.bytes;
  assert.equal(plan.kind, 'fetch');
  const filter = filterOf(recorded);
  if (filter.typeUrl === typeUrls.httpRbac) return plan.fallback();
  const code = vmOf(recorded).code?.specifier;
  assert.equal(code?.case, 'local');
  return plan.rewrite(String(code.value.specifier.value));
}

/** Go writes the members of a oneof last; the order of fields has no meaning. */
function inOurOrder(bytes: Uint8Array): Uint8Array {
  const config = codec.decodeExtensionConfig(bytes);
  if (config.typedConfig?.typeUrl === typeUrls.httpWasm) {
    config.typedConfig.value = codec.encodeWasm(codec.decodeWasm('http', config.typedConfig.value));
  }
  return codec.encodeExtensionConfig(config);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
