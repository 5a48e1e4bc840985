import { type InputChanges } from '../config/agent-inputs-fixture.ts';

/** What the stock agent was given when its bootstrap documents were recorded. */
const common = {
  ISTIO_META_CLUSTER_ID: 'Kubernetes',
  ISTIO_META_MESH_ID: 'cluster.local',
  // The recorded agent was built without a version.
  ISTIO_BASE_VERSION: 'unknown',
  POD_NAMESPACE: 'istio-system',
  SERVICE_ACCOUNT: 'gw',
  HOST_IP: '10.10.0.1',
  PROXY_CONFIG:
    '{"discoveryAddress":"localhost:15012","concurrency":1,' +
    '"proxyBootstrapTemplatePath":"./var/lib/istio/envoy/envoy_bootstrap_tmpl.json"}',
};

const interfaces = [
  { interfaceName: 'lo', address: '127.0.0.1', isInternal: true },
  { interfaceName: 'eth0', address: '192.0.2.2', isInternal: false },
  { interfaceName: 'eth0', address: 'fd00::2', isInternal: false },
];

/** Inputs by the name of the recording. */
export const recordedNodes: Readonly<Record<'sidecar' | 'router', InputChanges>> = {
  sidecar: {
    type: 'sidecar',
    root: '/run/agent',
    interfaces,
    environment: {
      ...common,
      POD_NAME: 'productpage-0',
      INSTANCE_IP: '10.10.0.5',
      ISTIO_META_DNS_CAPTURE: 'true',
      ISTIO_META_INTERCEPTION_MODE: 'REDIRECT',
      ISTIO_META_OWNER: 'kubernetes://apis/apps/v1/namespaces/default/deployments/productpage',
      ISTIO_META_WORKLOAD_NAME: 'productpage',
      ISTIO_METAJSON_LABELS: '{"app":"productpage","service.istio.io/canonical-name":"productpage"}',
    },
  },
  router: {
    type: 'router',
    root: '/run/agent',
    interfaces,
    environment: {
      ...common,
      POD_NAME: 'gw-0',
      INSTANCE_IP: '127.0.0.1',
      ISTIO_META_OWNER: 'kubernetes://apis/apps/v1/namespaces/istio-system/deployments/gw',
      ISTIO_META_WORKLOAD_NAME: 'gw',
      ISTIO_METAJSON_LABELS: '{"app":"istio-ingressgateway","istio":"ingressgateway"}',
    },
  },
};
