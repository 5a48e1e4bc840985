import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync, zstdDecompressSync } from 'node:zlib';
import { findOpenMetricsFaults } from './openmetrics-grammar.ts';
import {
  type FixtureOptions,
  type HttpAnswer,
  type HttpQuestion,
  openMetricsType,
  type Peer,
  StatusFixture,
  startPage,
  startPeer,
} from './status-fixture.ts';

const textType = 'text/plain; version=0.0.4; charset=utf-8';
const envoyPage = '# TYPE envoy_rq counter\nenvoy_rq{cluster="a"} 1\n';
const appPage = '# TYPE app_total counter\napp_total 3\n';
const appOpenMetrics = '# TYPE app counter\napp_total 3 # {trace_id="a"} 1\n# EOF\n';

function agentPage(scrapeCount: number): string {
  return `# HELP istio_agent_scrapes_total The total number of scrapes.\n# TYPE istio_agent_scrapes_total counter\nistio_agent_scrapes_total ${scrapeCount}\n`;
}

const target = (peer: Peer, path = '/metrics') => ({ port: peer.port, path });

async function scrape(options: FixtureOptions, question: HttpQuestion = {}) {
  await using fixture = await StatusFixture.start(options);
  const answer = await fixture.ask('/stats/prometheus', question);
  return { answer, page: answer.body.toString(), failures: await failuresOf(fixture), log: fixture.log };
}

async function failuresOf(fixture: StatusFixture): Promise<Readonly<Record<string, number>>> {
  const counts: Record<string, number> = {};
  for (const type of ['agent', 'application', 'envoy']) {
    const count = await fixture.valueOf(`scrape_failures_total{type="${type}"}`);
    if (count !== undefined) counts[type] = count;
  }
  return counts;
}

/** The page without the agent's own part. */
function behindAgent(page: string): string {
  return page
    .split(/(?<=\n)/)
    .filter((line) => !line.includes('istio_agent_'))
    .join('');
}

/** Sends a begin and then breaks the connection. */
function breakAfter(text: string, headers: Readonly<Record<string, string>> = {}) {
  return (_request: IncomingMessage, response: ServerResponse) => {
    response.writeHead(200, headers);
    response.write(text, () => response.destroy());
  };
}

async function freedPort(): Promise<number> {
  const page = await startPage('');
  const { port } = page;
  await page[Symbol.asyncDispose]();
  return port;
}

test('the page is the agent, then Envoy, then the application, even when they answer in another order', async () => {
  const applicationAsked = Promise.withResolvers<void>();
  await using envoy = await startPeer(async (_request, response) => {
    await applicationAsked.promise;
    response.end(envoyPage);
  });
  await using application = await startPeer((_request, response) => {
    response.end(appPage, applicationAsked.resolve);
  });
  const { answer, page, failures } = await scrape({ envoy, targets: [target(application)] });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers['content-type'], textType);
  assert.equal(page, agentPage(1) + envoyPage + appPage);
  assert.deepEqual(failures, {});
});

test('without Envoy and application the page is the agent alone, and each scrape counts itself', async () => {
  await using fixture = await StatusFixture.start();
  assert.equal((await fixture.ask('/metrics')).body.toString(), agentPage(1));
  assert.equal((await fixture.ask('/stats/prometheus')).body.toString(), agentPage(2));
});

test('Envoy is given the query as it came, the application is not; both get the forwarded headers', async () => {
  await using envoy = await startPage(envoyPage);
  await using application = await startPage(appPage);
  await using fixture = await StatusFixture.start({
    envoy,
    targets: [target(application, '/custom?format=prometheus')],
  });
  await fixture.ask('/stats/prometheus?usedonly&filter=%5Ea.*&x=/../y', {
    headers: {
      'user-agent': 'Prometheus/3',
      accept: 'application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1',
      'x-prometheus-scrape-timeout-seconds': '4',
      cookie: 'session=1',
      authorization: 'Bearer x',
    },
  });
  const [toEnvoy] = envoy.requests;
  const [toApplication] = application.requests;
  assert.equal(toEnvoy?.url, '/stats/prometheus?usedonly&filter=%5Ea.*&x=/../y');
  assert.equal(toApplication?.url, '/custom?format=prometheus');
  const shared = {
    'user-agent': 'Prometheus/3',
    'x-prometheus-scrape-timeout-seconds': '3.6',
    'accept-encoding': 'identity',
    connection: 'close',
  };
  assert.deepEqual(toEnvoy?.headers, {
    ...shared,
    host: `localhost:${envoy.port}`,
    accept: 'text/plain; q=0.1; version=0.0.4',
  });
  assert.deepEqual(toApplication?.headers, {
    ...shared,
    host: `localhost:${application.port}`,
    accept: 'application/openmetrics-text; q=0.2; version=1.0.0,text/plain; q=0.1; version=0.0.4',
  });
});

