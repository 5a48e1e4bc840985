import assert from 'node:assert/strict';
import { type ExtensionPlan, planExtensionConfig } from '../../../agent/wasm/extension-plan.ts';
import { loadJsonFilters } from '../../../agent/wasm/json-filters.ts';
import { typeUrls } from '../../../proto/type-urls.ts';
import { unknownField } from '../../agent/wasm/extension-fixtures.ts';
import * as codec from '../../support/ecds-codec.ts';
import { batchTarget } from './batch.ts';
import { configShape, hasShape, reshape, wasmConfigShape } from './config-shape.ts';
import { mutate } from './mutation.ts';
import { referencePlan, wasmKinds } from './reference-plan.ts';
import { wireCorpus } from './wire-corpus.ts';

const path = '/var/lib/istio/data/blobs/sha256/module.wasm';
const agentKeyPrefix = 'ISTIO_META_';

await loadJsonFilters();

/** A config that goes to Envoy: nothing that is the agent's own is in a filter's environment. */
function assertForEnvoy(name: string, bytes: Uint8Array, mark: Buffer | undefined): void {
  const config = codec.decodeExtensionConfig(bytes);
  assert.equal(config.name, name);
  if (mark !== undefined) assert.ok(Buffer.from(bytes).includes(mark), 'a field we do not know is lost');
  const kind = wasmKinds.get(config.typedConfig?.typeUrl ?? '');
  if (kind === undefined || config.typedConfig === undefined) return;
  const { vm } = codec.decodeWasm(kind, config.typedConfig.value).config ?? {};
  const keys = vm?.case === 'vmConfig' ? Object.keys(vm.value.environmentVariables?.keyValues ?? {}) : [];
  assert.deepEqual(
    keys.filter((key) => key.startsWith(agentKeyPrefix)),
    [],
  );
}

/** Every part of it is a message: two decoders must agree on it. */
function isWhole(bytes: Buffer): boolean {
  if (!hasShape(bytes, configShape)) return false;
  try {
    const { typedConfig } = codec.decodeExtensionConfig(bytes);
    const kind = wasmKinds.get(typedConfig?.typeUrl ?? '');
    if (kind === undefined || typedConfig === undefined) return true;
    codec.decodeWasm(kind, typedConfig.value);
    return hasShape(bytes, wasmConfigShape);
  } catch {
    return false;
  }
}

/** What our readers refuse and the runtime does not: groups, which no message of Envoy has, and bytes that are no text. */
const strictReasons = /unknown wire type [34]|not UTF-8/;

let whole: readonly Buffer[] | undefined;

function wholeConfigs(): readonly Buffer[] {
  whole ??= wireCorpus().extensionConfigs.filter((bytes) => hasShape(bytes, wasmConfigShape));
  return whole;
}

/** A plan is what a whole protobuf runtime makes of the same bytes. */
function assertAsReference(plan: ExtensionPlan, bytes: Uint8Array): void {
  const reference = referencePlan(bytes, path);
  if (reference === undefined || (plan.kind === 'refused' && strictReasons.test(plan.reason))) return;
  assert.equal(plan.kind, 'fetch', plan.kind === 'refused' ? plan.reason : plan.kind);
  const { request } = plan;
  const { sha256 } = reference;
  assert.deepEqual(
    [plan.name, request.url, request.sha256, request.timeoutMs, plan.fallbackAction],
    [
      reference.name,
      reference.url,
      sha256 === '' || sha256 === 'nil' ? undefined : sha256,
      reference.timeoutMs ?? 5_000,
      reference.isFailOpen ? 'allow' : 'deny',
    ],
  );
  const { typedConfig } = codec.decodeExtensionConfig(plan.rewrite(path));
  const kind = wasmKinds.get(typedConfig?.typeUrl ?? '');
  assert.ok(kind !== undefined && typedConfig !== undefined);
  assert.deepEqual(codec.decodeWasm(kind, typedConfig.value), reference.filter);
}

/** Any config is planned without a throw; what goes on keeps its name and unknown fields, and holds no secret; it is what another codec makes of it. */
export const extensionPlanTarget = batchTarget('extension-plan', (random) => {
  const { extensionConfigs } = wireCorpus();
  const changed = random.chance(0.5)
    ? mutate(random, extensionConfigs)
    : reshape(random, random.pick(wholeConfigs()), wasmConfigShape);
  // After a field that is cut off, it would be a part of that field.
  const isMarked = random.chance(0.5) && isWhole(changed);
  const mark = isMarked ? Buffer.from(unknownField(`mark-${random.integer(0, 999)}`)) : undefined;
  const bytes = mark === undefined ? changed : Buffer.concat([changed, mark]);
  const plan = planExtensionConfig(codec.makeAny(typeUrls.extensionConfig, bytes));
  const isReadable = isWhole(bytes);
  if (isReadable) assertAsReference(plan, bytes);
  const check = (name: string, sent: Uint8Array): void => {
    // What we pass on unseen Envoy is to refuse.
    if (isReadable) assertForEnvoy(name, sent, mark);
  };
  switch (plan.kind) {
    case 'as-is':
      assert.ok(Buffer.from(plan.bytes).equals(bytes));
      return;
    case 'local':
      check(plan.name, plan.bytes);
      check(plan.name, plan.fallback());
      return;
    case 'fetch': {
      assert.ok(plan.request.timeoutMs >= 0 && Number.isFinite(plan.request.timeoutMs));
      const rewritten = plan.rewrite(path);
      check(plan.name, rewritten);
      assert.ok(Buffer.from(rewritten).includes(path));
      check(plan.name, plan.fallback());
      return;
    }
    case 'refused':
      assert.ok(plan.reason.length > 0);
      if (plan.fallback !== undefined) check(plan.name, plan.fallback());
      return;
    default:
      plan satisfies never;
  }
});
