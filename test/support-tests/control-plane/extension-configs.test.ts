import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  extensionConfig,
  filterTypeUrls,
  inFilterOrder,
  rbacFilter,
  type WasmPluginOptions,
  wasmPlugin,
} from '../../support/control-plane/extension-configs.ts';
import { readFields, type WireField } from './wire-fields.ts';

/** What istiod sent for this plugin: the value of the resource's Any, recorded from a real one. */
const recorded = Buffer.from(
  'ClhleHRlbnNpb25zLmlzdGlvLmlvL3RyYWZmaWNleHRlbnNpb24vaXN0aW8tc3lzdGVtLmJhc2ljLWF1dGh+aXN0aW8tdHJhbnNsYXRlZC13YXNtcGx1Z2luEqoDCj50eXBlLmdvb2dsZWFwaXMuY29tL2Vudm95LmV4dGVuc2lvbnMuZmlsdGVycy5odHRwLndhc20udjMuV2FzbRLnAgrkAgozaXN0aW8tc3lzdGVtLmJhc2ljLWF1dGh+aXN0aW8tdHJhbnNsYXRlZC13YXNtcGx1Z2luIq0BCi90eXBlLmdvb2dsZWFwaXMuY29tL2dvb2dsZS5wcm90b2J1Zi5TdHJpbmdWYWx1ZRJ6Cnh7ImJhc2ljX2F1dGhfcnVsZXMiOlt7ImNyZWRlbnRpYWxzIjpbIllXUnRhVzR6T21Ga2JXbHVNdz09Il0sInByZWZpeCI6Ii9wcm9kdWN0cGFnZSIsInJlcXVlc3RfbWV0aG9kcyI6WyJHRVQiLCJQT1NUIl19XX04Ahp7EhVlbnZveS53YXNtLnJ1bnRpbWUudjgaMxIxCi8KJm9jaTovLzEyNy4wLjAuMTo1MDAwL2Jhc2ljX2F1dGg6MS4xMi4wGgIIHhIBXzotEisKJ0lTVElPX01FVEFfV0FTTV9QTFVHSU5fUkVTT1VSQ0VfVkVSU0lPThIA',
  'base64',
);
const basicAuth: WasmPluginOptions = {
  name: 'basic-auth',
  namespace: 'istio-system',
  url: 'oci://127.0.0.1:5000/basic_auth:1.12.0',
  pluginConfig: {
    basic_auth_rules: [
      { request_methods: ['GET', 'POST'], prefix: '/productpage', credentials: ['YWRtaW4zOmFkbWluMw=='] },
    ],
  },
};

/** Walks into nested messages by field number: the first field of each number. */
function at(bytes: Buffer, ...path: number[]): WireField['value'] | undefined {
  const [number, ...rest] = path;
  const field = readFields(bytes).find((candidate) => candidate.number === number);
  if (field === undefined || rest.length === 0) return field?.value;
  assert.ok(Buffer.isBuffer(field.value), `field ${number} is no message`);
  return at(field.value, ...rest);
}

/** The PluginConfig inside a plugin's resource: TypedExtensionConfig.typed_config.value, Wasm.config. */
function pluginConfigOf(options: Partial<WasmPluginOptions>): Buffer {
  const config = at(wasmPlugin({ ...basicAuth, ...options }).resource.value, 2, 2, 1);
  assert.ok(Buffer.isBuffer(config));
  return config;
}

/** The VM's environment variables, as [name, value] in wire order. */
function environmentOf(options: Partial<WasmPluginOptions>): [string, string][] {
  const environment = at(pluginConfigOf(options), 3, 7);
  assert.ok(Buffer.isBuffer(environment));
  return readFields(environment)
    .filter((field) => field.number === 2)
    .map(({ value }) => [String(at(value as Buffer, 1)), String(at(value as Buffer, 2))]);
}

