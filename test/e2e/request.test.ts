import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { runCommand } from '../agent/cli/command-process.ts';
import { freePorts } from '../support/free-ports.ts';
import { httpGet } from '../support/http-get.ts';
import { skipReason } from './gateway.ts';
import { Pod } from './pod.ts';

/** The ports that `request` may use, as istioctl does: those of a real pod. */
const podPorts = { admin: 15_000, status: 15_020, envoyStatus: 15_021 };

/** What `istioctl bug-report` asks of each proxy (istio/istio `tools/bug-report/pkg/common`), and people by hand. */
const adminPages: readonly (readonly [string, RegExp])[] = [
  ['certs', /"certificates": \[/],
  ['clusters', /^outbound\|80\|\|backend\.default\.svc\.cluster\.local::/m],
  ['config_dump?include_eds', /\.EndpointsConfigDump"/],
  ['listeners', /^[^:\n]+::(?:0\.0\.0\.0|127\.0\.0\.1):\d+$/m],
  ['memory', /"allocated": "\d+"/],
  ['server_info', /"state": "LIVE"/],
  ['stats/prometheus', /^envoy_server_live(?:\{\})? 1$/m],
  ['runtime', /"layers": \[/],
  ['stats?usedonly&format=json', /"name":"server\.live","value":1/],
  ['ready', /^LIVE\n\n$/],
];

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, '::');
    await once(server, 'listening');
    return true;
  } catch {
    return false;
  } finally {
    server.close();
  }
}

test('istioctl reaches agent and Envoy by `request`, with nothing but the body on stdout', {
  skip: skipReason,
}, async (t) => {
  for (const port of Object.values(podPorts)) {
    if (await isFree(port)) continue;
    t.skip(`port ${port} of this machine is taken`);
    return;
  }
  const [envoyPrometheus = 0] = await freePorts(1);
  const pod = await Pod.start(t, {
    mode: 'delta',
    prepare: () => ({ ports: { ...podPorts, envoyPrometheus } }),
  });
  await pod.agent.waitUntilReady();
  const request = async (...words: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await runCommand(['request', ...words]);
    assert.deepEqual([code, stderr], [0, ''], words.join(' '));
    return stdout;
  };
  const dump = JSON.parse(await request('GET', 'config_dump')) as { configs: { '@type': string }[] };
  assert.ok(dump.configs.some((config) => config['@type'].endsWith('.ListenersConfigDump')));
  const clusters = JSON.parse(await request('GET', 'clusters?format=json')) as {
    cluster_statuses: unknown[];
  };
  assert.ok(clusters.cluster_statuses.length > 0);
  for (const [page, content] of adminPages) {
    assert.match(await request('GET', page), content);
    // istioctl itself comes by port-forward, to what `localhost` is in the pod.
    const { status, text } = await httpGet(`http://127.0.0.1:${podPorts.admin}/${page}`);
    assert.equal(status, 200, page);
    assert.match(`${text}\n`, content);
  }
  assert.match(await request('POST', 'logging?paths=http:info,wasm:trace'), /^ {2}wasm: trace$/m);
  assert.match(await request('POST', 'logging?level=warning'), /^ {2}wasm: warning$/m);
  assert.match(await request('GET', 'nosuchpage'), /^invalid path\. admin commands are:/);
  assert.match(await request('POST', 'logging?misc=debug'), /^active loggers:\n(?:.*\n)* {2}misc: debug\n/);
  const metrics = await request('--debug-port=15020', 'GET', 'stats/prometheus');
  assert.match(metrics, /^istio_agent_startup_duration_seconds \d/m);
  assert.match(metrics, /^envoy_server_live(?:\{\})? 1$/m);
  const plugins = JSON.parse(await request('--debug-port', '15020', 'GET', '/debug/wasm')) as object;
  assert.ok('plugins' in plugins);
  assert.equal(await request('--debug-port', '15020', 'GET', '/debug/ndsz'), '{}\n');
  assert.equal(await request('--debug-port=15021', 'GET', '/healthz/ready'), '\n');
  assert.equal(await request('--debug-port=15020', 'POST', 'drain'), 'OK\n');

  const failing: readonly (readonly [readonly string[], RegExp])[] = [
    [['GET', 'logging'], /^Error: received unsuccessful status code 405: /],
    [['POST', 'logging?level=nosuch'], /^Error: received unsuccessful status code 400: /],
    [['--debug-port=15020', 'GET', 'drain'], /^Error: received unsuccessful status code 405: /],
    [['GET'], /^Error: missing required argument 'path'/],
  ];
  for (const [words, message] of failing) {
    const { code, stdout, stderr } = await runCommand(['request', ...words]);
    assert.deepEqual([code, stdout], [255, ''], words.join(' '));
    assert.match(stderr, message);
  }

  const refused = await runCommand(['request', '--debug-port=15090', 'GET', 'stats/prometheus']);
  assert.notEqual(refused.code, 0);
  assert.equal(refused.stdout, '');
  assert.match(refused.stderr, /debug port 15090 is not in allowed list \[15000 15004 15020 15021\]/);
});
