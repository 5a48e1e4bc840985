/**
 * Every environment variable the agent knows. The table drives parsing, the documentation page and what Envoy is
 * not given. Names, defaults and meanings with origin `stock` are those of istio/istio
 * (`pilot/cmd/pilot-agent/options`, `pkg/wasm`, `pkg/istio-agent`, `pkg/bootstrap`).
 */

export type VariableType =
  | 'text'
  /** Undefined when unset: a set but empty value differs from an absent one. */
  | 'optional text'
  | 'boolean'
  | 'optional boolean'
  | 'integer'
  | 'number'
  /** Go form (`1h30m`); ms once parsed. */
  | 'duration'
  /** Octal permission bits. */
  | 'file mode';

export type VariableGroup =
  | 'Pod and node'
  | 'Proxy configuration'
  | 'Control plane connection'
  | 'Certificates'
  | 'Wasm modules'
  | 'Envoy'
  | 'DNS'
  | 'Status and metrics'
  | 'Probes'
  | 'Accepted without effect';

export interface VariableDefinition {
  readonly type: VariableType;
  /** As it would be written in the variable; absent for the optional types. */
  readonly default?: string;
  readonly group: VariableGroup;
  readonly meaning: string;
  /** `stock`: the stock agent has it; `ours`: there is no such setting in the stock agent. */
  readonly origin: 'stock' | 'ours';
  /** The value never appears in a log line or an error. */
  readonly isSecret?: true;
  /** Not in the environment that Envoy (and so a Wasm plugin with `host_env_keys`) gets. */
  readonly isKeptFromEnvoy?: true;
}

const stock = 'stock';
const ours = 'ours';