describe('the ECDS resource of a WasmPlugin', () => {
  test('has the very bytes that istiod sends', () => {
    assert.deepEqual(wasmPlugin(basicAuth).resource.value, recorded);
  });

  test('has the failure policy numbers of istiod', () => {
    assert.equal(at(pluginConfigOf({ failStrategy: 'FAIL_RELOAD' }), 7), 1);
    assert.equal(at(pluginConfigOf({ failStrategy: 'FAIL_CLOSE' }), 7), 2);
    assert.equal(at(pluginConfigOf({ failStrategy: 'FAIL_OPEN' }), 7), 3);
  });

  test('has an empty configuration where the plugin has none', () => {
    assert.deepEqual(at(pluginConfigOf({ pluginConfig: {} }), 4), Buffer.alloc(0));
  });

  test('carries secret, policy and version as variables, sorted with those of the user', () => {
    const variables = environmentOf({
      imagePullSecret: '{"auths":{}}',
      imagePullPolicy: 'Always',
      resourceVersion: '42',
      env: { ZONE: 'b', AREA: 'a' },
    });
    assert.deepEqual(variables, [
      ['AREA', 'a'],
      ['ISTIO_META_WASM_IMAGE_PULL_POLICY', 'Always'],
      ['ISTIO_META_WASM_IMAGE_PULL_SECRET', '{"auths":{}}'],
      ['ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION', '42'],
      ['ZONE', 'b'],
    ]);
  });

  test('shows an unknown secret as an empty variable', () => {
    assert.deepEqual(environmentOf({ imagePullSecret: '' })[0], ['ISTIO_META_WASM_IMAGE_PULL_SECRET', '']);
  });

  test('takes a url without a scheme as OCI, and a file as local', () => {
    const uri = at(pluginConfigOf({ url: 'ghcr.io/team/plugin:1', sha256: 'ab'.repeat(32) }), 3, 3, 2, 1, 1);
    assert.equal(String(uri), 'oci://ghcr.io/team/plugin:1');
    assert.equal(String(at(pluginConfigOf({ sha256: 'ab' }), 3, 3, 2, 2)), 'ab');
    assert.equal(String(at(pluginConfigOf({ url: 'file:///opt/p.wasm' }), 3, 3, 1, 1)), '/opt/p.wasm');
  });

  test('is of the network type where the plugin is', () => {
    const type = at(wasmPlugin({ ...basicAuth, kind: 'network' }).resource.value, 2, 1);
    assert.equal(String(type), filterTypeUrls.networkWasm);
  });

  test('can be packed in both kinds of TypedStruct', () => {
    for (const typedStruct of ['udpa', 'xds'] as const) {
      const { value } = wasmPlugin({ ...basicAuth, typedStruct }).resource;
      const version = typedStruct === 'udpa' ? 'v1' : 'v3';
      assert.equal(String(at(value, 2, 1)), `type.googleapis.com/${typedStruct}.type.${version}.TypedStruct`);
      assert.equal(String(at(value, 2, 2, 1)), filterTypeUrls.httpWasm);
      assert.equal(String(at(value, 2, 2, 2, 1, 1)), 'config');
    }
  });

  test('needs a name and a url', () => {
    assert.throws(() => wasmPlugin({ name: '', url: 'oci://a/b' }), { code: 'bad_resource' });
    assert.throws(() => wasmPlugin({ name: 'a', url: '' }), { code: 'bad_resource' });
  });
});

test('the HTTP RBAC filters have the bytes of the stock agent', () => {
  const rbacOf = (action: 'allow' | 'deny'): unknown =>
    (at(rbacFilter({ name: 'p', action }).value, 2, 2) as Buffer).toString('hex');
  assert.equal(rbacOf('allow'), '32127761736d2d64656661756c742d616c6c6f77');
  assert.equal(rbacOf('deny'), '0a0032117761736d2d64656661756c742d64656e79');
});

test('the network RBAC filter has its prefix in field 3', () => {
  const { value } = rbacFilter({ name: 'p', action: 'deny', kind: 'network' });
  assert.equal(String(at(value, 2, 1)), filterTypeUrls.networkRbac);
  assert.deepEqual(at(value, 2, 2, 1), Buffer.alloc(0));
  assert.equal(String(at(value, 2, 2, 3)), 'wasm-default-deny');
});

test('any other extension config can be made', () => {
  const { name, value } = extensionConfig('x', 'type.googleapis.com/a.B', Buffer.from('c'));
  assert.equal(name, 'x');
  assert.equal(String(at(value, 2, 2)), 'c');
});

test('plugins are ordered by phase, then by priority, then as given', () => {
  const plugins = [
    { name: 'last', phase: 'UNSPECIFIED' },
    { name: 'stats', phase: 'STATS' },
    { name: 'authn-low', phase: 'AUTHN', priority: -1 },
    { name: 'authn-none', phase: 'AUTHN' },
    { name: 'authn-high', phase: 'AUTHN', priority: 5 },
    { name: 'authz', phase: 'AUTHZ' },
  ] as const;
  const order = inFilterOrder(plugins.map((plugin) => wasmPlugin({ ...plugin, url: 'oci://a/b' })));
  assert.deepEqual(
    order.map((plugin) => /\.(?<name>[a-z-]+)~/.exec(plugin.name)?.groups?.['name']),
    ['authn-high', 'authn-low', 'authn-none', 'authz', 'stats', 'last'],
  );
});
