import assert from 'node:assert/strict';
import { planExtensionConfig } from '../../../agent/wasm/extension-plan.ts';
import * as codec from '../../../proto/codec.ts';
import { typeUrls } from '../../../proto/type-urls.ts';
import { unknownField } from '../../agent/wasm/extension-fixtures.ts';
import { batchTarget } from './batch.ts';
import { mutate } from './mutation.ts';
import { wireCorpus } from './wire-corpus.ts';

const path = '/var/lib/istio/data/blobs/sha256/module.wasm';
const agentKeyPrefix = 'ISTIO_META_';
const wasmKinds: ReadonlyMap<string, codec.FilterKind> = new Map([
  [typeUrls.httpWasm, 'http'],
  [typeUrls.networkWasm, 'network'],
]);

/** A Wasm filter that goes to Envoy: nothing that is the agent's own is in its environment. */
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

function isWhole(bytes: Buffer): boolean {
  try {
    codec.decodeExtensionConfig(bytes);
    return true;
  } catch {
    return false;
  }
}

/** Any config is planned without a throw; what goes on keeps its name and unknown fields, and holds no secret. */
export const extensionPlanTarget = batchTarget('extension-plan', (random) => {
  const mutated = mutate(random, wireCorpus().extensionConfigs);
  // After a field that is cut off, it would be a part of that field.
  const mark =
    random.chance(0.5) && isWhole(mutated)
      ? Buffer.from(unknownField(`mark-${random.integer(0, 999)}`))
      : undefined;
  const bytes = mark === undefined ? mutated : Buffer.concat([mutated, mark]);
  const plan = planExtensionConfig(codec.makeAny(typeUrls.extensionConfig, bytes));
  switch (plan.kind) {
    case 'as-is':
      assert.ok(Buffer.from(plan.bytes).equals(bytes));
      return;
    case 'local':
      assertForEnvoy(plan.name, plan.bytes, mark);
      assertForEnvoy(plan.name, plan.fallback(), mark);
      return;
    case 'fetch': {
      assert.ok(plan.request.timeoutMs >= 0 && Number.isFinite(plan.request.timeoutMs));
      const rewritten = plan.rewrite(path);
      assertForEnvoy(plan.name, rewritten, mark);
      assert.ok(Buffer.from(rewritten).includes(path));
      assertForEnvoy(plan.name, plan.fallback(), mark);
      return;
    }
    case 'refused':
      assert.ok(plan.reason.length > 0);
      if (plan.fallback !== undefined) assertForEnvoy(plan.name, plan.fallback(), mark);
      return;
    default:
      plan satisfies never;
  }
});