test('a bad timeout header is warned of and not forwarded; an absent Accept is no reason for a warning', async () => {
  await using envoy = await startPage(envoyPage);
  const { log, page } = await scrape(
    { envoy },
    { headers: { 'x-prometheus-scrape-timeout-seconds': 'soon' } },
  );
  assert.equal(page, agentPage(1) + envoyPage);
  assert.deepEqual(log.messages('warn'), ['scrape timeout header is not a number of seconds']);
  assert.equal(envoy.requests[0]?.headers['x-prometheus-scrape-timeout-seconds'], undefined);
  assert.equal(envoy.requests[0]?.headers.accept, 'text/plain;version=0.0.4');
});

for (const version of ['1.0.0', '0.0.1']) {
  test(`an application that sends OpenMetrics ${version} makes the whole page valid OpenMetrics`, async () => {
    const type = `application/openmetrics-text; version=${version}; charset=utf-8`;
    await using envoy = await startPage(envoyPage);
    await using application = await startPage(appOpenMetrics, { 'content-type': type });
    const { answer, page, failures } = await scrape({ envoy, targets: [target(application)] });
    assert.equal(answer.headers['content-type'], type);
    assert.equal(
      page,
      '# HELP istio_agent_scrapes The total number of scrapes.\n# TYPE istio_agent_scrapes counter\nistio_agent_scrapes_total 1\n' +
        `# TYPE envoy_rq unknown\nenvoy_rq{cluster="a"} 1\n${appOpenMetrics}`,
    );
    assert.deepEqual(findOpenMetricsFaults(page), []);
    assert.deepEqual(failures, {});
  });
}

test('a version of OpenMetrics that the page cannot have becomes text', async () => {
  await using application = await startPage(appOpenMetrics, {
    'content-type': 'application/openmetrics-text; version=2.0.0',
  });
  const { answer, page } = await scrape({ targets: [target(application)] });
  assert.equal(answer.headers['content-type'], textType);
  assert.equal(behindAgent(page), appPage);
});

interface FailureRow {
  readonly what: string;
  readonly handle: (request: IncomingMessage, response: ServerResponse) => void;
  /** What of the failed part is on the page. */
  readonly left?: string;
  readonly code: string;
}

