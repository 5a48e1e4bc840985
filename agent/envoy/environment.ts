import type { EnvoyConfig } from '../config/agent-config.ts';
import type { EnvironmentRecord } from '../config/environment.ts';
import {
  environmentPrefixes,
  environmentTable,
  type VariableDefinition,
} from '../config/environment-table.ts';

const keptNames = new Set(
  Object.entries<VariableDefinition>(environmentTable)
    .filter(([, { isKeptFromEnvoy }]) => isKeptFromEnvoy === true)
    .flatMap(([name]) => [name, name.toLowerCase()]),
);

const keptPrefixes = environmentPrefixes
  .filter(({ isKeptFromEnvoy }) => isKeptFromEnvoy === true)
  .map(({ prefix }) => prefix);

/**
 * The environment Envoy gets: the agent's own, without the agent's credentials. A Wasm plugin can read any variable
 * of Envoy (`host_env_keys`), so registry credentials, proxies with user info and header tokens must not be there.
 * Everything else stays, because tracing tags and Envoy's libraries read variables of the pod.
 */
export function envoyEnvironment(
  environment: EnvironmentRecord,
  extra: EnvoyConfig['extraEnvironment'],
): Record<string, string> {
  const given: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    const isKept = keptNames.has(name) || keptPrefixes.some((prefix) => name.startsWith(prefix));
    if (value !== undefined && !isKept) given[name] = value;
  }
  return { ...given, ...extra };
}
