/** Flags of the command line: names, defaults and meanings of the stock agent (`pilot/cmd/pilot-agent/app/cmd.go`). */

export interface FlagDefinition {
  /** Without dashes. */
  readonly name: string;
  /** One letter, without a dash. */
  readonly short?: string;
  /** A boolean takes its value only as `--flag=value`; a list flag may be given several times. */
  readonly type: 'text' | 'boolean' | 'integer' | 'text list';
  /** As it would be written on the command line. */
  readonly default: string;
  readonly meaning: string;
}

/** On every command. */
export const rootFlags = [
  {
    name: 'log_as_json',
    type: 'boolean',
    default: 'false',
    meaning: 'Log lines are JSON, those of Envoy too.',
  },
  {
    name: 'log_caller',
    type: 'text',
    default: '',
    meaning: 'Accepted without effect: lines carry no caller.',
  },
  {
    name: 'log_output_level',
    type: 'text',
    default: '',
    meaning:
      'Comma list of scope:level over default:info,grpc:none. A bare level is the scope default, the scope all is every scope.',
  },
  {
    name: 'log_stacktrace_level',
    type: 'text',
    default: 'default:none',
    meaning: 'Accepted without effect: lines carry no stack.',
  },
  {
    name: 'log_target',
    type: 'text list',
    default: 'stdout',
    meaning: 'Where the log goes: stdout, stderr or a file. May be given several times.',
  },
  { name: 'vklog', type: 'integer', default: '0', meaning: 'Accepted without effect.' },
] as const satisfies readonly FlagDefinition[];

/** Of `proxy`. */
export const proxyFlags = [
  {
    name: 'concurrency',
    type: 'integer',
    default: '0',
    meaning: 'Number of Envoy workers. Legacy: prefer concurrency of ProxyConfig, which it overrides.',
  },
  {
    name: 'domain',
    type: 'text',
    default: '',
    meaning: 'DNS domain suffix. Empty: ${POD_NAMESPACE}.svc.cluster.local.',
  },
  {
    name: 'meshConfig',
    type: 'text',
    default: './etc/istio/config/mesh',
    meaning: 'Mesh config file, of which defaultConfig is read. It need not exist.',
  },
  { name: 'outlierLogPath', type: 'text', default: '', meaning: 'File for outlier events of Envoy.' },
  {
    name: 'profiling',
    type: 'boolean',
    default: 'true',
    meaning: 'CPU profile and heap statistics on the status port, for local peers only.',
  },
  {
    name: 'proxyComponentLogLevel',
    type: 'text',
    default: '',
    meaning: 'Component log levels of Envoy, used when --proxyLogLevel names none. Deprecated.',
  },
  {
    name: 'proxyLogLevel',
    type: 'text',
    default: 'warning',
    meaning:
      'Log level of Envoy: trace, debug, info, warning, error, critical or off; with components: info,misc:error.',
  },
  {
    name: 'serviceCluster',
    type: 'text',
    default: 'istio-proxy',
    meaning: 'Service cluster, used when ProxyConfig has an empty one.',
  },
  {
    name: 'stsPort',
    type: 'integer',
    default: '0',
    meaning: 'Only reported in the node metadata: there is no STS server.',
  },
  {
    name: 'templateFile',
    type: 'text',
    default: '',
    meaning: 'Bootstrap template. Templates are not read: a warning is logged.',
  },
  { name: 'tokenManagerPlugin', type: 'text', default: '', meaning: 'Accepted without effect.' },
] as const satisfies readonly FlagDefinition[];

/** Of `wait`. */
export const waitFlags = [
  { name: 'periodMillis', type: 'integer', default: '500', meaning: 'Milliseconds between attempts.' },
  {
    name: 'requestTimeoutMillis',
    type: 'integer',
    default: '500',
    meaning: 'Milliseconds to wait for one answer.',
  },
  {
    name: 'timeoutSeconds',
    type: 'integer',
    default: '60',
    meaning: 'Seconds to wait for Envoy to be ready.',
  },
  {
    name: 'url',
    type: 'text',
    default: 'http://localhost:15021/healthz/ready',
    meaning: 'URL that is asked; 200 is ready.',
  },
] as const satisfies readonly FlagDefinition[];

/** Of `request`. */
export const requestFlags = [
  {
    name: 'debug-port',
    type: 'integer',
    default: '15000',
    meaning: 'Local port of the request: 15000, 15004, 15020 or 15021.',
  },
] as const satisfies readonly FlagDefinition[];

/** Of `version`. */
export const versionFlags = [
  { name: 'output', short: 'o', type: 'text', default: '', meaning: 'json or yaml.' },
  { name: 'short', short: 's', type: 'boolean', default: 'false', meaning: 'Only the version number.' },
] as const satisfies readonly FlagDefinition[];
