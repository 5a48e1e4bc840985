import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type HttpAnswer, type HttpQuestion, StatusFixture } from './status-fixture.ts';

/** An address of this machine that is not loopback: a peer that is not local. */
const outerAddress = Object.values(networkInterfaces())
  .flatMap((addresses) => addresses ?? [])
  .find((address) => !address.internal && address.family === 'IPv4')?.address;
const skipOuter = outerAddress === undefined ? 'this machine has only loopback addresses' : false;

const textType = 'text/plain; charset=utf-8';
const forbidden = { status: 403, body: 'Only requests from localhost are allowed\n', type: textType };
const notAllowed = { status: 405, body: 'Method Not Allowed\n', type: textType };

interface Expected {
  readonly status: number;
  readonly body?: string;
  readonly type?: string | undefined;
}

function assertAnswer(answer: HttpAnswer, expected: Expected, what: string): void {
  assert.equal(answer.status, expected.status, what);
  assert.equal(answer.headers['content-type'], expected.type, what);
  if (expected.body !== undefined) assert.equal(answer.body.toString(), expected.body, what);
  assert.equal(answer.headers.vary, 'Accept-Encoding', what);
  const isTextError = expected.type === textType && expected.status >= 400;
  assert.equal(answer.headers['x-content-type-options'], isTextError ? 'nosniff' : undefined, what);
}

const pageType = 'text/plain; version=0.0.4; charset=utf-8';

/** From this machine, by path and method. */
const localRows: readonly (readonly [string, string, Expected])[] = [
  ...['GET', 'HEAD', 'POST', 'DELETE'].map(
    (method) => ['/healthz/ready', method, { status: 200, body: '', type: undefined }] as const,
  ),
  ['/stats/prometheus', 'GET', { status: 200, type: pageType }],
  ['/metrics', 'GET', { status: 200, type: pageType }],
  ['/metrics', 'POST', { status: 200, type: pageType }],
  ['/metrics/', 'GET', { status: 404, body: '404 page not found\n', type: textType }],
  ['/debug/wasm', 'GET', { status: 200, body: '{\n  "modules": []\n}\n', type: 'application/json' }],
  ['/debug/ndsz', 'GET', { status: 404, body: '{}', type: 'application/json' }],
  ['/quitquitquit', 'GET', notAllowed],
  ['/drain', 'GET', notAllowed],
  ['/drain', 'PUT', notAllowed],
  ['/drain', 'POST', { status: 200, body: 'OK', type: textType }],
  ['/quitquitquit', 'POST', { status: 200, body: 'OK', type: textType }],
  ['/config_dump', 'GET', { status: 404, body: '404 page not found\n', type: textType }],
  ['/debug/pprof/', 'GET', { status: 404, body: '404 page not found\n', type: textType }],
];

test('every endpoint answers this machine as the endpoint table says', async () => {
  await using fixture = await StatusFixture.start();
  for (const [path, method, expected] of localRows) {
    assertAnswer(await fixture.ask(path, { method }), expected, `${method} ${path}`);
  }
  assert.deepEqual(fixture.calls, ['drain', 'quit']);
});

/** From elsewhere. */
const outerRows: readonly (readonly [string, string, Expected])[] = [
  ['/healthz/ready', 'GET', { status: 200, body: '', type: undefined }],
  ['/stats/prometheus', 'GET', { status: 200, type: pageType }],
  ['/metrics', 'GET', { status: 200, type: pageType }],
  ['/debug/wasm', 'GET', forbidden],
  ['/debug/ndsz', 'GET', forbidden],
  ['/quitquitquit', 'GET', forbidden],
  ['/quitquitquit', 'POST', forbidden],
  ['/drain', 'GET', forbidden],
  ['/drain', 'POST', forbidden],
];

test('local endpoints refuse other peers, before the method, whatever their headers say', {
  skip: skipOuter,
}, async () => {
  await using fixture = await StatusFixture.start();
  const outer: HttpQuestion = { host: outerAddress ?? '', headers: { 'x-forwarded-for': '127.0.0.1' } };
  for (const [path, method, expected] of outerRows) {
    assertAnswer(await fixture.ask(path, { ...outer, method }), expected, `${method} ${path}`);
  }
  assert.deepEqual(fixture.calls, []);
});

test('the merged page is local only when the metrics are', { skip: skipOuter }, async () => {
  await using fixture = await StatusFixture.start({ isMetricsLocalOnly: true });
  for (const path of ['/stats/prometheus', '/metrics']) {
    assertAnswer(await fixture.ask(path, { host: outerAddress ?? '' }), forbidden, path);
    assert.equal((await fixture.ask(path)).status, 200);
  }
  assert.equal(await fixture.valueOf('scrapes_total'), 2, 'refused requests do not count');
});

