import { typeUrls } from '../../../proto/type-urls.ts';
import * as codec from '../../support/ecds-codec.ts';

/** What is to come of a config with a remote module, as a whole protobuf runtime has it. */
export interface ReferencePlan {
  readonly name: string;
  readonly url: string;
  readonly sha256: string;
  /** Undefined: none is given. */
  readonly timeoutMs: number | undefined;
  readonly isFailOpen: boolean;
  /** The filter that goes to Envoy. */
  readonly filter: codec.WasmFilter;
}

const agentKeyPrefix = 'ISTIO_META_';
const secretKey = 'ISTIO_META_WASM_IMAGE_PULL_SECRET';

export const wasmKinds: ReadonlyMap<string, codec.FilterKind> = new Map([
  [typeUrls.httpWasm, 'http'],
  [typeUrls.networkWasm, 'network'],
]);

/** Undefined when it is no such config, or not one that can be used. Throws for bytes that do not decode. */
export function referencePlan(bytes: Uint8Array, path: string): ReferencePlan | undefined {
  const { name, typedConfig } = codec.decodeExtensionConfig(bytes);
  const kind = wasmKinds.get(typedConfig?.typeUrl ?? '');
  if (name === '' || kind === undefined || typedConfig === undefined) return undefined;
  const filter = codec.decodeWasm(kind, typedConfig.value);
  const vm = filter.config?.vm.case === 'vmConfig' ? filter.config.vm.value : undefined;
  const code = vm?.code?.specifier;
  if (vm === undefined || code?.case !== 'remote' || code.value.httpUri === undefined) return undefined;
  const { uri, timeout } = code.value.httpUri;
  const variables = vm.environmentVariables?.keyValues ?? {};
  if (variables[secretKey] === '') return undefined;
  const { failurePolicy = 0, failOpen = false } = filter.config ?? {};
  const plan = {
    name,
    url: uri,
    sha256: code.value.sha256,
    timeoutMs: timeout && Math.max(0, Number(timeout.seconds) * 1_000 + timeout.nanos / 1e6),
    isFailOpen: failurePolicy === 0 ? failOpen : failurePolicy === codec.FailurePolicy.FAIL_OPEN,
    filter,
  };
  for (const key of Object.keys(variables)) if (key.startsWith(agentKeyPrefix)) delete variables[key];
  const environment = vm.environmentVariables;
  const isEmpty = Object.keys(variables).length === 0 && environment?.hostEnvKeys.length === 0;
  if (isEmpty && environment?.$unknown === undefined) delete vm.environmentVariables;
  // The stock agent writes the whole message anew.
  delete vm.code?.$unknown;
  codec.setLocalCode(vm, path);
  return plan;
}
