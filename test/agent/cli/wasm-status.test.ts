import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { formatStatusTable } from '../../../agent/cli/status-table.ts';
import { nextTryWords } from '../../../agent/status/plugin-words.ts';
import { readWasmReport, type WasmReport } from '../../../agent/status/wasm-report.ts';
import type { PluginStatus } from '../../../agent/wasm/plugin-status.ts';
import { StatusFixture } from '../status/status-fixture.ts';
import { fixtureNowMs, fixturePlugins, fixtureReport } from '../status/wasm-report-fixture.ts';
import { runCommand } from './command-process.ts';

/** As it comes over the wire. */
function reportOf(page: Record<string, unknown>): WasmReport {
  const reading = readWasmReport(JSON.parse(JSON.stringify(page)));
  assert.equal(reading.kind, 'report', JSON.stringify(reading));
  assert.ok(reading.kind === 'report');
  return reading.report;
}

function tableOf(plugins: readonly PluginStatus[], isColoured = false): string {
  return formatStatusTable(reportOf(fixtureReport(plugins)), { nowMs: fixtureNowMs, isColoured });
}

const colours = /\p{Cc}\[\d+m/gu;

async function otherServer(context: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  server.listen(0, 'localhost');
  await once(server, 'listening');
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return String((server.address() as AddressInfo).port);
}

describe('the table of wasm status', () => {
  test('shows each plugin in a line, those that need a look first, and why they do', () => {
    assert.equal(
      tableOf(fixturePlugins),
      `\
node     router~10.20.30.40~gateway-7d4b9c6f5-x2x7k.istio-system~istio-system.svc.cluster.local
istiod   istiod.istio-system.svc:15012 at 10.96.0.12:15012: connected for 2h 5m, delta
plugins  3 failed, 1 preparing, 2 active

PLUGIN                   STATE      IN FORCE        SOURCE  SIZE      RUNNING   SINCE  NEXT TRY
shop.geo-headers         failed     fallback allow  -       -         -         8s     now
  why: (2 tries) cannot fetch Wasm module https://modules.example/geo.wasm: getaddrinfo ENOTFOUND
  modules.example
shop.jwt                 failed     earlier config  cache   88.0 KiB  cccccccc  10m    next push
  why: Failed to load Wasm module due to a missing import: env.proxy_set_tick_period_milliseconds_v2
shop.rate-limit          failed     fallback deny   -       -         -         2m     in 38s
  why: (7 tries) cannot fetch Wasm module oci://registry.example:5000/wasm/rate_limit:2.0.1: GET
  https://registry.example:5000/v2/wasm/rate_limit/manifests/2.0.1 answered 404 (MANIFEST_UNKNOWN:
  manifest unknown); push the image or correct the tag
shop.audit               preparing  nothing         -       -         -         2s     -
istio-system.basic-auth  active     plugin          oci     1.2 MiB   aaaaaaaa  59m    -
local-lua-like-filter    active     plugin          -       -         -         2h     -
`,
    );
  });

  test('says that a plugin which the policy refuses waits for another policy', () => {
    const plugin = fixturePlugins.find(({ name }) => name.includes('shop.jwt'));
    assert.ok(plugin);
    const waiting = { ...plugin, digests: undefined, history: [], isLastErrorOfPolicy: true };
    assert.match(tableOf([waiting]), /^shop\.jwt .* 10m {4}new policy$/m);
    assert.equal(nextTryWords(waiting, fixtureNowMs), 'when the policy changes, or with the next push');
  });

  test('names the policy, the first fault of one that is not in force, and what runs in spite of it', () => {
    const [plugin] = fixturePlugins;
    assert.ok(plugin);
    const refusedPlugin = {
      ...plugin,
      policyRefusal: 'refused by policy: the module is denied by modules[0]',
    };
    const policy = {
      file: '/etc/ferry/policy.yaml',
      generation: 2,
      revision: 'f'.repeat(64),
      loadedAt: new Date(fixtureNowMs).toISOString(),
      problems: [] as string[],
    };
    const table = (problems: readonly string[]): string =>
      formatStatusTable(
        reportOf({ ...fixtureReport([refusedPlugin]), policy: { ...policy, problems: [...problems] } }),
        { nowMs: fixtureNowMs, isColoured: false },
      );
    assert.match(table([]), /^policy   \/etc\/ferry\/policy\.yaml, version 2 since the start$/m);
    assert.match(
      table([]),
      /^ {2}runs although it is refused by policy: the module is denied by modules\[0\]$/m,
    );
    assert.match(
      table(['policy.yaml:3:1: modulez: is unknown', 'other']),
      /^policy .* is NOT in force, the one before it is: policy\.yaml:3:1: modulez: is\s+unknown \(and 1 more faults\)$/m,
    );
  });

  test('tells of VMs that failed while they served, under their plugins, and of others above', () => {
    const counts = { reloadCount: 2, failedReloadCount: 1, refusedCount: 1 };
    const page = fixtureReport(fixturePlugins.filter(({ state }) => state === 'active'));
    page['vms'] = {
      failed: [
        { plugin: 'istio-system.basic-auth~istio-translated-wasmplugin', ...counts },
        { plugin: 'in-a-listener', reloadCount: 1, failedReloadCount: 0, refusedCount: 0 },
      ],
    };
    const table = formatStatusTable(reportOf(page), { nowMs: fixtureNowMs, isColoured: false });
    assert.match(
      table,
      /^vm {7}in-a-listener: The VM failed while it served: Envoy started it again once\.$/m,
    );
    assert.match(
      table,
      /^istio-system\.basic-auth .*\n {2}vm: The VM failed while it served: Envoy started it again 2 times, could not start it again once,\n {2}1 request was refused meanwhile\.$/m,
    );
    page['vms'] = { failed: [], problem: 'GET /stats: refused' };
    const unseen = formatStatusTable(reportOf(page), { nowMs: fixtureNowMs, isColoured: false });
    assert.match(unseen, /^vms {6}whether any fails is not known: GET \/stats: refused$/m);
  });

  test('fits into 100 columns with the longest of everything', () => {
    const [plugin] = fixturePlugins;
    assert.ok(plugin);
    const long: PluginStatus = {
      ...plugin,
      name: `${'namespace-'.repeat(6)}.${'plugin-'.repeat(30)}`,
      state: 'preparing',
      source: 'x'.repeat(50) as PluginStatus['source'],
      sizeBytes: 1023 * 1024,
      stateSince: new Date(fixtureNowMs - 999 * 86_400_000).toISOString(),
    };
    const failed: PluginStatus = {
      ...long,
      name: 'a'.repeat(26),
      state: 'failed',
      retry: 'none',
      inForce: 'fallback',
      fallbackAction: 'allow',
      lastError: `${'word '.repeat(40)}${'x'.repeat(300)}`,
    };
    const report = reportOf(fixtureReport([long, failed]));
    report.nodeId = 'n'.repeat(300);
    report.xds = {
      discoveryAddress: 'istiod:1',
      failedDialCount: 12,
      lastEnd: { side: 'istiod', atMs: fixtureNowMs, status: { code: 14, message: 'm'.repeat(200) } },
    };
    const lines = formatStatusTable(report, { nowMs: fixtureNowMs, isColoured: false }).split('\n');
    assert.deepEqual(
      lines.filter((line) => line.length > 100),
      [],
    );
    // Cut into lines, but whole: nothing of a name or a reason is lost.
    const text = lines.map((line) => line.trimStart()).join('');
    assert.ok(text.includes(long.name.slice(0, 300)));
    assert.ok(text.includes('x'.repeat(300)));
  });

  test('has colours only where they are asked for, and the same text and columns', () => {
    const plain = tableOf(fixturePlugins);
    const coloured = tableOf(fixturePlugins, true);
    assert.doesNotMatch(plain, colours);
    assert.match(coloured, colours);
    assert.equal(coloured.replaceAll(colours, ''), plain);
  });

  test('lets no text of others change the terminal', () => {
    const [plugin] = fixturePlugins;
    assert.ok(plugin);
    const hostile = 'a\u001b[2J\u009b31m\r\nb\u202ec';
    const table = tableOf([{ ...plugin, state: 'failed', name: hostile, lastError: hostile }], false);
    assert.doesNotMatch(table.replaceAll('\n', ''), /[\p{Cc}\u202e]/u);
    assert.ok(table.includes('why: a\\u001b[2J\\u009b31m\\u000d\\u000ab\\u202ec'));
  });

  test('says when there is no plugin, and when configs are left alone', () => {
    assert.match(tableOf([]), /\nplugins {2}none\n$/);
    const page = { ...fixtureReport([]), isConversionEnabled: false };
    const table = formatStatusTable(reportOf(page), { nowMs: fixtureNowMs, isColoured: false });
    assert.match(table, /\nplugins {2}relayed untouched, by configuration\n$/);
  });
});

describe('wasm status', () => {
  test('asks the running agent and prints the table, or its JSON', async () => {
    await using fixture = await StatusFixture.start({ debugPage: () => fixtureReport() });
    const port = String(fixture.server.port);
    const table = await runCommand(['wasm', 'status', '--status-port', port]);
    assert.equal(table.stderr, '');
    assert.equal(table.code, 0);
    assert.match(table.stdout, /^shop\.rate-limit +failed +fallback deny .* (?:in \d+s|now)$/m);
    assert.doesNotMatch(table.stdout, colours, 'a pipe is no terminal');
    const json = await runCommand(['wasm', 'status', '--json', `--status-port=${port}`]);
    assert.equal(json.code, 0);
    assert.deepEqual(JSON.parse(json.stdout), JSON.parse(JSON.stringify(fixtureReport())));
  });

  test('ends with 255 and says why where no agent is', async (context) => {
    const rows: readonly (readonly [string, RegExp])[] = [
      [
        await otherServer(context, (_, response) => response.writeHead(404).end('404 page not found\n')),
        /^Error: GET http:\/\/localhost:\d+\/debug\/wasm was answered with status 404: 404 page not found\. Is it a Ferry agent\?/,
      ],
      [
        await otherServer(context, (_, response) => response.end('<html>')),
        /was answered with "<html>", which is no JSON: another program listens there/,
      ],
      [
        await otherServer(context, (_, response) => response.end('{"plugins":[]}')),
        /gives JSON of another form \(nodeId: .*\): the agent there is of another version/,
      ],
      [
        await otherServer(context, (request) => request.socket.destroy()),
        /^Error: cannot reach the agent at http:\/\/localhost:\d+\/debug\/wasm: socket hang up\. Run this in the proxy's container/,
      ],
      ['0', /^Error: invalid argument "0" for "--status-port": use a port from 1 to 65535\n$/],
      ['65536', /^Error: invalid argument "65536" for "--status-port"/],
      ['x', /^Error: invalid argument "x" for "--status-port"/],
    ];
    for (const [port, pattern] of rows) {
      const { code, stdout, stderr } = await runCommand(['wasm', 'status', '--status-port', port]);
      assert.match(stderr, pattern);
      assert.equal(stdout, '');
      assert.equal(code, 255);
    }
  });

  test('reports a port where nobody listens', async () => {
    const fixture = await StatusFixture.start();
    const { port } = fixture.server;
    await fixture[Symbol.asyncDispose]();
    const { code, stderr } = await runCommand(['wasm', 'status', `--status-port=${port}`]);
    assert.match(stderr, /^Error: cannot reach the agent at .*ECONNREFUSED/);
    assert.equal(code, 255);
  });
});
