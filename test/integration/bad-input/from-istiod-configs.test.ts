import assert from 'node:assert/strict';
import test from 'node:test';
import { componentHeader, wasmModule } from '../../agent/fetch/module-bytes.ts';
import type { Resource } from '../../support/control-plane/discovery-messages.ts';
import { extensionConfig, filterTypeUrls } from '../../support/control-plane/extension-configs.ts';
import { anyOf, ProtoWriter, structOf } from '../../support/control-plane/proto-writer.ts';
import { typeUrls } from '../../support/control-plane/type-urls.ts';
import { checkAccepted, checkRefused, checkStop, type ExpectedFailure } from './checks.ts';
import { modes } from './played-envoy.ts';
import { Scene } from './scene.ts';

/** Nobody may ask for it: these configs are refused before any fetch. */
const url = 'http://127.0.0.1:1/never-asked-for.wasm';
const structType = 'type.googleapis.com/udpa.type.v1.TypedStruct';

interface ConfigCase extends ExpectedFailure {
  readonly input: string;
  /** What stands in the target's place. */
  readonly resources: (scene: Scene) => readonly Resource[];
}

function config(scene: Scene, value: Buffer): Resource {
  return { name: scene.targetName, typeUrl: typeUrls.ecds, value };
}

function wasm(scene: Scene, value: Buffer): Resource {
  return extensionConfig(scene.targetName, filterTypeUrls.httpWasm, value);
}

/** A TypedStruct that stands for the Wasm filter with this JSON. */
function struct(scene: Scene, json: Readonly<Record<string, unknown>>): Resource {
  const value = new ProtoWriter().text(1, filterTypeUrls.httpWasm).message(2, structOf(json)).finish();
  return extensionConfig(scene.targetName, structType, value);
}

/** `Wasm{config{vm_config{code{...}}}}` */
function wasmWithCode(code: ProtoWriter): Buffer {
  const plugin = new ProtoWriter().message(3, new ProtoWriter().message(3, code));
  return new ProtoWriter().message(1, plugin).finish();
}

/** `code{local{inline_bytes}}` */
function inlineCode(bytes: Uint8Array): ProtoWriter {
  return new ProtoWriter().message(1, new ProtoWriter().bytes(2, bytes));
}

