import type { VmConfig } from '../../proto/codec.ts';
import type { PullPolicy } from '../fetch/types.ts';

/** Keys that istiod writes for the agent, never for the VM. All are removed before Envoy sees the config. */
const agentKeyPrefix = 'ISTIO_META_';
const pullSecretKey = 'ISTIO_META_WASM_IMAGE_PULL_SECRET';
const pullPolicyKey = 'ISTIO_META_WASM_IMAGE_PULL_POLICY';
const resourceVersionKey = 'ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION';

/** What istiod tells the agent about one plugin through the VM's environment. */
export interface AgentDirectives {
  /** `missing`: istiod names a secret it does not know or may not give (present but empty). */
  readonly pullSecret:
    | { readonly kind: 'none' | 'missing' }
    | { readonly kind: 'given'; readonly text: string };
  readonly pullPolicy: PullPolicy;
  readonly pluginResourceVersion: string;
}

/** Reads the directives; unknown policy text is unspecified (istio/istio `pkg/wasm/convert.go`). */
export function readDirectives(vm: VmConfig): AgentDirectives {
  const environment = vm.environmentVariables?.keyValues ?? {};
  const secret = environment[pullSecretKey];
  return {
    pullSecret:
      secret === undefined
        ? { kind: 'none' }
        : secret === ''
          ? { kind: 'missing' }
          : { kind: 'given', text: secret },
    pullPolicy: parsePullPolicy(environment[pullPolicyKey]),
    pluginResourceVersion: environment[resourceVersionKey] ?? '',
  };
}

function parsePullPolicy(text: string | undefined): PullPolicy {
  if (text === 'IfNotPresent') return 'if-not-present';
  if (text === 'Always') return 'always';
  return 'unspecified';
}

/** Removes every agent key from the config, in place. True when there was one. */
export function stripAgentKeys(vm: VmConfig): boolean {
  const environment = vm.environmentVariables;
  if (environment === undefined) return false;
  const keys = Object.keys(environment.keyValues);
  const agentKeys = keys.filter((key) => key.startsWith(agentKeyPrefix));
  if (agentKeys.length === 0) return false;
  for (const key of agentKeys) delete environment.keyValues[key];
  const isEmpty = agentKeys.length === keys.length && environment.hostEnvKeys.length === 0;
  // A message that carries fields we do not know stays, so that they do.
  if (isEmpty && environment.$unknown === undefined) delete vm.environmentVariables;
  return true;
}
