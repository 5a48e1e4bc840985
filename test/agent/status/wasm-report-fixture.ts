import type { PluginEvent, PluginStatus } from '../../../agent/wasm/plugin-status.ts';

const digest = (digit: string): string => digit.repeat(64);

/** The present of the fixture, epoch ms. */
export const fixtureNowMs = Math.floor(Date.now() / 1_000) * 1_000;

/** ISO time before the present. */
export const at = (secondsAgo: number): string => new Date(fixtureNowMs - secondsAgo * 1_000).toISOString();

const event = (
  secondsAgo: number,
  what: PluginEvent['what'],
  why?: string,
  again?: { readonly count: number; readonly lastSecondsAgo: number },
): PluginEvent => ({
  at: at(secondsAgo),
  lastAt: again === undefined ? undefined : at(again.lastSecondsAgo),
  count: again?.count ?? 1,
  what,
  why,
});

const idle: PluginStatus = {
  name: '',
  state: 'none',
  stateSince: at(3_600),
  retry: 'none',
  inForce: 'none',
  fallbackAction: undefined,
  runningDigest: undefined,
  policyRefusal: undefined,
  plan: 'fetch',
  failAction: 'deny',
  url: undefined,
  source: undefined,
  sourceName: undefined,
  isStale: false,
  digest: undefined,
  checksum: undefined,
  matchedPin: undefined,
  digests: undefined,
  file: undefined,
  sizeBytes: undefined,
  signature: undefined,
  version: '2031-05-06T01:02:03Z/41',
  lastError: undefined,
  isLastErrorOfPolicy: false,
  failedAttemptCount: 0,
  pushedAt: at(3_600),
  activeAt: undefined,
  lastErrorAt: undefined,
  nextRetryAt: undefined,
  nextRecheckAt: undefined,
  lastKnownGoodAt: undefined,
  fetchDurationMs: undefined,
  history: [],
};

const resource = (name: string): string =>
  `extensions.istio.io/trafficextension/${name}~istio-translated-wasmplugin`;

