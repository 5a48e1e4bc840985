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
export function readDirectives(environment: ReadonlyMap<string, string>): AgentDirectives {
  const secret = environment.get(pullSecretKey);
  return {
    pullSecret:
      secret === undefined
        ? { kind: 'none' }
        : secret === ''
          ? { kind: 'missing' }
          : { kind: 'given', text: secret },
    pullPolicy: parsePullPolicy(environment.get(pullPolicyKey)),
    pluginResourceVersion: environment.get(resourceVersionKey) ?? '',
  };
}

function parsePullPolicy(text: string | undefined): PullPolicy {
  if (text === 'IfNotPresent') return 'if-not-present';
  if (text === 'Always') return 'always';
  return 'unspecified';
}

/** True for keys that Envoy must not see. */
export function isAgentKey(key: string): boolean {
  return key.startsWith(agentKeyPrefix);
}