export const environmentTable = {
  POD_NAME: {
    type: 'text',
    default: '',
    group: 'Pod and node',
    origin: stock,
    meaning: 'Name of the pod; part of the node id.',
  },
  POD_NAMESPACE: {
    type: 'text',
    default: '',
    group: 'Pod and node',
    origin: stock,
    meaning: 'Namespace of the pod; part of the node id.',
  },
  INSTANCE_IP: {
    type: 'text',
    default: '',
    group: 'Pod and node',
    origin: stock,
    meaning: 'IP address of the pod; first address of the node.',
  },
  SERVICE_ACCOUNT: {
    type: 'text',
    default: '',
    group: 'Pod and node',
    origin: stock,
    meaning: 'Service account of the pod.',
  },
  HOST_IP: {
    type: 'text',
    default: '',
    group: 'Pod and node',
    origin: stock,
    meaning:
      'Replaces `$(HOST_IP)` in tracer, statsd, metrics and access log addresses and in the bootstrap override.',
  },
  ISTIO_META_CLUSTER_ID: {
    type: 'text',
    default: '',
    group: 'Pod and node',
    origin: stock,
    meaning: 'Cluster id, sent to istiod as metadata `clusterid`, also when empty.',
  },
  MALLOC_ARENA_MAX: {
    type: 'optional text',
    group: 'Pod and node',
    origin: ours,
    isKeptFromEnvoy: true,
    meaning:
      "Malloc arenas of the agent's own process, read by glibc. The image's start script sets 1, which takes 2 MB less memory, unless the pod sets another number.",
  },
  NODE_EXTRA_CA_CERTS: {
    type: 'optional text',
    group: 'Pod and node',
    origin: ours,
    meaning:
      "PEM file of authorities that are trusted beside those of the system, where no setting names others. Read by Node.js. Of Node's and OpenSSL's own variables this one and `SSL_CERT_FILE` and `SSL_CERT_DIR` count; the image's start script takes away those that would change the process (`NODE_OPTIONS`, `NODE_DEBUG`, `OPENSSL_CONF` and the like).",
  },
  FERRY_IGNORED_VARIABLES: {
    type: 'text',
    default: '',
    group: 'Pod and node',
    origin: ours,
    isKeptFromEnvoy: true,
    meaning:
      "Set by the image's start script: the variables that it has taken away, for a warning in the log.",
  },
  ISTIO_BASE_VERSION: {
    type: 'text',
    default: '',
    group: 'Pod and node',
    origin: ours,
    meaning:
      'Istio version the image stands for, set by the image build. Reported to istiod when `ISTIO_META_ISTIO_VERSION` is unset.',
  },

  PROXY_CONFIG: {
    type: 'text',
    default: '',
    group: 'Proxy configuration',
    origin: stock,
    meaning:
      'ProxyConfig as YAML or JSON, set by injection. Lies over the mesh config file and under the annotation `proxy.istio.io/config`.',
  },
  ISTIO_CPU_LIMIT: {
    type: 'integer',
    default: '0',
    group: 'Proxy configuration',
    origin: stock,
    meaning:
      'CPU limit of the container, rounded up. Number of Envoy workers when ProxyConfig has no `concurrency`.',
  },

  ISTIO_DELTA_XDS: {
    type: 'boolean',
    default: 'true',
    group: 'Control plane connection',
    origin: stock,
    meaning: 'Envoy uses incremental ADS; false: state of the world.',
  },
  XDS_ROOT_CA: {
    type: 'text',
    default: '',
    group: 'Control plane connection',
    origin: stock,
    meaning: 'PEM file with the roots istiod is trusted by; `SYSTEM` is the store of the operating system.',
  },
  ISTIOD_SAN: {
    type: 'text',
    default: '',
    group: 'Control plane connection',
    origin: stock,
    meaning:
      'Name that the certificate of istiod must carry, instead of the host part of the discovery address.',
  },
  PILOT_CERT_PROVIDER: {
    type: 'text',
    default: 'istiod',
    group: 'Control plane connection',
    origin: stock,
    meaning: 'Who issued the certificate of istiod: `istiod`, `custom`, `k8s.io/<signer>` or `none`.',
  },
  PROV_CERT: {
    type: 'text',
    default: '',
    group: 'Control plane connection',
    origin: stock,
    meaning: 'Folder with provisioned `key.pem`, `cert-chain.pem` and `root-cert.pem` (virtual machines).',
  },
  FILE_MOUNTED_CERTS: {
    type: 'boolean',
    default: 'false',
    group: 'Control plane connection',
    origin: stock,
    meaning:
      'Certificates are mounted files, named by the `ISTIO_META_TLS_CLIENT_*` keys of `proxyMetadata`.',
  },
  GRPC_KEEPALIVE_INTERVAL: {
    type: 'duration',
    default: '30s',
    group: 'Control plane connection',
    origin: stock,
    meaning: 'Idle time after which a connection is probed with a PING.',
  },
  GRPC_KEEPALIVE_TIMEOUT: {
    type: 'duration',
    default: '10s',
    group: 'Control plane connection',
    origin: stock,
    meaning: 'Time a PING may stay unanswered before the connection counts as dead.',
  },
  ISTIO_GPRC_MAXSTREAMS: {
    type: 'integer',
    default: '100000',
    group: 'Control plane connection',
    origin: stock,
    meaning:
      'Most streams at once on a connection of Envoy; 1000 at the most. The misspelling is the real name.',
  },
  ISTIO_GPRC_MAXRECVMSGSIZE: {
    type: 'integer',
    default: '4194304',
    group: 'Control plane connection',
    origin: stock,
    meaning: 'Largest message from Envoy, in bytes. The misspelling is the real name.',
  },
  PROXY_CONFIG_XDS_AGENT: {
    type: 'boolean',
    default: 'false',
    group: 'Control plane connection',
    origin: stock,
    meaning: 'The agent asks istiod for the trust bundle of the mesh and trusts it beside its own root.',
  },
  XDS_SOCKET_MODE: {
    type: 'file mode',
    default: '',
    group: 'Control plane connection',
    origin: ours,
    meaning:
      'Permission bits of the XDS socket, octal. Unset: `0600`, or `0660` with the group of Envoy where Envoy runs as another user.',
  },

  CA_ADDR: {
    type: 'text',
    default: '',
    group: 'Certificates',
    origin: stock,
    meaning:
      '`host:port` of the certificate authority; empty: the discovery address. Port 15010 is plaintext, every other one TLS.',
  },
  CA_PROVIDER: {
    type: 'text',
    default: 'Citadel',
    group: 'Certificates',
    origin: stock,
    meaning:
      '`Citadel`: an authority with the API of istiod. `GkeWorkloadCertificate`: files that GKE mounts. Others are an error.',
  },
  CA_ROOT_CA: {
    type: 'text',
    default: '',
    group: 'Certificates',
    origin: stock,
    meaning:
      'PEM file with the roots the authority is trusted by; `SYSTEM` is the store of the operating system.',
  },
  TRUST_DOMAIN: {
    type: 'text',
    default: 'cluster.local',
    group: 'Certificates',
    origin: stock,
    meaning: 'Trust domain of the SPIFFE identity that is asked for.',
  },
  SECRET_TTL: {
    type: 'duration',
    default: '24h',
    group: 'Certificates',
    origin: stock,
    meaning: 'Life that is asked for; the authority decides.',
  },
  SECRET_GRACE_PERIOD_RATIO: {
    type: 'number',
    default: '0.5',
    group: 'Certificates',
    origin: stock,
    meaning: 'Part of the life of a certificate that is left when it is replaced, from 0 to 1.',
  },
  SECRET_GRACE_PERIOD_RATIO_JITTER: {
    type: 'number',
    default: '0.01',
    group: 'Certificates',
    origin: stock,
    meaning: 'The ratio is moved up or down at random by up to this much.',
  },
  WORKLOAD_RSA_KEY_SIZE: {
    type: 'integer',
    default: '2048',
    group: 'Certificates',
    origin: stock,
    meaning: 'Bits of the RSA key of the workload, 2048 or more.',
  },
  ECC_SIGNATURE_ALGORITHM: {
    type: 'text',
    default: '',
    group: 'Certificates',
    origin: stock,
    meaning: '`ECDSA`: the key of the workload is an elliptic curve key; empty: RSA.',
  },
  ECC_CURVE: {
    type: 'text',
    default: 'P256',
    group: 'Certificates',
    origin: stock,
    meaning: '`P256` or `P384`; anything else means `P256`.',
  },
  PKCS8_KEY: {
    type: 'boolean',
    default: 'false',
    group: 'Certificates',
    origin: stock,
    meaning: 'The key of the workload is given as PKCS#8 instead of PKCS#1 or SEC 1.',
  },
  ISTIO_META_CERT_SIGNER: {
    type: 'text',
    default: '',
    group: 'Certificates',
    origin: stock,
    meaning: 'Signer that the authority is asked for, also when empty.',
  },
  CREDENTIAL_FETCHER_TYPE: {
    type: 'text',
    default: 'JWT',
    group: 'Certificates',
    origin: stock,
    meaning: '`JWT`: the projected service account token. Others are an error.',
  },
  OUTPUT_CERTS: {
    type: 'text',
    default: '',
    group: 'Certificates',
    origin: stock,
    meaning:
      'Folder that `key.pem`, `cert-chain.pem` and `root-cert.pem` of the workload are written to, at each rotation again. Readiness waits for them.',
  },
  FILE_DEBOUNCE_DURATION: {
    type: 'duration',
    default: '100ms',
    group: 'Certificates',
    origin: stock,
    meaning:
      'Time from a change of a certificate file to the look at it, and first wait when it cannot be read.',
  },
  PILOT_ENABLE_CA_CRL: {
    type: 'boolean',
    default: 'true',
    group: 'Certificates',
    origin: stock,
    meaning:
      'Envoy is given the revocation list `./var/run/secrets/istio/crl/ca-crl.pem` with every root while the file is there.',
  },
  KUBERNETES_SERVICE_HOST: {
    type: 'text',
    default: '',
    group: 'Certificates',
    origin: stock,
    meaning: 'Set by Kubernetes. When set, the files of `OUTPUT_CERTS` have mode `0644` instead of `0600`.',
  },

  ISTIO_AGENT_ENABLE_WASM_REMOTE_LOAD_CONVERSION: {
    type: 'boolean',
    default: 'true',
    group: 'Wasm modules',
    origin: stock,
    meaning:
      'Extension configs with a remote module are downloaded and rewritten; false: they are relayed untouched.',
  },
  WASM_DATA_DIR: {
    type: 'text',
    default: '/var/lib/istio/data',
    group: 'Wasm modules',
    origin: ours,
    meaning: 'Folder of the module cache. The stock agent always uses the default.',
  },
  WASM_POLICY_FILE: {
    type: 'text',
    default: '',
    group: 'Wasm modules',
    origin: ours,
    meaning:
      "File with the operator's rules on Wasm modules ([policy.md](policy.md)). Empty: everything is allowed.",
  },
  WASM_INSECURE_REGISTRIES: {
    type: 'text',
    default: '',
    group: 'Wasm modules',
    origin: stock,
    meaning: 'Comma list of `host` or `host:port` whose TLS certificate is not verified; `*` is all.',
  },
  WASM_MODULE_EXPIRY: {
    type: 'duration',
    default: '24h',
    group: 'Wasm modules',
    origin: stock,
    meaning: 'Modules that nobody asked for in this time are deleted. `0` is the default.',
  },
  WASM_PURGE_INTERVAL: {
    type: 'duration',
    default: '1h',
    group: 'Wasm modules',
    origin: stock,
    meaning: 'Time between two looks for expired modules. `0` is the default.',
  },
  WASM_HTTP_REQUEST_TIMEOUT: {
    type: 'duration',
    default: '15s',
    group: 'Wasm modules',
    origin: stock,
    meaning: 'Time for one HTTP attempt, headers and body. `0` is 5s.',
  },
  WASM_HTTP_REQUEST_MAX_RETRIES: {
    type: 'integer',
    default: '5',
    group: 'Wasm modules',
    origin: stock,
    meaning: 'Number of HTTP attempts, the first included. Below 1 is 1.',
  },
  ISTIO_WASM_MAX_BINARY_SIZE_BYTES: {
    type: 'integer',
    default: '268435456',
    group: 'Wasm modules',
    origin: stock,
    meaning: 'Cap on every read of a module, compressed or not.',
  },
  BLOCKED_CIDRS_IN_WASM_FETCH: {
    type: 'text',
    default: '',
    group: 'Wasm modules',
    origin: stock,
    meaning:
      'Comma list of address ranges that are never dialled, in addition to link-local and cloud metadata.',
  },
  DOCKER_CONFIG: {
    type: 'text',
    default: '',
    group: 'Wasm modules',
    origin: stock,
    isKeptFromEnvoy: true,
    meaning:
      'Folder with a docker `config.json` that holds registry credentials; instead of `$HOME/.docker`.',
  },
  REGISTRY_AUTH_FILE: {
    type: 'text',
    default: '',
    group: 'Wasm modules',
    origin: stock,
    isKeptFromEnvoy: true,
    meaning: 'Registry credentials file, used when there is no docker config.',
  },
  DOCKER_AUTH_CONFIG: {
    type: 'text',
    default: '',
    group: 'Wasm modules',
    origin: stock,
    isSecret: true,
    isKeptFromEnvoy: true,
    meaning: 'Registry credentials as the text of a docker `config.json`. Goes before all files.',
  },
  XDG_RUNTIME_DIR: {
    type: 'text',
    default: '',
    group: 'Wasm modules',
    origin: stock,
    meaning: '`containers/auth.json` below it holds registry credentials, used when nothing else does.',
  },
  HOME: {
    type: 'text',
    default: '',
    group: 'Wasm modules',
    origin: stock,
    meaning: '`.docker/config.json` below it holds registry credentials.',
  },
  HTTP_PROXY: {
    type: 'text',
    default: '',
    group: 'Wasm modules',
    origin: stock,
    isSecret: true,
    isKeptFromEnvoy: true,
    meaning:
      'Proxy for downloads over http. May hold user info, so it counts as a secret. `http_proxy` is read too.',
  },
  HTTPS_PROXY: {
    type: 'text',
    default: '',
    group: 'Wasm modules',
    origin: stock,
    isSecret: true,
    isKeptFromEnvoy: true,
    meaning:
      'Proxy for downloads over https. May hold user info, so it counts as a secret. `https_proxy` is read too.',
  },
  NO_PROXY: {
    type: 'text',
    default: '',
    group: 'Wasm modules',
    origin: stock,
    meaning: 'Comma list of hosts and ranges that are reached without a proxy. `no_proxy` is read too.',
  },

  DISABLE_ENVOY: {
    type: 'boolean',
    default: 'false',
    group: 'Envoy',
    origin: stock,
    meaning: 'The agent runs without Envoy (proxyless gRPC).',
  },
  GRPC_XDS_BOOTSTRAP: {
    type: 'text',
    default: './etc/istio/proxy/grpc-bootstrap.json',
    group: 'Envoy',
    origin: stock,
    meaning: 'Where the bootstrap file for proxyless gRPC is written; empty: nowhere.',
  },
  ENVOY_STATUS_PORT: {
    type: 'integer',
    default: '15021',
    group: 'Envoy',
    origin: stock,
    meaning: 'Port of the Envoy listener for readiness.',
  },
  ENVOY_PROMETHEUS_PORT: {
    type: 'integer',
    default: '15090',
    group: 'Envoy',
    origin: stock,
    meaning: 'Port of the Envoy listener for its own metrics.',
  },
  ENVOY_SECURE_METRICS_PORT: {
    type: 'integer',
    default: '0',
    group: 'Envoy',
    origin: stock,
    meaning: 'Port of an Envoy listener with mutual TLS for its own metrics; 0: none.',
  },
  ENVOY_SECURE_MERGED_METRICS_PORT: {
    type: 'integer',
    default: '0',
    group: 'Envoy',
    origin: stock,
    meaning: 'Port of an Envoy listener with mutual TLS for merged metrics; 0: none.',
  },
  ENVOY_STATUS_PORT_ENABLE_PROXY_PROTOCOL: {
    type: 'boolean',
    default: 'false',
    group: 'Envoy',
    origin: stock,
    meaning: 'The readiness listener accepts the PROXY protocol.',
  },
  MINIMUM_DRAIN_DURATION: {
    type: 'duration',
    default: '5s',
    group: 'Envoy',
    origin: stock,
    meaning: 'Time from the drain to the first look for active connections.',
  },
  EXIT_ON_ZERO_ACTIVE_CONNECTIONS: {
    type: 'boolean',
    default: 'false',
    group: 'Envoy',
    origin: stock,
    meaning: 'On termination wait until no connection is active, instead of `terminationDrainDuration`.',
  },
  ENVOY_SKIP_DEPRECATED_LOGS: {
    type: 'boolean',
    default: 'true',
    group: 'Envoy',
    origin: stock,
    meaning: 'Envoy is started with `--skip-deprecated-logs`.',
  },
  ISTIO_ENVOY_ENABLE_CORE_DUMP: {
    type: 'boolean',
    default: 'false',
    group: 'Envoy',
    origin: stock,
    meaning: 'Envoy is started with `--enable-core-dump`.',
  },
  ISTIO_BOOTSTRAP_OVERRIDE: {
    type: 'text',
    default: '',
    group: 'Envoy',
    origin: stock,
    meaning: 'File (YAML or JSON) that Envoy merges over its bootstrap.',
  },
  ISTIO_BOOTSTRAP: {
    type: 'text',
    default: '',
    group: 'Envoy',
    origin: stock,
    meaning:
      'Bootstrap template of the stock agent. Templates are not read here: a warning is logged, use `ISTIO_BOOTSTRAP_OVERRIDE`.',
  },
  ISTIO_DUAL_STACK: {
    type: 'boolean',
    default: 'false',
    group: 'Envoy',
    origin: stock,
    meaning: 'With addresses of both families Envoy listens on both.',
  },
  PEER_METADATA_DISCOVERY: {
    type: 'optional boolean',
    group: 'Envoy',
    origin: stock,
    meaning:
      'Envoy discovers the metadata of its peers (needs the Envoy build of Istio). Unset: the value of `ISTIO_META_ENABLE_HBONE`.',
  },
  HTTP_STRIP_FRAGMENT_FROM_PATH_UNSAFE_IF_DISABLED: {
    type: 'boolean',
    default: 'true',
    group: 'Envoy',
    origin: stock,
    meaning: 'False sets the Envoy runtime flag of the same name to false.',
  },
  COMPLIANCE_POLICY: {
    type: 'text',
    default: '',
    group: 'Envoy',
    origin: stock,
    meaning:
      '`fips-140-2`, `fips-140-3` or `pqc`: limits TLS of Envoy, and of the agent towards istiod and the certificate authority, to what the policy allows. Another value, or a policy this Node.js cannot keep, is an error.',
  },
  WORKLOAD_IDENTITY_SOCKET_FILE: {
    type: 'text',
    default: 'socket',
    group: 'Envoy',
    origin: stock,
    meaning: 'File name of the SDS socket below `./var/run/secrets/workload-spiffe-uds`.',
  },
  ISTIO_META_DNS_CAPTURE: {
    type: 'boolean',
    default: 'false',
    group: 'DNS',
    origin: stock,
    meaning: 'A sidecar answers the DNS queries of its pod, which the traffic rules lead to it.',
  },
  ISTIO_META_ENABLE_DNS_SERVER: {
    type: 'boolean',
    default: 'false',
    group: 'DNS',
    origin: stock,
    meaning: 'The agent answers DNS queries, whatever its role.',
  },
  DNS_PROXY_ADDR: {
    type: 'optional text',
    group: 'DNS',
    origin: stock,
    meaning:
      'Address of the DNS proxy, `host:port`, UDP and TCP; told to istiod too. Unset: `localhost:15053`. `localhost` is each address family that has a nameserver, no host is all addresses. Port 53 is for root: names are then resolved before istiod is reached, and Envoy runs as user 1337.',
  },
  DNS_FORWARD_TIMEOUT: {
    type: 'duration',
    default: '5s',
    group: 'DNS',
    origin: stock,
    meaning: 'Time for a nameserver to answer a query that is not for the mesh. `0` is the default.',
  },
  DNS_FORWARD_PARALLEL: {
    type: 'boolean',
    default: 'false',
    group: 'DNS',
    origin: stock,
    meaning: 'All nameservers are asked at once and the first answer counts; false: one after the other.',
  },
  DNS_RESOLV_CONF: {
    type: 'text',
    default: '',
    group: 'DNS',
    origin: ours,
    meaning:
      'File with the nameservers and search domains, absolute, read once. Unset: `/etc/resolv.conf`, on port 53 first `/var/lib/istio/resolv.conf`.',
  },

  ISTIO_PROMETHEUS_ANNOTATIONS: {
    type: 'optional text',
    group: 'Status and metrics',
    origin: stock,
    meaning:
      'JSON set by injection: which endpoints of the application are merged into the metrics of a sidecar.',
  },
  PILOT_AGENT_MERGE_ENVOY_STATS: {
    type: 'boolean',
    default: 'true',
    group: 'Status and metrics',
    origin: stock,
    meaning: 'The metrics of Envoy are part of the merged metrics.',
  },
  METRICS_LOCALHOST_ACCESS_ONLY: {
    type: 'boolean',
    default: 'false',
    group: 'Status and metrics',
    origin: stock,
    meaning:
      'Merged metrics are given to local clients only. As a key of `proxyMetadata` it also binds the metrics listener of Envoy to the local host.',
  },

  ISTIO_KUBE_APP_PROBERS: {
    type: 'text',
    default: '',
    group: 'Probes',
    origin: stock,
    meaning:
      'JSON set by injection: the probes and lifecycle hooks of the containers, by the path at which the kubelet asks the agent instead.',
  },
  ISTIO_ENABLE_HTTP2_PROBING: {
    type: 'boolean',
    default: 'true',
    group: 'Probes',
    origin: stock,
    meaning: 'HTTPS probes offer HTTP/2.',
  },
  ENABLE_PROBE_KEEPALIVE_CONNECTIONS: {
    type: 'boolean',
    default: 'false',
    group: 'Probes',
    origin: stock,
    meaning: 'HTTP probes keep their connections for the next probe; false: each probe has its own.',
  },
  REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION: {
    type: 'boolean',
    default: 'false',
    group: 'Probes',
    origin: stock,
    meaning:
      'Probes that name no host go to `localhost` instead of the address of the pod, `readinessProbe` of ProxyConfig too.',
  },

  JWT_POLICY: {
    type: 'text',
    default: 'third-party-jwt',
    group: 'Accepted without effect',
    origin: stock,
    meaning: 'The token is always the projected one.',
  },
  XDS_AUTH_PROVIDER: {
    type: 'text',
    default: '',
    group: 'Accepted without effect',
    origin: stock,
    meaning: 'No effect in the open source stock agent either.',
  },
  CREDENTIAL_IDENTITY_PROVIDER: {
    type: 'text',
    default: 'GoogleComputeEngine',
    group: 'Accepted without effect',
    origin: stock,
    meaning: 'No effect in the stock agent of today either.',
  },
  CLOUD_PLATFORM: {
    type: 'text',
    default: '',
    group: 'Accepted without effect',
    origin: stock,
    meaning: 'Cloud metadata is not probed: istiod takes the locality from the node.',
  },
  GCP_METADATA: {
    type: 'text',
    default: '',
    group: 'Accepted without effect',
    origin: stock,
    meaning: 'Cloud metadata is not used.',
  },
  GCP_QUOTA_PROJECT: {
    type: 'text',
    default: '',
    group: 'Accepted without effect',
    origin: stock,
    meaning: 'Cloud metadata is not used.',
  },
  GCP_ZONE: {
    type: 'text',
    default: '',
    group: 'Accepted without effect',
    origin: stock,
    meaning: 'Cloud metadata is not used.',
  },
  GOMEMLIMIT: {
    type: 'text',
    default: '',
    group: 'Accepted without effect',
    origin: stock,
    meaning: 'For the Go runtime. Node.js takes its heap limit from the memory limit of the container.',
  },
} as const satisfies Readonly<Record<string, VariableDefinition>>;

export type VariableName = keyof typeof environmentTable;

/** A family of variables whose names share a start. */
export interface VariablePrefix {
  readonly prefix: string;
  readonly meaning: string;
  readonly isKeptFromEnvoy?: true;
}

export const environmentPrefixes: readonly VariablePrefix[] = [
  { prefix: 'ISTIO_META_', meaning: '`ISTIO_META_<KEY>` becomes `<KEY>` of the node metadata.' },
  {
    prefix: 'ISTIO_METAJSON_',
    meaning:
      'A JSON object whose members become keys of the node metadata. `ISTIO_METAJSON_LABELS` is the static labels too.',
  },
  {
    prefix: 'XDS_HEADER_',
    isKeptFromEnvoy: true,
    meaning: '`XDS_HEADER_<NAME>` is sent to istiod as gRPC metadata `<name>`. May be a credential.',
  },
  {
    prefix: 'CA_HEADER_',
    isKeptFromEnvoy: true,
    meaning: '`CA_HEADER_<NAME>`: gRPC metadata for the certificate authority. May be a credential.',
  },
];
