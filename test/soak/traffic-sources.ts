import { askDirectly } from '../support/dns-lookup.ts';
import { type HttpGetOptions, httpGet } from '../support/http-get.ts';
import { probePaths, type SoakScene } from './soak-scene.ts';
import type { TrafficSource } from './traffic.ts';

const timeoutMs = 20_000;
/** As Prometheus asks. */
const openMetrics = {
  accept: 'application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5',
  'accept-encoding': 'gzip',
};

/**
 * What the kubelet, Prometheus, resolvers and other workloads ask of a pod all the time. The agent must answer whatever
 * goes on. The listener with mutual TLS has no plugin and never changes: what fails there, an identity has broken.
 */
export function trafficSources(scene: SoakScene): readonly TrafficSource[] {
  const { statusUrl } = scene.agent;
  const page = (
    name: string,
    path: string,
    intervalMs: number,
    headers: HttpGetOptions['headers'] = {},
  ): TrafficSource => ({
    name,
    intervalMs,
    promised: 'answer',
    send: async () => String((await httpGet(`${statusUrl}${path}`, { timeoutMs, headers })).status),
  });
  const query = (name: string, host: string, promised: string): TrafficSource => {
    let sentCount = 0;
    return {
      name,
      intervalMs: 300,
      promised,
      send: async () => {
        sentCount += 1;
        const protocol = sentCount % 2 === 0 ? 'tcp' : 'udp';
        const server = { address: '127.0.0.1', port: scene.dnsPort };
        const { status, answers } = await askDirectly(server, { name: host, protocol });
        return answers.length === 0 ? status : 'address';
      },
    };
  };
  return [
    page('readiness', '/healthz/ready', 250),
    page('stats', '/stats/prometheus', 500),
    page('stats as OpenMetrics, gzip', '/stats/prometheus', 500, openMetrics),
    page('plugin page', '/debug/wasm', 400),
    page('app probe over HTTP', probePaths.http, 300),
    page('app probe over TCP', probePaths.tcp, 300),
    query('DNS name of the mesh', 'web.shop.svc.cluster.local', 'address'),
    query('DNS name of elsewhere', 'elsewhere.example', 'answer'),
    {
      name: 'application request',
      intervalMs: 50,
      promised: 'answer',
      send: async () => String((await httpGet(scene.url, { timeoutMs })).status),
    },
    {
      name: 'mutual TLS, new connection',
      intervalMs: 100,
      promised: '200',
      send: () => scene.meshClient.onNewConnection(),
    },
    {
      name: 'mutual TLS, kept connection',
      intervalMs: 50,
      promised: '200',
      send: () => scene.meshClient.onKeptConnection(),
    },
  ];
}
