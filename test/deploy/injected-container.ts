/**
 * The proxy container as istiod's templates write it: command line, variables, mounts, user, probes. Source:
 * istio/istio `manifests/charts/istio-control/istio-discovery/files/`.
 */

/** A volume mount of the container. */
export interface InjectedMount {
  readonly path: string;
  /** `writable`: an emptyDir; `files`: a ConfigMap, projected token or downward API volume, read-only. */
  readonly volume:
    | { readonly kind: 'writable' }
    | { readonly kind: 'files'; readonly files: Readonly<Record<string, string>> };
}

/** A probe of the kubelet. */
export interface InjectedProbe {
  readonly periodSeconds: number;
  /** An answer that takes longer is a failure. */
  readonly timeoutSeconds: number;
  /** After so many failures one upon the other the kubelet kills the container. */
  readonly failureThreshold: number;
}

export interface InjectedContainer {
  readonly name: 'sidecar' | 'gateway' | 'kube-gateway' | 'waypoint';
  /** `args`; there is no `command`. References to variables are expanded, as the kubelet does. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly mounts: readonly InjectedMount[];
  readonly userId: number;
  /** Of the startup and the readiness probe. */
  readonly readinessUrl: string;
  /** Undefined: the template has none. */
  readonly startupProbe: InjectedProbe | undefined;
  /** Undefined: the template has none. */
  readonly hooks:
    | {
        /** `lifecycle.preStop` of a native sidecar. */
        readonly preStop: readonly string[];
        /** `lifecycle.postStart` with `holdApplicationUntilProxyStarts`. */
        readonly postStart: readonly string[];
      }
    | undefined;
}

/** What differs from pod to pod. */
export interface InjectedPod {
  readonly discoveryAddress: string;
  /** `global.caAddress`; default: the discovery address. */
  readonly caAddress?: string;
  /** PEM, from the ConfigMap `istio-ca-root-cert`. */
  readonly rootCertificate: string;
  readonly token: string;
  readonly instanceIp: string;
}

/** Mounted into sidecars alone. */
const crlFolder = '/var/run/secrets/istio/crl';

/** The container of a sidecar with the default values of the chart. Source: `injection-template.yaml`. */
export function injectedSidecar(pod: InjectedPod): InjectedContainer {
  const writable = { kind: 'writable' } as const;
  const namespace = 'shop';
  return {
    name: 'sidecar',
    args: [
      'proxy',
      'sidecar',
      '--domain',
      `${namespace}.svc.cluster.local`,
      '--proxyLogLevel=warning',
      '--proxyComponentLogLevel=misc:error',
      '--log_output_level=default:info',
    ],
    env: {
      PILOT_CERT_PROVIDER: 'istiod',
      CA_ADDR: pod.caAddress ?? pod.discoveryAddress,
      POD_NAME: 'web-7c9d-x2x4v',
      POD_NAMESPACE: namespace,
      INSTANCE_IP: pod.instanceIp,
      SERVICE_ACCOUNT: 'web',
      HOST_IP: '192.0.2.1',
      ISTIO_CPU_LIMIT: '2',
      PROXY_CONFIG: `${JSON.stringify({ discoveryAddress: pod.discoveryAddress })}\n`,
      ISTIO_META_POD_PORTS: '[\n    {"containerPort":8080,"protocol":"TCP"}\n]',
      ISTIO_META_APP_CONTAINERS: 'web',
      GOMEMLIMIT: '1073741824',
      ISTIO_META_CLUSTER_ID: 'Kubernetes',
      ISTIO_META_NODE_NAME: 'node-1',
      ISTIO_META_INTERCEPTION_MODE: 'REDIRECT',
      ISTIO_META_WORKLOAD_NAME: 'web',
      ISTIO_META_OWNER: `kubernetes://apis/apps/v1/namespaces/${namespace}/deployments/web`,
      ISTIO_META_MESH_ID: 'cluster.local',
      TRUST_DOMAIN: 'cluster.local',
      ISTIO_PROMETHEUS_ANNOTATIONS: '{"scrape":"true","path":"","port":"8080"}',
      ISTIO_KUBE_APP_PROBERS:
        '{"/app-health/web/readyz":{"httpGet":{"path":"/ready","port":8080,"scheme":"HTTP"},"timeoutSeconds":1}}',
      KUBERNETES_SERVICE_HOST: '10.96.0.1',
      KUBERNETES_SERVICE_PORT: '443',
    },
    mounts: [
      { path: '/var/run/secrets/workload-spiffe-uds', volume: writable },
      { path: '/var/run/secrets/credential-uds', volume: writable },
      { path: '/var/run/secrets/workload-spiffe-credentials', volume: writable },
      {
        path: '/var/run/secrets/istio',
        volume: { kind: 'files', files: { 'root-cert.pem': pod.rootCertificate } },
      },
      // An optional ConfigMap that is not there.
      { path: crlFolder, volume: { kind: 'files', files: {} } },
      { path: '/var/lib/istio/data', volume: writable },
      { path: '/etc/istio/proxy', volume: writable },
      { path: '/var/run/secrets/tokens', volume: { kind: 'files', files: { 'istio-token': pod.token } } },
      {
        path: '/etc/istio/pod',
        volume: {
          kind: 'files',
          files: {
            labels: 'app="web"\npod-template-hash="7c9d"\n',
            annotations: 'prometheus.io/port="15020"\nkubernetes.io/config.seen="2026-01-01T00:00:00Z"\n',
          },
        },
      },
    ],
    userId: 1337,
    readinessUrl: 'http://127.0.0.1:15021/healthz/ready',
    startupProbe: { periodSeconds: 1, timeoutSeconds: 3, failureThreshold: 600 },
    hooks: {
      preStop: ['pilot-agent', 'request', '--debug-port=15020', 'POST', 'drain'],
      postStart: ['pilot-agent', 'wait'],
    },
  };
}