/** Everything is told under the target's name, and the neighbour in the same response does not notice. */
const configCases: readonly ConfigCase[] = [
  {
    input: 'a resource of another type, the first of its response',
    resources: (scene) => [{ ...scene.target(url), typeUrl: typeUrls.cds }],
    reason: /resource has type type\.googleapis\.com\/envoy\.config\.cluster\.v3\.Cluster, expected/,
    isNamed: 'in delta',
  },
  {
    input: 'a TypedExtensionConfig that is cut',
    resources: (scene) => [config(scene, scene.target(url).value.subarray(0, 150))],
    reason: /extension config does not decode: field at byte \d+ is longer than the message/,
  },
  {
    input: 'a TypedExtensionConfig that is cut inside its name',
    resources: (scene) => [config(scene, scene.target(url).value.subarray(0, 20))],
    reason: /extension config does not decode: field at byte \d+ is longer than the message/,
    isNamed: 'in delta',
  },
  {
    input: 'a TypedExtensionConfig of no bytes',
    resources: (scene) => [config(scene, Buffer.alloc(0))],
    reason: /extension config has no name/,
    isNamed: 'in delta',
  },
  {
    input: 'a TypedExtensionConfig without typed_config',
    resources: (scene) => [config(scene, new ProtoWriter().text(1, scene.targetName).finish())],
    reason: /extension config has no typed_config/,
  },
  {
    input: 'an empty name',
    resources: (scene) => [
      config(scene, extensionConfig('', filterTypeUrls.httpRbac, Buffer.alloc(0)).value),
    ],
    reason: /extension config has no name/,
    isNamed: 'in delta',
  },
  {
    input: 'no name at all, not even on the wrapper',
    resources: () => [extensionConfig('', filterTypeUrls.httpRbac, Buffer.alloc(0))],
    reason: /extension config has no name/,
    isNamed: 'never',
  },
  {
    input: 'a name that is not UTF-8',
    resources: (scene) => [
      config(scene, new ProtoWriter().bytes(1, Buffer.of(0xff, 0xfe)).message(2, new ProtoWriter()).finish()),
    ],
    reason: /extension config does not decode: the text before byte 4 is not UTF-8/,
    isNamed: 'in delta',
  },
  {
    input: 'a name with the wire type of a number',
    resources: (scene) => [
      config(
        scene,
        new ProtoWriter()
          .varint(1, 5)
          .message(2, anyOf(filterTypeUrls.httpWasm, Buffer.alloc(9, 1)))
          .finish(),
      ),
    ],
    reason: /extension config has no name/,
    isNamed: 'in delta',
  },
  {
    input: 'a typed_config with the wire type of a double',
    resources: (scene) => [
      config(scene, new ProtoWriter().text(1, scene.targetName).double(2, 1.5).finish()),
    ],
    reason: /extension config has no typed_config/,
  },
  {
    input: 'a length prefix of 4 GB inside the config',
    resources: (scene) => [
      config(
        scene,
        Buffer.concat([
          new ProtoWriter().text(1, scene.targetName).finish(),
          Buffer.of(0x12, 0xff, 0xff, 0xff, 0xff, 0x0f),
        ]),
      ),
    ],
    reason: /extension config does not decode: field at byte \d+ is longer than the message/,
  },
  {
    input: 'a Wasm filter that is cut',
    resources: (scene) => {
      const whole = wasmWithCode(new ProtoWriter().message(2, new ProtoWriter().text(2, 'a'.repeat(64))));
      return [wasm(scene, whole.subarray(0, whole.length - 3))];
    },
    reason: /http Wasm config does not decode: field at byte \d+ is longer than the message/,
  },
  {
    input: 'a Wasm filter with a field of the wrong wire type',
    resources: (scene) => [wasm(scene, new ProtoWriter().varint(1, 7).finish())],
    reason: /Wasm config names neither remote nor local code/,
  },
  {
    input: 'a Wasm filter without code',
    resources: (scene) => [wasm(scene, wasmWithCode(new ProtoWriter()))],
    reason: /Wasm config names neither remote nor local code \(config\.vm_config\.code is empty\)/,
  },
  {
    input: 'remote code without http_uri',
    resources: (scene) => [
      wasm(scene, wasmWithCode(new ProtoWriter().message(2, new ProtoWriter().text(2, 'a'.repeat(64))))),
    ],
    reason: /wasm remote fetch does not have httpUri specified for config extensions\.istio\.io\//,
  },
  {
    input: 'a local module that is not there',
    resources: (scene) => [scene.target('file:///nowhere/plugin.wasm')],
    reason: /local Wasm module "\/nowhere\/plugin\.wasm" was not given to Envoy: it is not there; mount it/,
  },
  {
    input: 'a local module that is none',
    resources: (scene) => [scene.target('file:///etc/hostname')],
    reason: /local Wasm module "\/etc\/hostname" was not given to Envoy, .*\(not_wasm\)/,
  },
  {
    input: 'a folder as local module',
    resources: (scene) => [scene.target('file:///etc')],
    reason: /local Wasm module "\/etc" was not given to Envoy: it cannot be read: it is not a regular file/,
  },
  {
    input: 'an inline module that is a component',
    resources: (scene) => [wasm(scene, wasmWithCode(inlineCode(componentHeader)))],
    reason: /inline Wasm module sha256:[0-9a-f]{64} was not given to Envoy, .*\(component\)/,
  },
  {
    input: 'a TypedStruct with an unknown field',
    resources: (scene) => [struct(scene, { config: { nmae: 'typo' } })],
    reason: /TypedStruct does not convert to the http Wasm filter: .*key "nmae" is unknown/,
  },
  {
    input: 'a TypedStruct with a field of the wrong type',
    resources: (scene) => [struct(scene, { config: { vm_config: 7 } })],
    reason: /TypedStruct does not convert to the http Wasm filter: .*VmConfig from JSON: 7/,
  },
  {
    input: 'a TypedStruct with an unknown enum name',
    resources: (scene) => [struct(scene, { config: { failure_policy: 'FAIL_SIDEWAYS' } })],
    reason:
      /TypedStruct does not convert to the http Wasm filter: .*FailurePolicy from JSON: "FAIL_SIDEWAYS"/,
  },
  {
    input: 'a TypedStruct with a bad duration',
    resources: (scene) => [
      struct(scene, {
        config: { vm_config: { code: { remote: { http_uri: { uri: url, timeout: 'soon' } } } } },
      }),
    ],
    reason: /TypedStruct does not convert to the http Wasm filter: .*Duration from JSON: "soon"/,
  },
  {
    input: 'two configs of one name',
    resources: (scene) => [scene.target(url), scene.target(`${url}?2`)],
    reason: /the response holds several extension configs of this name, one is allowed/,
  },
  {
    input: 'two configs of one name, the first of which needs no fetch',
    resources: (scene) => [scene.target('file:///etc/hostname'), scene.target(url)],
    reason: /the response holds several extension configs of this name, one is allowed/,
  },
];

for (const mode of modes) {
  test(`bad extension configs from istiod over ${mode}`, async (t) => {
    const scene = await Scene.start(t, { mode });
    for (const { input, resources, ...expected } of configCases) {
      await t.test(input, async () => checkRefused(scene, resources(scene), expected));
    }

    await t.test('an enum value that nobody knows is passed on as it came', async () => {
      const good = scene.target(await scene.origin.put('/enum.wasm', wasmModule('enum')));
      // failure_policy, field 7, FAIL_CLOSED
      const value = replaced(good.value, Buffer.of(0x38, 0x02), Buffer.of(0x38, 0x63));
      const held = await checkAccepted(scene, { ...good, value });
      assert.ok(held.includes(Buffer.of(0x38, 0x63)));
    });

    await t.test('a TypedStruct that does not decode is left to Envoy, whose words go up', async () => {
      const broken = extensionConfig(scene.targetName, structType, Buffer.of(0x0a, 0x7f, 0x61));
      scene.envoy.refusal = ({ value }) =>
        value.equals(broken.value) ? 'Unable to unpack as udpa.type.v1.TypedStruct' : undefined;
      await checkRefused(scene, [broken], {
        reason: /Unable to unpack as udpa\.type\.v1\.TypedStruct/,
        logLine: /\twarn\twasm\tEnvoy rejected an extension config\t.*Unable to unpack/,
      });
    });

    await t.test('the agent still ends when it is told to', async () => checkStop(scene));
  });
}

/** The bytes with the one occurrence of a part replaced. */
function replaced(bytes: Buffer, part: Buffer, by: Buffer): Buffer {
  const at = bytes.indexOf(part);
  assert.ok(at >= 0 && bytes.indexOf(part, at + 1) === -1);
  return Buffer.concat([bytes.subarray(0, at), by, bytes.subarray(at + part.length)]);
}