test('readiness is 503 and empty while a check does not hold', async () => {
  let reason: string | undefined = 'config not received from XDS server (is Istiod running?)';
  await using fixture = await StatusFixture.start({
    checks: [{ name: 'config', check: () => Promise.resolve(reason) }],
  });
  assertAnswer(
    await fixture.ask('/healthz/ready'),
    { status: 503, body: '', type: undefined },
    'while not ready',
  );
  assert.equal(await fixture.valueOf('startup_duration_seconds'), undefined);
  reason = undefined;
  assertAnswer(await fixture.ask('/healthz/ready'), { status: 200, body: '', type: undefined }, 'when ready');
  assert.equal(await fixture.valueOf('startup_duration_seconds'), 1.5);
});

test('drain is answered after it is done, and with OK when it fails', async () => {
  const gate = Promise.withResolvers<void>();
  await using fixture = await StatusFixture.start({ drain: () => gate.promise });
  let isAnswered = false;
  const draining = fixture.ask('/drain', { method: 'POST' }).then((answer) => {
    isAnswered = true;
    return answer;
  });
  // Another whole exchange passes while the first one waits.
  await fixture.ask('/healthz/ready');
  assert.equal(isAnswered, false);
  gate.reject(new Error('no admin port'));
  assert.equal((await draining).body.toString(), 'OK');
  assert.deepEqual(
    fixture.log.lines.filter((line) => line.level === 'error'),
    [{ level: 'error', message: 'drain failed', fields: { error: 'no admin port' } }],
  );
});

test('the debug page shows what its provider gives, and says why when it cannot', async () => {
  let page: () => unknown = () => ({ plugins: [{ name: 'a', pullSecret: 'hush' }] });
  await using fixture = await StatusFixture.start({
    debugPage: () => page(),
    nameTable: () => ({ table: { 'a.svc': { ips: ['10.0.0.1'] } } }),
  });
  const shown = await fixture.ask('/debug/wasm');
  assert.deepEqual(JSON.parse(shown.body.toString()), { plugins: [{ name: 'a', pullSecret: 'REDACTED' }] });
  page = () => ({ tooBig: 1n });
  const broken = await fixture.ask('/debug/wasm');
  assert.equal(broken.status, 500);
  assert.equal(broken.headers['content-type'], 'application/json');
  assert.match((JSON.parse(broken.body.toString()) as { error: string }).error, /BigInt/);
  const table = await fixture.ask('/debug/ndsz');
  assert.equal(table.status, 200);
  assert.deepEqual(JSON.parse(table.body.toString()), { table: { 'a.svc': { ips: ['10.0.0.1'] } } });
});

const capturesFolder = fileURLToPath(new URL('../../../../shared/captures', import.meta.url));

for (const role of ['sidecar', 'router']) {
  const file = `${capturesFolder}/agent-endpoints.${role}.txt`;
  const skip = existsSync(file) ? false : `no recordings of a stock agent in ${capturesFolder}`;
  test(`the recorded answers of a stock ${role} are given again`, { skip }, async () => {
    await using fixture = await StatusFixture.start({
      nameTable: () => (role === 'sidecar' ? {} : undefined),
    });
    // Left out: application probes are routes of another part; a date changes; Node says that it keeps a
    // connection alive where Go does not; the JSON type of a missing DNS table is right here and wrong there.
    const changing = new Set(['date', 'connection', 'keep-alive', 'content-length', 'transfer-encoding']);
    let comparedCount = 0;
    for (const line of readFileSync(file, 'utf8').split('\n')) {
      const match =
        /^GET 127\.0\.0\.1:15020(\S+) -> (\d+) (\{.*?\}) body (\d+) bytes: (".*")$/.exec(line) ?? [];
      const [, path = '', status, headers = '{}', , bodyStart = '""'] = match;
      if (path === '' || path.startsWith('/app-health')) continue;
      const answer = await fixture.ask(path);
      const recorded = JSON.parse(headers) as Record<string, string>;
      if (path === '/debug/ndsz') recorded['content-type'] = 'application/json';
      const ours = Object.fromEntries(Object.entries(answer.headers).filter(([name]) => !changing.has(name)));
      const theirs = Object.fromEntries(Object.entries(recorded).filter(([name]) => !changing.has(name)));
      assert.equal(answer.status, Number(status), path);
      assert.deepEqual(ours, theirs, path);
      const isPage = answer.headers['content-type'] === pageType;
      const body = path === '/debug/ndsz' ? answer.body.toString().trim() : answer.body.toString();
      if (!isPage) assert.equal(body, JSON.parse(bodyStart), path);
      comparedCount += 1;
    }
    assert.equal(comparedCount, 7);
  });
}
