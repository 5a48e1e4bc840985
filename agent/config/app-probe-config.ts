import { type ConfigError, quoteValue } from './config-report.ts';
import { foldedField } from './folded-field.ts';
import { isRecord, type JsonRecord, parseRecord } from './message-schema.ts';

/** How the kubelet's probe or hook is carried out. */
export type AppProbeAction =
  /** `path` as in the pod; the name and headers of its probe come with the kubelet's request. */
  | { readonly kind: 'http'; readonly isTls: boolean; readonly port: number; readonly path: string }
  | { readonly kind: 'tcp'; readonly port: number }
  /** Empty service: the server as a whole. */
  | { readonly kind: 'grpc'; readonly port: number; readonly service: string };

/** One rewritten probe or lifecycle hook of a container. */
export interface AppProbe {
  readonly action: AppProbeAction;
  /** Undefined: none is given. */
  readonly timeoutMs: number | undefined;
  /** A hook, which may run as long as the pod's termination grace. */
  readonly isLifecycleHook: boolean;
}

/** Probes by the path the kubelet asks for. */
export type AppProbes = ReadonlyMap<string, AppProbe>;

/** Exactly one of the two. */
export type ParsedAppProbes =
  | { readonly ok: AppProbes; readonly errors?: never }
  | { readonly ok?: never; readonly errors: readonly ConfigError[] };

const variable = 'ISTIO_KUBE_APP_PROBERS';
const pathPattern = /^\/(app-health|app-lifecycle)\/[^/]+\/(livez|readyz|startupz|prestopz|poststartz)$/;
const remedy = 'the injector writes this variable: correct the probes of the pod, or do not set it by hand';
const maxInt32 = 2 ** 31 - 1;

/**
 * Reads `ISTIO_KUBE_APP_PROBERS`; an empty text is no probes. Field names match without regard to case, unknown
 * fields are ignored (istio/istio `pilot/cmd/pilot-agent/status/server.go`, Go `encoding/json`). Pure; reports every
 * error at once.
 */
export function parseAppProbers(text: string): ParsedAppProbes {
  if (text === '') return { ok: new Map() };
  const parsed = parseRecord(text);
  if (parsed === undefined) {
    const problem = `failed to decode app prober: ${quoteValue(text)} is not a JSON object`;
    return { errors: [{ name: variable, problem, remedy }] };
  }
  const errors: ConfigError[] = [];
  const probes = new Map<string, AppProbe>();
  for (const [path, value] of Object.entries(parsed)) {
    const problems: string[] = [];
    const probe = readProbe(path, value, problems);
    for (const problem of problems)
      errors.push({ name: `${variable}[${quoteValue(path)}]`, problem, remedy });
    if (probe !== undefined) probes.set(path, probe);
  }
  return errors.length > 0 ? { errors } : { ok: probes };
}

function readProbe(path: string, value: unknown, problems: string[]): AppProbe | undefined {
  if (!pathPattern.test(path)) {
    problems.push(
      `invalid path, must be in form of regex pattern ${pathPattern.source.replaceAll('\\/', '/')}`,
    );
  }
  if (!isRecord(value)) {
    problems.push(`failed to decode app prober: ${quoteValue(value)} is not a JSON object`);
    return undefined;
  }
  const timeoutSeconds = foldedField(value, 'timeoutSeconds') ?? 0;
  if (!isInt32(timeoutSeconds) || timeoutSeconds < 0) {
    problems.push(`timeoutSeconds is ${quoteValue(timeoutSeconds)}, must be an integer of 0 or more`);
  }
  const action = readAction(path, value, problems);
  if (action === undefined) return undefined;
  return {
    action,
    timeoutMs: Number(timeoutSeconds) * 1000 || undefined,
    isLifecycleHook: path.startsWith('/app-lifecycle/'),
  };
}

function readAction(path: string, value: JsonRecord, problems: string[]): AppProbeAction | undefined {
  const given = (['httpGet', 'tcpSocket', 'grpc'] as const).flatMap((name) => {
    const fields = foldedField(value, name);
    return fields === undefined || fields === null ? [] : [{ name, fields }];
  });
  const [chosen] = given;
  if (chosen === undefined || given.length > 1) {
    problems.push('invalid prober type, must be one of type httpGet, tcpSocket or gRPC');
    return undefined;
  }
  const { name, fields } = chosen;
  if (!isRecord(fields)) {
    problems.push(`failed to decode app prober: ${name} is ${quoteValue(fields)}, not a JSON object`);
    return undefined;
  }
  const port = readPort(path, foldedField(fields, 'port'), problems);
  const text = (fieldName: string): string => {
    const given = foldedField(fields, fieldName) ?? '';
    if (typeof given === 'string') return given;
    problems.push(`failed to decode app prober: ${name}.${fieldName} is ${quoteValue(given)}, not a text`);
    return '';
  };
  switch (name) {
    case 'httpGet':
      return { kind: 'http', isTls: text('scheme') === 'HTTPS', port, path: text('path') };
    case 'tcpSocket':
      return { kind: 'tcp', port };
    case 'grpc':
      return { kind: 'grpc', port, service: text('service') };
    default:
      return name satisfies never;
  }
}

function readPort(path: string, value: unknown, problems: string[]): number {
  if (!isInt32(value)) {
    problems.push(`invalid prober config for ${path}, the port must be int type, is ${quoteValue(value)}`);
  } else if (value < 1 || value > 65_535) {
    problems.push(`invalid prober config for ${path}, the port must be from 1 to 65535, is ${value}`);
  } else return value;
  return 0;
}

function isInt32(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && Math.abs(value) <= maxInt32;
}