/** A plugin in each of the situations that an operator meets, by short name. */
export const fixturePlugins: readonly PluginStatus[] = [
  {
    ...idle,
    name: resource('istio-system.basic-auth'),
    state: 'active',
    inForce: 'plugin',
    runningDigest: digest('a'),
    url: 'oci://registry.example:5000/wasm/basic_auth:1.12.0',
    source: 'oci',
    digest: digest('a'),
    checksum: digest('b'),
    sourceName: 'mirror https://mirror.example',
    matchedPin: 'manifest',
    digests: { index: [digest('1')], manifest: digest('b'), layer: digest('2') },
    file: `/var/lib/istio/data/blobs/sha256/${digest('a')}`,
    sizeBytes: 1_258_291,
    signature: {
      signer: 'release',
      proof: 'certificate of https://ci.example/build, issuer https://ci.example',
    },
    activeAt: at(3_590),
    stateSince: at(3_590),
    lastKnownGoodAt: at(3_590),
    fetchDurationMs: 341,
    history: [
      event(3_600, 'pushed', 'module oci://registry.example:5000/wasm/basic_auth:1.12.0'),
      event(3_591, 'offered', 'module aaaaaaaaaaaa from oci, 1258291 bytes in 341 ms'),
      event(3_590, 'accepted'),
    ],
  },
  {
    ...idle,
    name: resource('shop.rate-limit'),
    state: 'failed',
    retry: 'waiting',
    inForce: 'fallback',
    fallbackAction: 'deny',
    url: 'oci://registry.example:5000/wasm/rate_limit:2.0.1',
    lastError:
      'cannot fetch Wasm module oci://registry.example:5000/wasm/rate_limit:2.0.1: GET https://registry.example:5000/v2/wasm/rate_limit/manifests/2.0.1 answered 404 (MANIFEST_UNKNOWN: manifest unknown); push the image or correct the tag',
    lastErrorAt: at(22),
    stateSince: at(179),
    failedAttemptCount: 7,
    nextRetryAt: at(-38),
    history: [
      event(180, 'pushed', 'module oci://registry.example:5000/wasm/rate_limit:2.0.1'),
      event(179, 'failed', 'cannot fetch Wasm module: answered 404'),
      event(178, 'fallback', 'all requests are denied'),
      event(177, 'failed', 'cannot fetch Wasm module: answered 404', { count: 6, lastSecondsAgo: 22 }),
    ],
  },
  {
    ...idle,
    name: resource('shop.geo-headers'),
    state: 'failed',
    retry: 'running',
    inForce: 'fallback',
    fallbackAction: 'allow',
    failAction: 'allow',
    url: 'https://modules.example/geo.wasm',
    lastError:
      'cannot fetch Wasm module https://modules.example/geo.wasm: getaddrinfo ENOTFOUND modules.example',
    lastErrorAt: at(3),
    stateSince: at(8),
    failedAttemptCount: 2,
    history: [
      event(9, 'pushed', 'module https://modules.example/geo.wasm'),
      event(8, 'failed', 'getaddrinfo ENOTFOUND modules.example'),
      event(7, 'fallback', 'all requests pass without the plugin'),
      event(3, 'failed', 'getaddrinfo ENOTFOUND modules.example'),
    ],
  },
  {
    ...idle,
    name: resource('shop.jwt'),
    state: 'failed',
    inForce: 'plugin',
    runningDigest: digest('c'),
    url: 'oci://registry.example:5000/wasm/jwt:3.0.0',
    source: 'cache',
    isStale: true,
    digest: digest('d'),
    checksum: digest('e'),
    sizeBytes: 90_112,
    file: `/var/lib/istio/data/blobs/sha256/${digest('d')}`,
    fetchDurationMs: 2,
    lastError:
      'Failed to load Wasm module due to a missing import: env.proxy_set_tick_period_milliseconds_v2',
    lastErrorAt: at(600),
    stateSince: at(600),
    lastKnownGoodAt: at(90_000),
    failedAttemptCount: 1,
    history: [
      event(90_000, 'accepted'),
      event(601, 'pushed', 'module oci://registry.example:5000/wasm/jwt:3.0.0'),
      event(601, 'offered', 'module dddddddddddd from cache, 90112 bytes in 2 ms'),
      event(600, 'rejected', 'Failed to load Wasm module due to a missing import'),
      event(599, 'accepted', 'a config before the newest one'),
    ],
  },
  {
    ...idle,
    name: resource('shop.audit'),
    state: 'preparing',
    inForce: 'none',
    url: 'oci://registry.example:5000/wasm/audit:1',
    pushedAt: at(2),
    stateSince: at(2),
    history: [event(2, 'pushed', 'module oci://registry.example:5000/wasm/audit:1')],
  },
  {
    ...idle,
    name: 'local-lua-like-filter',
    state: 'active',
    inForce: 'plugin',
    plan: 'as-is',
    failAction: undefined,
    activeAt: at(7_200),
    stateSince: at(7_200),
    pushedAt: at(7_201),
    history: [event(7_201, 'pushed', 'needs no download, sent to Envoy'), event(7_200, 'accepted')],
  },
];

/** What tries to be more than text; each must come out as text. */
export const hostileText = `</p><script>document.title='owned'</script><img src=x onerror="document.title='owned'">'"&amp;`;

/** The page's provider value of a whole agent. */
export function fixtureReport(plugins: readonly PluginStatus[] = fixturePlugins): Record<string, unknown> {
  return {
    nodeId: 'router~10.20.30.40~gateway-7d4b9c6f5-x2x7k.istio-system~istio-system.svc.cluster.local',
    isConversionEnabled: true,
    plugins,
    xds: {
      discoveryAddress: 'istiod.istio-system.svc:15012',
      stream: {
        id: 3,
        kind: 'delta',
        state: 'open',
        upstreamAddress: '10.96.0.12:15012',
        sinceMs: fixtureNowMs - 7_500_000,
        requestCount: 12,
        responseCount: 30,
      },
      failedDialCount: 0,
      lastEnd: undefined,
    },
  };
}
