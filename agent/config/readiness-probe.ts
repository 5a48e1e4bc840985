import { type ConfigError, quoteValue } from './config-report.ts';
import { isRecord, type JsonRecord } from './message-schema.ts';

/** How the workload is asked. An undefined host is the default one of the machine. */
export type ReadinessMethod =
  | {
      readonly kind: 'http';
      readonly host: string | undefined;
      readonly port: number;
      readonly isTls: boolean;
      /** As given; empty is the root. */
      readonly path: string;
      /** In order; repeated names stand twice. */
      readonly headers: readonly (readonly [name: string, value: string])[];
    }
  | { readonly kind: 'tcp'; readonly host: string | undefined; readonly port: number }
  | { readonly kind: 'grpc'; readonly port: number; readonly service: string }
  | { readonly kind: 'exec'; readonly command: readonly [string, ...string[]] };

/** `ProxyConfig.readinessProbe` with its defaults filled in: how the health of a workload outside Kubernetes is found. */
export interface ReadinessProbe {
  readonly initialDelayMs: number;
  readonly timeoutMs: number;
  readonly periodMs: number;
  /** Results in a row that change the state. */
  readonly successThreshold: number;
  readonly failureThreshold: number;
  readonly method: ReadinessMethod;
}

/** Exactly one of the two. `ok` is undefined when there is no probe. */
export type ParsedReadinessProbe =
  | { readonly ok: ReadinessProbe | undefined; readonly errors?: never }
  | { readonly ok?: never; readonly errors: readonly ConfigError[] };

const field = 'ProxyConfig.readinessProbe';
const methodNames = ['httpGet', 'tcpSocket', 'exec', 'grpc'] as const;

/**
 * Reads the probe from a ProxyConfig in canonical JSON form, whose types have been checked. Defaults: istio/istio
 * `pkg/istio-agent/health/health_check.go`. Pure; reports every error at once.
 */
export function parseReadinessProbe(input: unknown): ParsedReadinessProbe {
  if (input === undefined || input === null) return { ok: undefined };
  const errors: ConfigError[] = [];
  const report = (name: string, problem: string, remedy: string): void => {
    errors.push({ name: name === '' ? field : `${field}.${name}`, problem, remedy });
  };
  if (!isRecord(input)) {
    report('', `is ${quoteValue(input)}`, 'set an object with httpGet, tcpSocket, exec or grpc');
    return { errors };
  }
  const number = (name: string, unit: string, fallback: number): number => {
    const value = input[name] ?? 0;
    if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return value || fallback;
    report(name, `is ${quoteValue(value)}`, `set ${unit} of 0 or more`);
    return fallback;
  };
  const probe = {
    initialDelayMs: number('initialDelaySeconds', 'seconds', 0) * 1000,
    timeoutMs: number('timeoutSeconds', 'seconds', 1) * 1000,
    periodMs: number('periodSeconds', 'seconds', 10) * 1000,
    successThreshold: number('successThreshold', 'a count', 1),
    failureThreshold: number('failureThreshold', 'a count', 1),
  };
  const method = readMethod(input, report);
  return method === undefined || errors.length > 0 ? { errors } : { ok: { ...probe, method } };
}

type Report = (name: string, problem: string, remedy: string) => void;

function readMethod(input: JsonRecord, report: Report): ReadinessMethod | undefined {
  const given = methodNames.filter((name) => isRecord(input[name]));
  const [name] = given;
  if (name === undefined || given.length > 1) {
    const problem =
      name === undefined ? 'names no method' : `names more than one method (${given.join(', ')})`;
    report('', problem, 'set exactly one of httpGet, tcpSocket, exec and grpc');
    return undefined;
  }
  const fields = input[name] as JsonRecord;
  switch (name) {
    case 'httpGet':
      return readHttp(fields, report);
    case 'tcpSocket':
      return { kind: 'tcp', host: readHost(fields), port: readPort(name, fields, report) };
    case 'grpc':
      return { kind: 'grpc', port: readPort(name, fields, report), service: textOf(fields['service']) };
    case 'exec': {
      const command = Array.isArray(fields['command']) ? fields['command'].map(textOf) : [];
      const [program, ...args] = command;
      if (program) return { kind: 'exec', command: [program, ...args] };
      report('exec.command', 'names no program', 'set the program and its arguments as a list');
      return undefined;
    }
    default:
      return name satisfies never;
  }
}

function readHttp(fields: JsonRecord, report: Report): ReadinessMethod {
  const scheme = textOf(fields['scheme']).toLowerCase() || 'http';
  if (scheme !== 'http' && scheme !== 'https') {
    report('httpGet.scheme', `is ${quoteValue(fields['scheme'])}`, 'set http or https');
  }
  const given: readonly unknown[] = Array.isArray(fields['httpHeaders']) ? fields['httpHeaders'] : [];
  const headers = given.map((item, index) => {
    const { name, value } = isRecord(item) ? item : {};
    const header = [textOf(name), textOf(value)] as const;
    if (!isHeader(header)) {
      report(
        `httpGet.httpHeaders[${index}]`,
        'is no HTTP header',
        'set a name of letters, digits and dashes, and a value on one line',
      );
    }
    return header;
  });
  return {
    kind: 'http',
    host: readHost(fields),
    port: readPort('httpGet', fields, report),
    isTls: scheme === 'https',
    path: textOf(fields['path']),
    headers,
  };
}

function isHeader([name, value]: readonly [string, string]): boolean {
  return /^[!#$%&'*+\-.^`|~\w]+$/.test(name) && /^[\t\u0020-\u007e\u0080-\u00ff]*$/.test(value);
}

function readHost(fields: JsonRecord): string | undefined {
  return textOf(fields['host']) || undefined;
}

function readPort(method: string, fields: JsonRecord, report: Report): number {
  const port = fields['port'] ?? 0;
  if (typeof port === 'number' && Number.isInteger(port) && port >= 1 && port <= 65_535) return port;
  report(`${method}.port`, `is ${quoteValue(port)}`, 'set a port from 1 to 65535');
  return 0;
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
