import type { LogLevel } from '../log.ts';
import type { AppProbes } from './app-probe-config.ts';
import type { BootstrapConfig } from './bootstrap-config.ts';
import type { CompliancePolicy } from './compliance-policy.ts';
import type { DnsConfig } from './dns-config.ts';
import type { IdentityConfig } from './identity-config.ts';
import type { ReadinessProbe } from './readiness-probe.ts';

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
  /** Undefined: no limits beyond TLS 1.2. */
  readonly compliance: CompliancePolicy | undefined;
}

export interface XdsConfig {
  /** Unix socket that Envoy connects to. Absolute. */
  readonly socketPath: string;
  /** Permission bits of the socket. */
  readonly socketMode: number;
  /** Group the socket is given to, where Envoy runs as another user than the agent (which is root then). */
  readonly socketGroupId: number | undefined;
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
  /** `WASM_POLICY_FILE`, absolute; undefined: everything is allowed. */
  readonly policyFile: string | undefined;
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
  /** Proxies for downloads, as curl and Go read them. URLs may hold user info: secrets. */
  readonly outboundProxy: {
    readonly http: string | undefined;
    readonly https: string | undefined;
    readonly noProxy: string;
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
  /** `--profiling`: CPU profile and heap statistics can be asked for. */
  readonly isProfilingOn: boolean;
  /** Empty: no application part. */
  readonly applicationTargets: readonly ScrapeTarget[];
}

/** How the probes and hooks are carried out that injection has pointed at the agent. */
export interface AppProbeConfig {
  readonly probes: AppProbes;
  /** Where the containers are reached; empty is the local host. */
  readonly destinationHost: string;
  readonly isHttp2Offered: boolean;
  /** Connections stay open for the next probe. */
  readonly isConnectionKept: boolean;
}

/** How the health of a workload outside Kubernetes is found. */
export interface WorkloadHealthConfig {
  readonly probe: ReadinessProbe;
  /** Probes without a host go to `localhost`, not to the first address. */
  readonly isLocalhostProbed: boolean;
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
  /** What the document is made from (`agent/envoy/bootstrap.ts`). */
  readonly bootstrap: BootstrapConfig;
  /** The whole command line after the binary. */
  readonly arguments: readonly string[];
  /** Variables set for Envoy on top of what it inherits. */
  readonly extraEnvironment: Readonly<Record<string, string>>;
  /** Working directory of Envoy: the paths in its bootstrap are relative. Absolute. */
  readonly workingFolder: string;
  /** Undefined: the agent's own user. */
  readonly runAs: { readonly userId: number; readonly groupId: number } | undefined;
  readonly terminationDrainMs: number;
  readonly minimumDrainMs: number;
  readonly exitOnZeroActiveConnections: boolean;
  /** Only sidecars drain inbound listeners alone. */
  readonly isInboundDrainOnly: boolean;
  /** Ports of the listeners that belong to the agent: their connections keep nobody from exiting. */
  readonly ownListenerPorts: readonly number[];
  /** Undefined: no bootstrap for proxyless gRPC is written. */
  readonly grpcBootstrap: GrpcBootstrapConfig | undefined;
}

/** The bootstrap of an application that speaks xDS itself. All paths are absolute. */
export interface GrpcBootstrapConfig {
  readonly path: string;
  /** The agent's XDS socket. */
  readonly socketPath: string;
  /** `OUTPUT_CERTS`, where the workload's certificate is written for the application; undefined: nowhere. */
  readonly certificateFolder: string | undefined;
}

export interface LogConfig {
  readonly format: 'text' | 'json';
  readonly levels: ReadonlyMap<string, LogLevel>;
}

/** Everything the agent was told, parsed once and frozen; `agent.ts` builds all parts from it. */
export interface AgentConfig {
  readonly role: ProxyRole;
  readonly nodeId: string;
  /** Addresses of the node, the pod's own first. */
  readonly instanceIps: readonly string[];
  /** DNS domain, last part of the node id. */
  readonly domain: string;
  /** The merged ProxyConfig in protobuf JSON form, without secrets: for the start log. */
  readonly effectiveProxyConfig: Readonly<Record<string, unknown>>;
  readonly log: LogConfig;
  readonly xds: XdsConfig;
  readonly identity: IdentityConfig;
  /** Limits of TLS; in the parts that connect too. Undefined: none. */
  readonly compliance: CompliancePolicy | undefined;
  readonly wasm: WasmConfig;
  readonly status: StatusConfig;
  readonly envoy: EnvoyConfig;
  /** Undefined: no DNS proxy. */
  readonly dns: DnsConfig | undefined;
  /** Undefined: there are none. */
  readonly appProbes: AppProbeConfig | undefined;
  /** Undefined: istiod is told nothing. */
  readonly workloadHealth: WorkloadHealthConfig | undefined;
  /** istiod is asked for the trust bundle of the mesh. */
  readonly isTrustBundleSubscribed: boolean;
  /** Things worth a warning at start: accepted but ignored flags, bad values replaced by defaults. */
  readonly warnings: readonly string[];
}
