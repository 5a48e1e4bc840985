import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { DnsMetrics } from '../../metrics/dns-metrics.ts';
import { IdentityMetrics } from '../../metrics/identity-metrics.ts';
import { ProcessMetrics } from '../../metrics/process-metrics.ts';
import { MetricRegistry } from '../../metrics/registry.ts';
import { StatusMetrics } from '../../metrics/status-metrics.ts';
import { WasmMetrics } from '../../metrics/wasm-metrics.ts';
import { XdsMetrics } from '../../metrics/xds-metrics.ts';

interface Subsystems {
  readonly registry: MetricRegistry;
  readonly status: StatusMetrics;
  readonly xds: XdsMetrics;
  readonly wasm: WasmMetrics;
  readonly dns: DnsMetrics;
  readonly identity: IdentityMetrics;
}

function makeSubsystems(lifeMs: number | undefined): Subsystems {
  const registry = new MetricRegistry();
  const served = lifeMs === undefined ? [] : [{ resourceName: 'default', notAfterMs: 1000 + lifeMs }];
  return {
    registry,
    status: new StatusMetrics(registry),
    xds: new XdsMetrics(registry),
    wasm: new WasmMetrics(registry),
    dns: new DnsMetrics(registry),
    identity: new IdentityMetrics(
      registry,
      () => served,
      () => 1000,
    ),
  };
}

/** One event of every kind. */
function moveEverything({ status, xds, wasm, dns, identity }: Subsystems): void {
  status.startupDurationSeconds(0.394673458);
  status.scraped();
  status.scrapeFailed('envoy');
  status.scrapeFailed('application');
  status.scrapeFailed('agent');
  xds.requestSent();
  xds.responseReceived();
  xds.istiodConnectionFailed();
  xds.istiodConnectionTerminated('error');
  xds.istiodConnectionTerminated('cancelled');
  xds.envoyConnectionTerminated('cancelled');
  xds.largestRequestBytes(62551);
  xds.largestRequestBytes(10);
  wasm.cacheEntries(1);
  wasm.cacheLookup(false);
  wasm.cacheLookup(false);
  wasm.remoteFetch('success');
  wasm.remoteFetch('checksum_mismatched');
  wasm.conversion('success');
  wasm.conversionDurationMs(6);
  dns.requested();
  dns.forwarded();
  dns.failed();
  dns.upstreamDurationSeconds(0.004);
  identity.csrSent();
  identity.csrFailed();
  identity.csrRetried();
  identity.csrDurationMs(1.532904);
  identity.fileWatchFailed();
  identity.fileSecretFailed();
  identity.secretSendSeconds(0.00005);
}

const prefix = 'istio_agent_';

