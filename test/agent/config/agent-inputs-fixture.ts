import assert from 'node:assert/strict';
import type { AgentConfig } from '../../../agent/config/agent-config.ts';
import type { AgentInputs, FileContent, ProxyFlags } from '../../../agent/config/agent-inputs.ts';
import type { ConfigError } from '../../../agent/config/config-report.ts';
import { parseAgentConfig } from '../../../agent/config/parse-agent-config.ts';
import { parseYaml } from '../../../agent/config/yaml-text.ts';

export const defaultFlags: ProxyFlags = {
  domain: '',
  meshConfig: './etc/istio/config/mesh',
  stsPort: '0',
  tokenManagerPlugin: '',
  serviceCluster: 'istio-proxy',
  proxyLogLevel: 'warning',
  proxyComponentLogLevel: '',
  concurrency: '0',
  templateFile: '',
  outlierLogPath: '',
  profiling: 'true',
};

/** Changes to the inputs of a small pod; every part that is not named keeps its default. */
export interface InputChanges extends Partial<Omit<AgentInputs, 'flags' | 'files' | 'environment'>> {
  readonly flags?: Partial<ProxyFlags>;
  readonly files?: Partial<AgentInputs['files']>;
  readonly environment?: Readonly<Record<string, string>>;
}

/** A file with this text. */
export function fileOf(text: string): FileContent {
  return { kind: 'text', text };
}

/** A file of the downward API. */
export function downwardFile(values: Readonly<Record<string, string>>): FileContent {
  return fileOf(
    Object.entries(values)
      .map(([name, value]) => `${name}=${JSON.stringify(value)}\n`)
      .join(''),
  );
}

export function agentInputs(changes: InputChanges = {}): AgentInputs {
  return {
    type: 'sidecar',
    logFlags: { outputLevel: '', asJson: false },
    root: '/',
    interfaces: [],
    cpuCount: 4,
    userId: 1337,
    resolvedHosts: new Map(),
    documents: { parseYaml },
    ...changes,
    flags: { ...defaultFlags, ...changes.flags },
    environment: {
      POD_NAME: 'web-0',
      POD_NAMESPACE: 'shop',
      INSTANCE_IP: '10.0.0.5',
      ISTIO_CPU_LIMIT: '4',
      ...changes.environment,
    },
    files: {
      meshConfig: { kind: 'absent' },
      podLabels: { kind: 'absent' },
      podAnnotations: { kind: 'absent' },
      bootstrapOverride: { kind: 'absent' },
      isLegacyRootPresent: false,
      areWorkloadCertificatesPresent: false,
      ...changes.files,
    },
  };
}

/** The configuration of inputs that must parse. */
export function parsed(changes: InputChanges = {}): AgentConfig {
  const result = parseAgentConfig(agentInputs(changes));
  assert.deepEqual(result.errors, undefined);
  assert.ok(result.ok);
  return result.ok;
}

/** The errors of inputs that must not parse. */
export function errorsOf(changes: InputChanges): readonly ConfigError[] {
  const result = parseAgentConfig(agentInputs(changes));
  assert.ok(result.errors !== undefined, 'the inputs were accepted');
  return result.errors;
}

/** ProxyConfig as node metadata carries it. */
export function proxyConfigOf(config: AgentConfig): Readonly<Record<string, unknown>> {
  return config.envoy.bootstrap.node.metadata['PROXY_CONFIG'] as Readonly<Record<string, unknown>>;
}