const failureRows: readonly FailureRow[] = [
  {
    what: 'status 503',
    handle: (_request, response) => response.writeHead(503).end('down'),
    code: 'status',
  },
  {
    what: 'status 204',
    handle: (_request, response) => response.writeHead(204).end(),
    code: 'status',
  },
  {
    what: 'no answer',
    handle: (request) => request.socket.destroy(),
    code: 'cut',
  },
  {
    what: 'a break in the middle of a line',
    handle: breakAfter('good{a="b"} 1\nhalf{c="'),
    left: 'good{a="b"} 1\n',
    code: 'cut',
  },
  {
    what: 'a break at a line end',
    handle: breakAfter('good{a="b"} 1\n'),
    left: 'good{a="b"} 1\n',
    code: 'cut',
  },
  {
    what: 'an unknown compression',
    handle: (_request, response) => response.writeHead(200, { 'content-encoding': 'br' }).end('x'),
    code: 'encoding',
  },
  {
    what: 'broken gzip',
    handle: (_request, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end('no gzip'),
    code: 'encoding',
  },
  {
    what: 'a redirect away from this machine',
    handle: (_request, response) => response.writeHead(302, { location: 'http://192.0.2.1/' }).end(),
    code: 'redirect',
  },
  {
    what: 'a redirect to https',
    handle: (_request, response) => response.writeHead(302, { location: 'https://localhost/' }).end(),
    code: 'redirect',
  },
  {
    what: 'redirects without end',
    handle: (request, response) => response.writeHead(302, { location: `${request.url}x` }).end(),
    code: 'redirect',
  },
  {
    what: 'endless headers',
    handle: (_request, response) => response.writeHead(200, { 'x-long': 'x'.repeat(100_000) }).end(),
    code: 'protocol',
  },
];

for (const { what, handle, left = '', code } of failureRows) {
  test(`Envoy with ${what} loses only its part, and is counted once`, async () => {
    await using envoy = await startPeer(handle);
    await using application = await startPage(appPage);
    const { answer, page, failures, log } = await scrape({ envoy, targets: [target(application)] });
    assert.equal(answer.status, 200);
    assert.ok(answer.isComplete);
    assert.equal(behindAgent(page), left + appPage);
    assert.deepEqual(failures, { envoy: 1 });
    assert.deepEqual(log.messages('error'), ['failed scraping envoy metrics']);
    assert.equal(log.lines.find((line) => line.level === 'error')?.fields.code, code);
  });

  test(`an application with ${what} loses only its part, and is counted once`, async () => {
    await using envoy = await startPage(envoyPage);
    await using application = await startPeer(handle);
    const { answer, page, failures, log } = await scrape({ envoy, targets: [target(application)] });
    assert.equal(answer.headers['content-type'], textType);
    assert.ok(answer.isComplete);
    assert.equal(behindAgent(page), envoyPage + left);
    assert.deepEqual(failures, { application: 1 });
    assert.deepEqual(log.messages('error'), ['failed scraping application metrics']);
  });
}

test('peers where nobody listens are counted in the very page that lacks them', async () => {
  const { answer, page } = await scrape({
    envoy: { port: await freedPort() },
    targets: [{ port: await freedPort(), path: '/metrics' }],
  });
  assert.equal(answer.status, 200);
  assert.match(page, /^istio_agent_scrape_failures_total\{type="application"\} 1$/m);
  assert.match(page, /^istio_agent_scrape_failures_total\{type="envoy"\} 1$/m);
  assert.equal(behindAgent(page), '');
});

test('a metric of the agent that fails is counted, and the rest of the page stays', async () => {
  await using envoy = await startPage(envoyPage);
  await using fixture = await StatusFixture.start({ envoy });
  fixture.registry.collector('broken', () => Promise.reject(new Error('EIO')));
  assert.equal((await fixture.ask('/metrics')).body.toString(), agentPage(1) + envoyPage);
  assert.equal(await fixture.valueOf('scrapes_total').catch(() => 'fails'), 'fails');
  assert.deepEqual(fixture.log.messages('error'), ['failed scraping and writing agent metrics']);
});

test('an OpenMetrics body that breaks still leaves a valid page', async () => {
  await using envoy = await startPage(envoyPage);
  await using application = await startPeer(
    breakAfter('# TYPE app counter\napp_total 3\napp_to', { 'content-type': openMetricsType }),
  );
  const { answer, page, failures } = await scrape({ envoy, targets: [target(application)] });
  assert.equal(answer.headers['content-type'], openMetricsType);
  assert.ok(page.endsWith('# TYPE app counter\napp_total 3\n# EOF\n'), page);
  assert.deepEqual(findOpenMetricsFaults(page), []);
  assert.deepEqual(failures, { application: 1 });
});

test('an OpenMetrics body without its end marker may be cut, so it is counted', async () => {
  await using application = await startPage('# TYPE app counter\napp_total 3', {
    'content-type': openMetricsType,
  });
  const { page, failures } = await scrape({ targets: [target(application)] });
  assert.deepEqual(findOpenMetricsFaults(page), []);
  assert.ok(page.endsWith('app_total 3\n# EOF\n'));
  assert.deepEqual(failures, { application: 1 });
});

test('redirects on this machine are followed, relative and absolute ones, to another port too', async () => {
  await using moved = await startPage(appPage);
  await using application = await startPeer((request, response) => {
    const location =
      request.url === '/metrics' ? '/metrics/?a=b' : `http://127.0.0.1:${moved.port}/moved?c=d`;
    response.writeHead(307, { location }).end();
  });
  const { page, failures } = await scrape({ targets: [target(application)] });
  assert.equal(behindAgent(page), appPage);
  assert.deepEqual(failures, {});
  assert.deepEqual(
    application.requests.map((request) => request.url),
    ['/metrics', '/metrics/?a=b'],
  );
  assert.equal(moved.requests[0]?.url, '/moved?c=d');
});

test('a peer that compresses unasked is read', async () => {
  await using envoy = await startPage(gzipSync(envoyPage), { 'content-encoding': 'gzip' });
  await using application = await startPage(gzipSync(appOpenMetrics), {
    'content-encoding': 'x-gzip',
    'content-type': openMetricsType,
  });
  const { page, failures } = await scrape({ envoy, targets: [target(application)] });
  assert.deepEqual(findOpenMetricsFaults(page), []);
  assert.ok(page.includes('envoy_rq{cluster="a"} 1\n'));
  assert.ok(page.endsWith(appOpenMetrics));
  assert.deepEqual(failures, {});
});

test('several applications are written in configured order, in the format they agree on', async () => {
  const secondSent = Promise.withResolvers<void>();
  await using first = await startPeer(async (_request, response) => {
    await secondSent.promise;
    response.writeHead(200, { 'content-type': openMetricsType });
    response.end('# TYPE one gauge\none 1\n# EOF \r\n');
  });
  await using second = await startPeer((_request, response) => {
    response.writeHead(200, { 'content-type': openMetricsType });
    response.end('# TYPE two gauge\ntwo 2\n# EOF', secondSent.resolve);
  });
  const { answer, page, failures } = await scrape({ targets: [target(first), target(second)] });
  assert.equal(answer.headers['content-type'], openMetricsType);
  assert.equal(behindAgent(page), '# TYPE one gauge\none 1\n# TYPE two gauge\ntwo 2\n# EOF\n');
  assert.deepEqual(findOpenMetricsFaults(page), []);
  assert.deepEqual(failures, {});
});

test('applications that do not agree are all written as text', async () => {
  await using first = await startPage(appOpenMetrics, { 'content-type': openMetricsType });
  await using second = await startPage('other 1', { 'content-type': 'text/plain' });
  await using third = await startPage('third 2\n# EOF\n', {
    'content-type': 'application/openmetrics-text; version=0.0.1',
  });
  const { answer, page } = await scrape({ targets: [target(first), target(second), target(third)] });
  assert.equal(answer.headers['content-type'], textType);
  assert.equal(behindAgent(page), `${appPage}other 1\nthird 2\n`);
});

test('of several applications the failed ones are left out, counted each, and do not choose the format', async () => {
  await using envoy = await startPage(envoyPage);
  await using down = await startPage('down', { 'content-type': 'text/plain' }, 500);
  await using cut = await startPeer(breakAfter('half 1\n'));
  await using good = await startPage(appOpenMetrics, { 'content-type': openMetricsType });
  const { answer, page, failures } = await scrape({
    envoy,
    targets: [target(down), target(cut), target(good)],
  });
  assert.equal(answer.headers['content-type'], openMetricsType);
  assert.ok(page.endsWith(appOpenMetrics));
  assert.ok(!page.includes('half'), 'a held body is whole or absent');
  assert.deepEqual(findOpenMetricsFaults(page), []);
  assert.deepEqual(failures, { application: 2 });
});

test('when all of several applications fail the page is text', async () => {
  const port = await freedPort();
  const { answer, failures } = await scrape({
    targets: [
      { port, path: '/a' },
      { port, path: '/b' },
    ],
  });
  assert.equal(answer.headers['content-type'], textType);
  assert.deepEqual(failures, { application: 2 });
});

const tenMebibytes = 10 * 1024 * 1024;

test('of several applications one over the cap is dropped whole, one at the cap is kept', async () => {
  const line = `${'x'.repeat(63)}\n`;
  const atCap = Buffer.from(line.repeat(tenMebibytes / line.length));
  await using large = await startPage(Buffer.concat([atCap, Buffer.from('y')]));
  await using exact = await startPage(gzipSync(atCap), { 'content-encoding': 'gzip' });
  await using small = await startPage(appPage);
  const { page, failures, log } = await scrape({ targets: [target(large), target(exact), target(small)] });
  assert.equal(behindAgent(page).length, tenMebibytes + appPage.length);
  assert.ok(page.endsWith(appPage));
  assert.deepEqual(failures, { application: 1 });
  assert.equal(
    log.lines.find((entry) => entry.level === 'error')?.fields.error,
    'response exceeds 10485760 bytes; dropping target',
  );
});

test('a single application has no cap', async () => {
  const line = `${'x'.repeat(63)}\n`;
  await using application = await startPage(line.repeat(tenMebibytes / line.length + 100));
  const { page, failures } = await scrape({ targets: [target(application)] });
  assert.equal(behindAgent(page).length, tenMebibytes + 100 * line.length);
  assert.deepEqual(failures, {});
});

const shortTimeout = { 'x-prometheus-scrape-timeout-seconds': '0.5' };

test('an application that hangs before its headers costs only its part', async () => {
  await using envoy = await startPage(envoyPage);
  await using application = await startPeer(() => undefined);
  const { answer, page, failures, log } = await scrape(
    { envoy, targets: [target(application)] },
    { headers: shortTimeout },
  );
  assert.ok(answer.isComplete);
  assert.equal(page, agentPage(1) + envoyPage);
  assert.deepEqual(failures, { application: 1 });
  assert.equal(log.lines.find((line) => line.level === 'error')?.fields.code, 'timeout');
});

test('an application that hangs in its body keeps its whole lines', async () => {
  await using envoy = await startPage(envoyPage);
  await using application = await startPeer((_request, response) => {
    response.write('whole 1\nhalf');
  });
  const { answer, page, failures } = await scrape(
    { envoy, targets: [target(application)] },
    { headers: shortTimeout },
  );
  assert.ok(answer.isComplete);
  assert.equal(page, `${agentPage(1) + envoyPage}whole 1\n`);
  assert.deepEqual(failures, { application: 1 });
});

test('Envoy that hangs leaves time for the application', async () => {
  // More than one read of it, and more than the kernel holds while it waits.
  const samples = Array.from({ length: 300_000 }, (_, index) => `large{index="${index}"} 1\n`);
  const largePage = `# TYPE large gauge\n${samples.join('')}# EOF\n`;
  for (const begin of ['', 'envoy_begin 1\nenvoy_half']) {
    await using envoy = await startPeer((_request, response) => {
      if (begin !== '') response.write(begin);
    });
    await using application = await startPage(largePage, { 'content-type': openMetricsType });
    const { answer, page, failures } = await scrape(
      { envoy, targets: [target(application)] },
      { headers: { 'x-prometheus-scrape-timeout-seconds': '4' } },
    );
    assert.ok(answer.isComplete);
    assert.equal(answer.headers['content-type'], openMetricsType);
    assert.ok(page.endsWith(`${begin === '' ? '' : 'envoy_begin 1\n'}${largePage}`), page.slice(0, 1000));
    assert.deepEqual(failures, { envoy: 1 });
  }
});

test('an application that answers late is still on the page, as text', async () => {
  const othersWritten = Promise.withResolvers<void>();
  await using envoy = await startPage(envoyPage);
  await using application = await startPeer(async (_request, response) => {
    await othersWritten.promise;
    response.writeHead(200, { 'content-type': openMetricsType });
    response.end(appOpenMetrics);
  });
  await using fixture = await StatusFixture.start({ envoy, targets: [target(application)] });
  // Bytes go out once there are 1024 of them.
  const labels = { name: 'padding', help: 'x'.repeat(1024) };
  fixture.registry.gauge(labels)(1);
  const answer = await fixture.ask('/metrics', {
    headers: { 'x-prometheus-scrape-timeout-seconds': '2' },
    onBytes: othersWritten.resolve,
  });
  assert.equal(answer.headers['content-type'], textType);
  assert.equal(behindAgent(answer.body.toString()), envoyPage + appPage);
  assert.deepEqual(await failuresOf(fixture), {});
});

test('a scraper that leaves ends the sub-requests and counts as nobody’s failure', async () => {
  const closed: Promise<void>[] = [];
  const hang = (_request: IncomingMessage, response: ServerResponse) => {
    closed.push(new Promise((resolve) => response.on('close', resolve)));
    if (closed.length === 2) controller.abort();
  };
  const controller = new AbortController();
  await using envoy = await startPeer(hang);
  await using application = await startPeer(hang);
  await using fixture = await StatusFixture.start({ envoy, targets: [target(application)] });
  await assert.rejects(fixture.ask('/metrics', { signal: controller.signal }), { name: 'AbortError' });
  await Promise.all(closed);
  assert.deepEqual(await failuresOf(fixture), {});
  assert.deepEqual(fixture.log.messages('error'), []);
});

test('parallel scrapes are whole and do not mix; one too many is refused, and later ones are not', async () => {
  const gate = Promise.withResolvers<void>();
  const allAsked = Promise.withResolvers<void>();
  let askedCount = 0;
  await using envoy = await startPeer(async (request, response) => {
    askedCount += 1;
    if (askedCount === 8) allAsked.resolve();
    await gate.promise;
    const name = new URL(request.url ?? '', 'http://x').searchParams.get('filter') ?? '';
    response.end(`envoy_${name} 1\n`.repeat(2000));
  });
  await using fixture = await StatusFixture.start({ envoy });
  const scrapes = Array.from({ length: 8 }, (_, index) => fixture.ask(`/metrics?filter=n${index}`));
  await allAsked.promise;
  const refused = await fixture.ask('/metrics');
  assert.equal(refused.status, 503);
  assert.match(refused.body.toString(), /8 scrapes/);
  gate.resolve();
  for (const [index, answer] of (await Promise.all(scrapes)).entries()) {
    assert.equal(answer.status, 200);
    assert.equal(behindAgent(answer.body.toString()), `envoy_n${index} 1\n`.repeat(2000));
  }
  assert.equal((await fixture.ask('/metrics')).status, 200);
  assert.equal(await fixture.valueOf('scrapes_total'), 9);
});

for (const encoding of ['gzip', 'zstd']) {
  test(`a merged page can be had as ${encoding}`, async () => {
    await using envoy = await startPage(envoyPage.repeat(3000));
    const { answer } = await scrape({ envoy }, { headers: { 'accept-encoding': encoding } });
    assert.equal(answer.headers['content-encoding'], encoding);
    assert.ok(answer.body.length < 10_000);
    assert.equal(decompress(answer), agentPage(1) + envoyPage.repeat(3000));
  });
}

function decompress({ headers, body }: HttpAnswer): string {
  return (headers['content-encoding'] === 'gzip' ? gunzipSync(body) : zstdDecompressSync(body)).toString();
}

const recording = fileURLToPath(
  new URL('../../../../shared/captures/agent-15020-metrics.sidecar.txt', import.meta.url),
);
const skip = existsSync(recording) ? false : `no recording of a stock agent at ${recording}`;

test('what a real Envoy has written is passed on byte for byte, and can be valid OpenMetrics', {
  skip,
}, async () => {
  const page = readFileSync(recording, 'utf8');
  // Lines that whoever recorded it has cut or added are no samples of Envoy.
  const recorded = page
    .split('\n')
    .filter((line) => /^(?:# TYPE envoy_|envoy_)/.test(line))
    .map((line) => `${line}\n`)
    .join('');
  assert.ok(recorded.length > 5000);
  await using envoy = await startPage(recorded);
  assert.equal(behindAgent((await scrape({ envoy })).page), recorded);
  await using application = await startPage('# EOF\n', { 'content-type': openMetricsType });
  const converted = await scrape({ envoy, targets: [target(application)] });
  assert.deepEqual(findOpenMetricsFaults(converted.page), []);
  const samples = (text: string) => text.split('\n').filter((line) => line.startsWith('envoy_'));
  assert.deepEqual(samples(converted.page), samples(recorded));
});

test('no connection to a peer is left when the page is done, whole or not', async () => {
  const closed: Promise<void>[] = [];
  const watched =
    (text: string) =>
    (request: IncomingMessage, response: ServerResponse): void => {
      closed.push(new Promise((resolve) => request.socket.on('close', resolve)));
      response.writeHead(200, { 'content-type': openMetricsType });
      response.write(text);
    };
  // Neither ends its body: one is left at its end marker, the other at the deadline.
  await using envoy = await startPeer(watched(envoyPage));
  await using application = await startPeer(watched(appOpenMetrics));
  const { page } = await scrape({ envoy, targets: [target(application)] }, { headers: shortTimeout });
  assert.ok(page.endsWith(appOpenMetrics));
  assert.equal(closed.length, 2);
  await Promise.all(closed);
});