/** What injection adds for the application's probes and metrics. */
const applicationVariables: ReadonlySet<string> = new Set([
  'ISTIO_PROMETHEUS_ANNOTATIONS',
  'ISTIO_KUBE_APP_PROBERS',
]);

/**
 * The container of a gateway with the default values of the chart. Source: `gateway-injection-template.yaml`: no lifecycle,
 * no startup probe, no application in the pod.
 */
export function injectedGateway(pod: InjectedPod): InjectedContainer {
  const { args, env, mounts, ...same } = injectedSidecar(pod);
  const others = Object.entries(env).filter(([variable]) => !applicationVariables.has(variable));
  return {
    ...same,
    name: 'gateway',
    args: args.map((word) => (word === 'sidecar' ? 'router' : word)),
    env: { ...Object.fromEntries(others), ISTIO_META_APP_CONTAINERS: '' },
    mounts: mounts.filter(({ path }) => path !== crlFolder),
    startupProbe: undefined,
    hooks: undefined,
  };
}

/** Of what istiod deploys for a Gateway resource: ready within half a minute, each answer within a second. */
const deployedProbe: InjectedProbe = { periodSeconds: 1, timeoutSeconds: 1, failureThreshold: 30 };

/** `--log=value` as the two words `--log` and `value`: the templates of deployments write them so. */
function inTwoWords(args: readonly string[]): readonly string[] {
  return args.flatMap((word) => word.split('='));
}

/**
 * The container of a gateway that istiod deploys for a Gateway resource of the class `istio`. Source:
 * `kube-gateway.yaml`.
 */
export function injectedKubeGateway(pod: InjectedPod): InjectedContainer {
  const gateway = injectedGateway(pod);
  return {
    ...gateway,
    name: 'kube-gateway',
    args: inTwoWords(gateway.args),
    env: { ...gateway.env, ISTIO_META_POD_PORTS: '[]' },
    startupProbe: deployedProbe,
  };
}

/** What other proxies have and a waypoint does not. */
const volumesNotOfWaypoints: ReadonlySet<string> = new Set([
  '/var/run/secrets/credential-uds',
  '/var/run/secrets/workload-spiffe-credentials',
]);
const variablesNotOfWaypoints: ReadonlySet<string> = new Set([
  'ISTIO_META_POD_PORTS',
  'ISTIO_META_APP_CONTAINERS',
]);

/** The container of a waypoint, deployed for a Gateway resource of the class `istio-waypoint`. Source: `waypoint.yaml`. */
export function injectedWaypoint(pod: InjectedPod): InjectedContainer {
  const { args, env, mounts, ...same } = injectedKubeGateway(pod);
  const [proxy = '', , domain = '', domainName = '', ...levels] = args;
  const others = Object.entries(env).filter(([variable]) => !variablesNotOfWaypoints.has(variable));
  const { SERVICE_ACCOUNT: account = '', POD_NAMESPACE: namespace = '' } = env;
  return {
    ...same,
    name: 'waypoint',
    args: [proxy, 'waypoint', domain, domainName, '--serviceCluster', `${account}.${namespace}`, ...levels],
    env: { ...Object.fromEntries(others), ISTIO_META_SERVICE_ACCOUNT: account },
    mounts: mounts.filter(({ path }) => !volumesNotOfWaypoints.has(path)),
  };
}
