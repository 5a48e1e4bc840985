import type { LogLevel } from '../log.ts';

/** Role of the proxy: the positional argument of `proxy`. */
export type ProxyRole = 'sidecar' | 'router' | 'waypoint';

/** How the agent trusts istiod; undefined in XdsConfig means plaintext (`controlPlaneAuthPolicy: NONE`). */
export interface XdsTlsConfig {
  /** Name that istiod's certificate must carry. */
  readonly serverName: string;
  /** PEM file, or the operating system's store. */
  readonly root: { readonly kind: 'file'; readonly path: string } | { readonly kind: 'system' };
  /** Read at every handshake; an unusable pair is skipped with a warning. */
  readonly clientCertificate: { readonly keyPath: string; readonly certificatePath: string } | undefined;
}

export interface XdsConfig {
  /** Unix socket that Envoy connects to. Absolute. */
  readonly socketPath: string;
  /** Permission bits of the socket. */
  readonly socketMode: number;
  /** `host:port`. */
  readonly discoveryAddress: string;
  readonly tls: XdsTlsConfig | undefined;
  /** Bearer token file, read anew for every stream. */
  readonly tokenPath: string;
  /** Sent as metadata `clusterid`, also when empty. */
  readonly clusterId: string;
  /** From `XDS_HEADER_<NAME>`: lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  /** Largest message from Envoy, in bytes (`ISTIO_GPRC_MAXRECVMSGSIZE`). */
  readonly maxRequestBytes: number;
  readonly maxConcurrentStreams: number;
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
}

export interface WasmConfig {
  /** `ISTIO_AGENT_ENABLE_WASM_REMOTE_LOAD_CONVERSION`; false: ECDS is relayed untouched. */
  readonly isConversionEnabled: boolean;
  /** Cache folder, absolute. Default `/var/lib/istio/data`. */
  readonly dataFolder: string;
  /** Hosts (`host` or `host:port`) whose TLS certificate is not verified; `*` is all. */
  readonly insecureRegistries: readonly string[];
  readonly moduleExpiryMs: number;
  readonly purgeIntervalMs: number;
  /** Per HTTP attempt, headers and body. */
  readonly httpRequestTimeoutMs: number;
  readonly httpMaxAttemptCount: number;
  /** Cap on every read of a module, compressed or not. */
  readonly maxModuleBytes: number;
  /** CIDR texts of `BLOCKED_CIDRS_IN_WASM_FETCH` that parsed. */
  readonly blockedCidrs: readonly string[];
  /** Where registry credentials of the agent itself are looked for. */
  readonly registryCredentials: {
    /** Candidate files in order; the first that exists is used. */
    readonly configPaths: readonly string[];
    /** `DOCKER_AUTH_CONFIG`: takes precedence. A secret. */
    readonly inlineConfig: string | undefined;
  };
}

/** One application endpoint whose metrics are merged. */
export interface ScrapeTarget {
  readonly port: number;
  readonly path: string;
}

export interface StatusConfig {
  /** 0: no status server. */
  readonly port: number;
  readonly envoyPrometheusPort: number;
  readonly isEnvoyStatsMerged: boolean;
  readonly isMetricsLocalOnly: boolean;
  /** Empty: no application part. */
  readonly applicationTargets: readonly ScrapeTarget[];
}

export interface EnvoyConfig {
  /** False with `DISABLE_ENVOY`. */
  readonly isEnabled: boolean;
  readonly binaryPath: string;
  readonly adminPort: number;
  /** Host of Envoy's admin address: 127.0.0.1 or ::1. */
  readonly localHost: string;
  /** ProxyConfig `customConfigFile`: used as it is, nothing is written. */
  readonly customConfigPath: string | undefined;
  /** Where the document is written. Absolute. */
  readonly bootstrapPath: string;
  /** The document, ready to be serialised. */
  readonly bootstrap: Readonly<Record<string, unknown>>;
  /** The whole command line after the binary. */
  readonly arguments: readonly string[];
  readonly terminationDrainMs: number;
  readonly minimumDrainMs: number;
  readonly exitOnZeroActiveConnections: boolean;
  /** Only sidecars drain inbound listeners alone. */
  readonly isInboundDrainOnly: boolean;
}

export interface LogConfig {
  readonly format: 'text' | 'json';
  readonly levels: ReadonlyMap<string, LogLevel>;
}

/** Everything the agent was told, parsed once and frozen; `agent.ts` builds all parts from it. */
export interface AgentConfig {
  readonly role: ProxyRole;
  readonly nodeId: string;
  readonly log: LogConfig;
  readonly xds: XdsConfig;
  readonly wasm: WasmConfig;
  readonly status: StatusConfig;
  readonly envoy: EnvoyConfig;
  /** Things worth a warning at start: accepted but ignored flags, bad values replaced by defaults. */
  readonly warnings: readonly string[];
}
