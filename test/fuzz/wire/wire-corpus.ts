import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { encodeNameTable, serviceHost } from '../../agent/dns/name-table-fixture.ts';
import { extensionResource, pluginResource, structResource } from '../../agent/wasm/extension-fixtures.ts';
import {
  encodeRequest,
  encodeResponse,
  type Resource,
  type XdsMode,
} from '../../support/control-plane/discovery-messages.ts';
import { rbacFilter, wasmPlugin } from '../../support/control-plane/extension-configs.ts';
import { gatewayWorld } from '../../support/control-plane/gateway-world.ts';
import { typeUrls } from '../../support/control-plane/type-urls.ts';
import type { World } from '../../support/control-plane/world.ts';

/** Sound messages that mutations begin with. */
export interface WireCorpus {
  readonly responses: Readonly<Record<XdsMode, readonly Buffer[]>>;
  readonly requests: Readonly<Record<XdsMode, readonly Buffer[]>>;
  /** Values of extension resources: encoded `TypedExtensionConfig` messages. */
  readonly extensionConfigs: readonly Buffer[];
  readonly nameTables: readonly Buffer[];
}

const modes = ['sotw', 'delta'] as const;
/** Recordings of a real istiod, where this machine has them. */
const captureFolder = fileURLToPath(new URL('../../../../shared/captures', import.meta.url));
/** Larger messages are cut by the mutator in any case. */
const maxCorpusBytes = 16 * 1024;

let made: WireCorpus | undefined;

/** Messages of our own encoders and of the control plane of the tests, with recorded ones where there are any. */
export function wireCorpus(): WireCorpus {
  made ??= makeCorpus();
  return made;
}

function makeCorpus(): WireCorpus {
  const recorded = readRecordings();
  const plugins = extensionPlugins();
  const world = gatewayWorld({
    listenerPort: 8080,
    backendPort: 8081,
    endpoints: 'eds',
    plugins,
    extensions: [rbacFilter({ name: 'rbac', action: 'deny' })],
  });
  const extensionConfigs = [
    ...world.list('ecds').map(({ value }) => value),
    ...fixtureConfigs(),
    ...recorded.extensionConfigs,
  ];
  const nameTable = encodeNameTable(
    Object.fromEntries([
      serviceHost('reviews', 'default', '10.0.0.1', '10.0.0.2'),
      serviceHost('ratings', 'default', '::1'),
    ]),
  );
  return {
    responses: byMode((mode) => [...responsesOf(world, mode), ...recorded.responses[mode]]),
    requests: byMode((mode) => [...requestsOf(mode), ...recorded.requests[mode]]),
    extensionConfigs,
    nameTables: [nameTable],
  };
}

function byMode<Value>(make: (mode: XdsMode) => Value): Record<XdsMode, Value> {
  return { sotw: make('sotw'), delta: make('delta') };
}

function extensionPlugins() {
  const url = 'oci://registry.example/team/plugin:1';
  return [
    wasmPlugin({ name: 'plain', url, pluginConfig: { a: 1 } }),
    wasmPlugin({ name: 'pinned', url, sha256: 'a'.repeat(64), failStrategy: 'FAIL_OPEN' }),
    wasmPlugin({
      name: 'secret',
      url,
      imagePullSecret: '{"auths":{}}',
      imagePullPolicy: 'Always',
      env: { KEY: 'value' },
      hostEnv: ['HOME'],
      resourceVersion: '7',
    }),
    wasmPlugin({ name: 'struct', url: 'https://origin.example/a.wasm', typedStruct: 'udpa' }),
    wasmPlugin({ name: 'xds-struct', url: 'https://origin.example/a.wasm', typedStruct: 'xds' }),
    wasmPlugin({ name: 'network', url, kind: 'network' }),
  ];
}

function fixtureConfigs(): readonly Buffer[] {
  const environment = { ISTIO_META_WASM_IMAGE_PULL_SECRET: 'secret', KEEP: 'x' };
  return [
    pluginResource({ code: 'local', environment }),
    pluginResource({ code: 'inline', environment }),
    pluginResource({ code: 'none' }),
    pluginResource({ url: undefined }),
    pluginResource({ kind: 'network', environment }),
    structResource('udpa', { config: { name: 'p' } }),
    extensionResource('empty', undefined),
  ].map(({ value }) => Buffer.from(value));
}

function responsesOf(world: World, mode: XdsMode): readonly Buffer[] {
  const types = ['cds', 'eds', 'lds', 'rds', 'ecds'] as const;
  const response = (typeUrl: string, resources: readonly Resource[]): Buffer =>
    encodeResponse(mode, {
      typeUrl,
      version: 'v1',
      nonce: 'nonce-1',
      resources,
      removed: mode === 'delta' ? ['gone'] : [],
    });
  return types.flatMap((type) => {
    const resources = world.list(type);
    return [
      response(typeUrls[type], resources),
      response(typeUrls[type], []),
      ...resources.map((resource) => response(typeUrls[type], [resource])),
    ];
  });
}

function requestsOf(mode: XdsMode): readonly Buffer[] {
  const node = {
    id: 'sidecar~10.0.0.1~a.b~b.svc.cluster.local',
    cluster: 'a.b',
    metadata: { LABELS: { app: 'a' } },
  };
  const base = { version: '', names: [], unsubscribe: [], initialVersions: {} };
  return [typeUrls.cds, typeUrls.lds, typeUrls.ecds].flatMap((typeUrl) => [
    encodeRequest(mode, { ...base, typeUrl, nonce: '', node, names: ['a', 'b'] }),
    encodeRequest(mode, { ...base, typeUrl, nonce: 'n1', unsubscribe: mode === 'delta' ? ['a'] : [] }),
    encodeRequest(mode, { ...base, typeUrl, nonce: 'n1', error: { code: 13, message: 'no' } }),
  ]);
}

interface Recordings {
  readonly responses: Record<XdsMode, Buffer[]>;
  readonly requests: Record<XdsMode, Buffer[]>;
  readonly extensionConfigs: Buffer[];
}

interface RecordedLine {
  readonly kind: string;
  readonly leg?: string;
  readonly dir?: string;
  readonly bytes?: string;
}

function readRecordings(): Recordings {
  const found: Recordings = {
    responses: byMode(() => []),
    requests: byMode(() => []),
    extensionConfigs: [],
  };
  if (!existsSync(captureFolder)) return found;
  for (const name of readdirSync(captureFolder)) {
    const mode = modes.find((each) => name.endsWith(`.${each}.jsonl`));
    if (mode === undefined) continue;
    for (const text of readFileSync(join(captureFolder, name), 'utf8').trimEnd().split('\n')) {
      const { kind, leg, dir, bytes } = JSON.parse(text) as RecordedLine;
      if (kind !== 'message' || leg === 'sds' || bytes === undefined) continue;
      const message = Buffer.from(bytes, 'base64');
      if (message.length > maxCorpusBytes) continue;
      if (dir === 'istiod>agent') found.responses[mode].push(message);
      else if (dir === 'envoy>agent') found.requests[mode].push(message);
    }
  }
  return found;
}