const everything = `\
# HELP cert_expiry_seconds The time remaining, in seconds, before the certificate chain will expire. A negative value indicates the cert is expired.
# TYPE cert_expiry_seconds gauge
cert_expiry_seconds{resource_name="default"} 86393.005
# HELP dns_requests_total Total number of DNS requests.
# TYPE dns_requests_total counter
dns_requests_total 1
# HELP dns_upstream_failures_total Total number of DNS failures.
# TYPE dns_upstream_failures_total counter
dns_upstream_failures_total 1
# HELP dns_upstream_request_duration_seconds Total time in seconds Istio takes to get DNS response from upstream.
# TYPE dns_upstream_request_duration_seconds histogram
dns_upstream_request_duration_seconds_bucket{le="0.001"} 0
dns_upstream_request_duration_seconds_bucket{le="0.005"} 1
dns_upstream_request_duration_seconds_bucket{le="0.01"} 1
dns_upstream_request_duration_seconds_bucket{le="0.1"} 1
dns_upstream_request_duration_seconds_bucket{le="1"} 1
dns_upstream_request_duration_seconds_bucket{le="5"} 1
dns_upstream_request_duration_seconds_bucket{le="+Inf"} 1
dns_upstream_request_duration_seconds_sum 0.004
dns_upstream_request_duration_seconds_count 1
# HELP dns_upstream_requests_total Total number of DNS requests forwarded to upstream.
# TYPE dns_upstream_requests_total counter
dns_upstream_requests_total 1
# HELP envoy_connection_terminations The total number of connection errors from envoy
# TYPE envoy_connection_terminations counter
envoy_connection_terminations{type="cancelled"} 1
# HELP istiod_connection_failures The total number of connection failures to Istiod
# TYPE istiod_connection_failures counter
istiod_connection_failures 1
# HELP istiod_connection_terminations The total number of connection errors to Istiod
# TYPE istiod_connection_terminations counter
istiod_connection_terminations{type="cancelled"} 1
istiod_connection_terminations{type="error"} 1
# HELP num_failed_outgoing_requests Number of failed outgoing requests (e.g. to a token exchange server, CA, etc.)
# TYPE num_failed_outgoing_requests counter
num_failed_outgoing_requests{request_type="csr"} 1
# HELP num_file_secret_failures_total Number of times secret generation failed for files
# TYPE num_file_secret_failures_total counter
num_file_secret_failures_total 1
# HELP num_file_watcher_failures_total Number of times file watcher failed to add watchers
# TYPE num_file_watcher_failures_total counter
num_file_watcher_failures_total 1
# HELP num_outgoing_requests Number of total outgoing requests (e.g. to a token exchange server, CA, etc.)
# TYPE num_outgoing_requests counter
num_outgoing_requests{request_type="csr"} 1
# HELP num_outgoing_retries Number of outgoing retry requests (e.g. to a token exchange server, CA, etc.)
# TYPE num_outgoing_retries counter
num_outgoing_retries{request_type="csr"} 1
# HELP outgoing_latency The latency of outgoing requests (e.g. to a token exchange server, CA, etc.) in milliseconds.
# TYPE outgoing_latency counter
outgoing_latency{request_type="csr"} 1.532904
# HELP pilot_xds_recv_max The maximum size request we have received so far.
# TYPE pilot_xds_recv_max gauge
pilot_xds_recv_max 62551
# HELP pilot_xds_send_time Total time in seconds Pilot takes to send generated configuration.
# TYPE pilot_xds_send_time histogram
pilot_xds_send_time_bucket{le="0.01"} 1
pilot_xds_send_time_bucket{le="0.1"} 1
pilot_xds_send_time_bucket{le="1"} 1
pilot_xds_send_time_bucket{le="3"} 1
pilot_xds_send_time_bucket{le="5"} 1
pilot_xds_send_time_bucket{le="10"} 1
pilot_xds_send_time_bucket{le="20"} 1
pilot_xds_send_time_bucket{le="30"} 1
pilot_xds_send_time_bucket{le="+Inf"} 1
pilot_xds_send_time_sum 5e-05
pilot_xds_send_time_count 1
# HELP scrape_failures_total The total number of failed scrapes.
# TYPE scrape_failures_total counter
scrape_failures_total{type="agent"} 1
scrape_failures_total{type="application"} 1
scrape_failures_total{type="envoy"} 1
# HELP scrapes_total The total number of scrapes.
# TYPE scrapes_total counter
scrapes_total 1
# HELP startup_duration_seconds The time from the process starting to being marked ready.
# TYPE startup_duration_seconds gauge
startup_duration_seconds 0.394673458
# HELP wasm_cache_entries number of Wasm remote fetch cache entries.
# TYPE wasm_cache_entries gauge
wasm_cache_entries 1
# HELP wasm_cache_lookup_count number of Wasm remote fetch cache lookups.
# TYPE wasm_cache_lookup_count counter
wasm_cache_lookup_count{hit="false"} 2
# HELP wasm_config_conversion_count number of Wasm config conversions and results, including success, no remote load, marshal failure, remote fetch failure, miss remote fetch hint.
# TYPE wasm_config_conversion_count counter
wasm_config_conversion_count{result="success"} 1
# HELP wasm_config_conversion_duration Total time in milliseconds istio-agent spends on converting remote load in Wasm config.
# TYPE wasm_config_conversion_duration histogram
wasm_config_conversion_duration_bucket{le="1"} 0
wasm_config_conversion_duration_bucket{le="2"} 0
wasm_config_conversion_duration_bucket{le="4"} 0
wasm_config_conversion_duration_bucket{le="8"} 1
wasm_config_conversion_duration_bucket{le="16"} 1
wasm_config_conversion_duration_bucket{le="32"} 1
wasm_config_conversion_duration_bucket{le="64"} 1
wasm_config_conversion_duration_bucket{le="128"} 1
wasm_config_conversion_duration_bucket{le="256"} 1
wasm_config_conversion_duration_bucket{le="512"} 1
wasm_config_conversion_duration_bucket{le="1024"} 1
wasm_config_conversion_duration_bucket{le="2048"} 1
wasm_config_conversion_duration_bucket{le="4096"} 1
wasm_config_conversion_duration_bucket{le="8192"} 1
wasm_config_conversion_duration_bucket{le="16384"} 1
wasm_config_conversion_duration_bucket{le="+Inf"} 1
wasm_config_conversion_duration_sum 6
wasm_config_conversion_duration_count 1
# HELP wasm_remote_fetch_count number of Wasm remote fetches and results, including success, download failure, and checksum mismatch.
# TYPE wasm_remote_fetch_count counter
wasm_remote_fetch_count{result="checksum_mismatched"} 1
wasm_remote_fetch_count{result="success"} 1
# HELP xds_proxy_requests The total number of Xds Proxy Requests
# TYPE xds_proxy_requests counter
xds_proxy_requests 1
# HELP xds_proxy_responses The total number of Xds Proxy Responses
# TYPE xds_proxy_responses counter
xds_proxy_responses 1
`.replaceAll(/^(# (?:HELP|TYPE) )?/gm, (comment, _, offset, whole: string) =>
  offset === whole.length ? '' : `${comment}${prefix}`,
);

test('nothing is written before the first event of any subsystem', async () => {
  assert.equal(await makeSubsystems(undefined).registry.exposition(), '');
});

test('every metric has the name, text, type, labels, buckets and place of the stock agent', async () => {
  const subsystems = makeSubsystems(86_393_005);
  moveEverything(subsystems);
  assert.equal(await subsystems.registry.exposition(), everything);
});

/** Recordings of a stock agent lie beside the repository on some machines. */
const captures = fileURLToPath(new URL('../../../shared/captures', import.meta.url));
const skip = existsSync(captures) ? false : `no recordings of a stock agent in ${captures}`;

interface RecordedName {
  readonly name: string;
  readonly type: string;
  readonly labels: Readonly<Record<string, readonly string[]>>;
  readonly help?: string;
}

interface Family {
  type: string;
  help: string;
  /** By label name. */
  readonly labels: Map<string, Set<string>>;
}

function parseFamilies(text: string): Map<string, Family> {
  const families = new Map<string, Family>();
  let current: Family | undefined;
  for (const line of text.split('\n')) {
    const help = /^# HELP (\S+) (.*)$/.exec(line);
    const type = /^# TYPE (\S+) (\S+)$/.exec(line);
    if (help !== null) {
      current = { type: '', help: help[2] ?? '', labels: new Map() };
      families.set(help[1] ?? '', current);
    } else if (type !== null && current !== undefined) current.type = type[2] ?? '';
    else
      for (const [, name = '', value = ''] of line.matchAll(/[{,](\w+)="([^"]*)"/g))
        current?.labels.set(name, (current.labels.get(name) ?? new Set()).add(value));
  }
  return families;
}

test('every recorded metric of a stock agent is there with its type, text and labels', { skip }, async () => {
  const recorded = JSON.parse(
    readFileSync(`${captures}/istio-agent-metric-names.json`, 'utf8'),
  ) as RecordedName[];
  const subsystems = makeSubsystems(1000);
  const processMetrics = new ProcessMetrics(subsystems.registry);
  moveEverything(subsystems);
  const ours = parseFamilies(await subsystems.registry.exposition());
  processMetrics.close();
  let comparedCount = 0;
  for (const { name, type, labels, help = '' } of recorded) {
    if (name.startsWith('istio_agent_go_')) continue;
    const family = ours.get(name);
    assert.ok(family, `${name} is missing`);
    assert.equal(family.type, type, name);
    if (help !== '') assert.equal(family.help, help, name);
    assert.deepEqual([...family.labels.keys()].sort(), Object.keys(labels).sort(), name);
    if (labels.le !== undefined)
      assert.deepEqual([...(family.labels.get('le') ?? [])].sort(), labels.le, name);
    comparedCount += 1;
  }
  assert.ok(comparedCount > 30);
});

test('a recorded page is written byte for byte when its events happen again', { skip }, async () => {
  const page = readFileSync(`${captures}/agent-15020-metrics.router.txt`, 'utf8');
  const valueOf = (series: string): number => {
    const line = page.split('\n').find((candidate) => candidate.startsWith(`${prefix}${series} `));
    assert.ok(line, `${series} is not in the recording`);
    return Number(line.slice(line.lastIndexOf(' ')));
  };
  const repeat = (series: string, event: () => void) => {
    for (let count = valueOf(series); count > 0; count -= 1) event();
  };
  const { registry, status, xds, wasm, identity } = makeSubsystems(undefined);
  status.startupDurationSeconds(valueOf('startup_duration_seconds'));
  repeat('scrapes_total', status.scraped);
  repeat('xds_proxy_requests', xds.requestSent);
  repeat('xds_proxy_responses', xds.responseReceived);
  xds.largestRequestBytes(valueOf('pilot_xds_recv_max'));
  wasm.cacheEntries(valueOf('wasm_cache_entries'));
  repeat('wasm_cache_lookup_count{hit="false"}', () => wasm.cacheLookup(false));
  repeat('wasm_remote_fetch_count{result="success"}', () => wasm.remoteFetch('success'));
  repeat('wasm_config_conversion_count{result="success"}', () => wasm.conversion('success'));
  wasm.conversionDurationMs(valueOf('wasm_config_conversion_duration_sum'));
  repeat('num_outgoing_requests{request_type="csr"}', identity.csrSent);
  identity.csrDurationMs(valueOf('outgoing_latency{request_type="csr"}'));
  // What is left out depends on the runtime, the clock or the machine.
  const isCompared = (line: string) =>
    line.includes(prefix) && !/istio_agent_(?:go_|process_|cert_expiry|pilot_xds_send_time)/.test(line);
  const expected = page.split('\n').filter(isCompared);
  assert.ok(expected.length > 40);
  assert.deepEqual((await registry.exposition()).trimEnd().split('\n'), expected);
});
