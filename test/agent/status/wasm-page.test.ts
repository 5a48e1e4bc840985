import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import type { PluginStatus } from '../../../agent/wasm/plugin-status.ts';
import { BrowserPage, findBrowser, type Screen } from './headless-browser.ts';
import { StatusFixture } from './status-fixture.ts';
import { at, fixturePlugins, fixtureReport, hostileText } from './wasm-report-fixture.ts';

const browser = findBrowser();

const screens: Readonly<Record<string, Screen>> = {
  desk: { width: 1280, height: 900, scheme: 'light', isPhone: false },
  'desk-dark': { width: 1280, height: 900, scheme: 'dark', isPhone: false },
  phone: { width: 380, height: 800, scheme: 'light', isPhone: true },
  'phone-dark': { width: 380, height: 800, scheme: 'dark', isPhone: true },
};

/** Where pictures of the page are put for a look at them; nowhere when it is not set. */
const picturesFolder = process.env['FERRY_PICTURES'];

describe('the page for people', () => {
  test('is given to browsers alone, and JSON to everybody else', async () => {
    await using fixture = await StatusFixture.start({ debugPage: () => fixtureReport() });
    const chrome = 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8';
    const rows: readonly (readonly [string, string | undefined, string])[] = [
      ['/debug/wasm', undefined, 'application/json'],
      ['/debug/wasm', '*/*', 'application/json'],
      ['/debug/wasm', 'application/json', 'application/json'],
      ['/debug/wasm', 'application/json, text/html;q=0.5', 'application/json'],
      ['/debug/wasm', 'text/html;q=0', 'application/json'],
      ['/debug/wasm', 'text/*', 'application/json'],
      ['/debug/wasm', '///,,text/', 'application/json'],
      ['/debug/wasm', 'text/html', 'text/html; charset=utf-8'],
      ['/debug/wasm', chrome, 'text/html; charset=utf-8'],
      ['/debug/wasm?format=json', chrome, 'application/json'],
      ['/debug/wasm?format=html', '*/*', 'text/html; charset=utf-8'],
      ['/debug/ndsz', chrome, 'application/json'],
    ];
    for (const [path, accept, type] of rows) {
      const answer = await fixture.ask(path, accept === undefined ? {} : { headers: { accept } });
      assert.equal(answer.headers['content-type'], type, `${path} for ${accept}`);
    }
    const bad = await fixture.ask('/debug/wasm?format=xml');
    assert.equal(bad.status, 400);
    assert.equal(bad.body.toString(), 'format is json or html\n');
  });

  test('allows nothing from elsewhere, and nobody to keep or frame it', async () => {
    await using fixture = await StatusFixture.start({ debugPage: () => fixtureReport() });
    const { headers } = await fixture.ask('/debug/wasm?format=html');
    const policy = String(headers['content-security-policy']);
    assert.match(
      policy,
      /^default-src 'none'; style-src 'sha256-\S+'; script-src 'sha256-\S+'; connect-src 'self'; /,
    );
    assert.match(policy, /frame-ancestors 'none'/);
    assert.doesNotMatch(policy, /unsafe|\*|https?:/);
    assert.equal(headers['cache-control'], 'no-store');
    assert.equal(headers['x-content-type-options'], 'nosniff');
  });

  test('says why when it cannot be made', async () => {
    let page: unknown = { plugins: [{ name: 1 }] };
    await using fixture = await StatusFixture.start({ debugPage: () => page });
    const other = await fixture.ask('/debug/wasm?format=html');
    assert.equal(other.status, 500);
    assert.match(
      other.body.toString(),
      /the page cannot be made: it is not what the page is made for: nodeId/,
    );
    page = { tooBig: 1n };
    const broken = await fixture.ask('/debug/wasm?format=html');
    assert.equal(broken.status, 500);
    assert.match(broken.body.toString(), /BigInt/);
  });

  test('has no secret that the JSON does not have', async () => {
    const secret = 'c2VjcmV0LXZhbHVlLTEyMzQ1Njc4';
    const [plugin] = fixturePlugins;
    assert.ok(plugin);
    const lastError = `GET https://user:${secret}@registry.example/ with Authorization: Bearer ${secret} failed`;
    const plugins: PluginStatus[] = [{ ...plugin, state: 'failed', lastError }];
    await using fixture = await StatusFixture.start({ debugPage: () => fixtureReport(plugins) });
    const text = (await fixture.ask('/debug/wasm?format=html')).body.toString();
    assert.ok(!text.includes(secret));
    assert.match(text, /registry\.example\/ with Authorization: Bearer REDACTED failed/);
  });

  test('tells of an agent without plugins, and of one that leaves configs alone', async () => {
    let page = fixtureReport([]);
    await using fixture = await StatusFixture.start({ debugPage: () => page });
    const text = async (): Promise<string> => (await fixture.ask('/debug/wasm?format=html')).body.toString();
    assert.match(await text(), /istiod has sent no extension config to this proxy/);
    page = { ...page, isConversionEnabled: false };
    assert.match(await text(), /relayed untouched/);
  });
});

describe('the policy on the page', () => {
  const policy = {
    file: '/etc/ferry/policy.yaml',
    generation: 3,
    revision: 'f'.repeat(64),
    loadedAt: at(120),
    problems: [] as string[],
    refusedAt: undefined as string | undefined,
  };
  const pageOf = async (page: unknown): Promise<string> => {
    await using fixture = await StatusFixture.start({ debugPage: () => page });
    return (await fixture.ask('/debug/wasm?format=html')).body.toString();
  };

  test('is named with its version, and nothing is said where there is none', async () => {
    assert.doesNotMatch(await pageOf(fixtureReport()), /policy/i);
    const text = await pageOf({ ...fixtureReport(), policy });
    assert.match(text, /Under the policy <code>\/etc\/ferry\/policy\.yaml<\/code>, version 3 .*<code>f{12}</);
    assert.doesNotMatch(text, /NOT in force/);
  });

  test('that has faults is an alarm with every fault', async () => {
    const problems = ['/etc/ferry/policy.yaml:3:1: modulez: is unknown', hostileText];
    const text = await pageOf({ ...fixtureReport(), policy: { ...policy, problems, refusedAt: at(60) } });
    assert.match(text, /class="alarm">The policy file is NOT in force since .*: it has 2 faults/);
    assert.ok(text.includes('policy.yaml:3:1: modulez: is unknown'));
    assert.ok(!text.includes('<script>document.title'));
  });

  test('that refuses what runs says so with the plugin', async () => {
    const [plugin] = fixturePlugins;
    assert.ok(plugin);
    const policyRefusal =
      'refused by policy: the module is denied by modules[0] in /etc/ferry/policy.yaml line 3';
    const text = await pageOf({ ...fixtureReport([{ ...plugin, policyRefusal }]), policy });
    assert.match(
      text,
      /Envoy runs what the policy refuses now.*: refused by policy: the module is denied by modules/,
    );
  });
});

/** A browser holds connections in reserve, for which the end of a test does not wait. */
async function start(debugPage: () => unknown): Promise<StatusFixture> {
  return StatusFixture.start({ debugPage, closeGraceMs: 0 });
}

describe('the page in a browser', { skip: browser.skipReason }, () => {
  let chromium: BrowserPage;
  before(async () => {
    chromium = await BrowserPage.open(browser.path ?? '');
  });
  after(() => chromium[Symbol.asyncDispose]());
  // A page that stays open goes on asking.
  afterEach(() => chromium.visit('about:blank'));

  for (const [name, screen] of Object.entries(screens)) {
    test(`shows every plugin whole on a ${name} screen, asking nobody else`, async () => {
      await using fixture = await start(() => fixtureReport());
      const origin = `http://127.0.0.1:${fixture.server.port}`;
      const [complaintCount, requestCount] = [chromium.complaints.length, chromium.requestedUrls.length];
      await chromium.setScreen(screen);
      await chromium.visit(`${origin}/debug/wasm`);
      const cards = (await chromium.evaluate(
        `[...document.querySelectorAll('.plugin')].map((card) => ({
          name: card.querySelector('h2').textContent,
          badges: [...card.querySelectorAll('.badge')].map((badge) => badge.textContent),
          isOpen: card.querySelector('.history').open,
          historyCount: card.querySelectorAll('li').length,
          text: card.innerText,
          all: card.textContent,
        }))`,
      )) as {
        name: string;
        badges: string[];
        isOpen: boolean;
        historyCount: number;
        text: string;
        all: string;
      }[];
      assert.deepEqual(
        cards.map(({ name: plugin, badges, isOpen, historyCount }) => [plugin, badges, isOpen, historyCount]),
        [
          ['shop.geo-headers', ['failed', 'runs fallback allow'], true, 4],
          ['shop.jwt', ['failed', 'runs earlier config'], true, 5],
          ['shop.rate-limit', ['failed', 'runs fallback deny'], true, 4],
          ['shop.audit', ['preparing', 'runs nothing'], false, 1],
          ['istio-system.basic-auth', ['active', 'runs plugin'], false, 3],
          ['local-lua-like-filter', ['active', 'runs plugin'], false, 2],
        ],
      );
      const textOf = (plugin: string): string => cards.find((card) => card.name === plugin)?.text ?? '';
      assert.match(textOf('shop.rate-limit'), /A stand-in denies ALL requests\..*\(7 tries failed\)/);
      assert.match(textOf('shop.rate-limit'), /answered 404 \(MANIFEST_UNKNOWN: manifest unknown\)/);
      const lastFailure = at(22).replace('T', ' ').replace('.000', '');
      assert.ok(textOf('shop.rate-limit').includes(`6 times, last ${lastFailure}`));
      assert.match(textOf('shop.rate-limit'), /Next try in \d+s/);
      assert.match(textOf('shop.geo-headers'), /lets ALL requests pass .*Next try now/);
      assert.match(
        textOf('shop.jwt'),
        /Envoy goes on with the config before it\. Next try with the next push/,
      );
      const allOf = (plugin: string): string => cards.find((card) => card.name === plugin)?.all ?? '';
      assert.ok(allOf('shop.jwt').includes(`Running${'c'.repeat(64)}`));
      assert.match(textOf('shop.jwt'), /from the cache, 88\.0 KiB, .*MAY BE OUT OF DATE/);
      for (const shown of [
        'a'.repeat(64),
        `Manifest${'b'.repeat(64)}`,
        `Index${'1'.repeat(64)}`,
        `Layer${'2'.repeat(64)}`,
        '1258291',
        'blobs/sha256/',
      ])
        assert.ok(allOf('istio-system.basic-auth').includes(shown), shown);
      const active = textOf('istio-system.basic-auth');
      for (const shown of [
        'a'.repeat(12),
        'by oci (mirror https://mirror.example), 1.2 MiB, ready after 341 ms',
        'release: certificate of',
      ])
        assert.ok(active.includes(shown), shown);
      const alarms = await chromium.evaluate(
        `[...document.querySelectorAll('.alarm')].map((alarm) => alarm.textContent)`,
      );
      assert.deepEqual(alarms, [
        'Requests pass WITHOUT shop.geo-headers',
        'Requests are DENIED in the place of shop.rate-limit',
      ]);

      // Nothing is wider than the screen, and the colours are those of the scheme.
      assert.equal(await chromium.evaluate('document.documentElement.scrollWidth'), screen.width);
      const light = await chromium.evaluate(
        `Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]) > 128`,
      );
      assert.equal(light, screen.scheme === 'light');
      assert.deepEqual(chromium.complaints.slice(complaintCount), []);
      const asked = chromium.requestedUrls.slice(requestCount).filter((url) => !url.startsWith('data:'));
      assert.deepEqual(asked, [`${origin}/debug/wasm`]);
      if (picturesFolder !== undefined) {
        await mkdir(picturesFolder, { recursive: true });
        await writeFile(join(picturesFolder, `${name}.png`), await chromium.screenshot());
      }
    });
  }

  test('tells of VMs that failed while they served, with their plugins', async () => {
    const page = fixtureReport();
    const counts = { reloadCount: 1, failedReloadCount: 0, refusedCount: 5 };
    page['vms'] = {
      failed: [
        { plugin: 'istio-system.basic-auth~istio-translated-wasmplugin', ...counts },
        { plugin: `other${hostileText}`, ...counts },
      ],
      problem: `nobody answers${hostileText}`,
    };
    await using fixture = await start(() => page);
    await chromium.setScreen(screens['phone-dark'] ?? { width: 1, height: 1, scheme: 'dark', isPhone: true });
    await chromium.visit(`http://127.0.0.1:${fixture.server.port}/debug/wasm`);
    const words =
      'The VM failed while it served: Envoy started it again once, 5 requests were refused meanwhile.';
    const card = `document.querySelector('[data-plugin*="basic-auth"]').innerText`;
    assert.ok(String(await chromium.evaluate(card)).includes(words));
    const others = String(await chromium.evaluate(`document.querySelector('main').textContent`));
    assert.ok(others.includes(`other${hostileText}: ${words}`));
    assert.ok(others.includes(`Whether VMs fail is not known: nobody answers${hostileText}`));
    assert.equal(await chromium.evaluate(`document.querySelectorAll('main script, main img').length`), 0);
    assert.equal(await chromium.evaluate('document.documentElement.scrollWidth'), 380);
    if (picturesFolder !== undefined) {
      await mkdir(picturesFolder, { recursive: true });
      await writeFile(join(picturesFolder, 'vms-phone-dark.png'), await chromium.screenshot());
    }
  });

  test('shows hostile text as text, in every field that has text', async () => {
    const [plugin] = fixturePlugins;
    assert.ok(plugin);
    const texts = Object.fromEntries(
      [
        'name',
        'url',
        'source',
        'digest',
        'checksum',
        'sourceName',
        'matchedPin',
        'file',
        'version',
        'lastError',
        'runningDigest',
      ].map((field) => [field, `${field}${hostileText}`]),
    );
    const hostile = {
      ...plugin,
      ...texts,
      state: 'failed',
      name: `name${hostileText.replaceAll('/', '|')}`,
      signature: { signer: `signer${hostileText}`, proof: `proof${hostileText}` },
      history: [{ at: '2031-05-06T00:00:00.000Z', count: 1, what: 'failed', why: `why${hostileText}` }],
    } as unknown as PluginStatus;
    const page = fixtureReport([hostile]);
    page['nodeId'] = `node${hostileText}`;
    page['xds'] = {
      discoveryAddress: `istiod${hostileText}`,
      failedDialCount: 3,
      lastEnd: { side: 'istiod', atMs: 1, status: { code: 14, message: `message${hostileText}` } },
    };
    await using fixture = await start(() => page);
    const complaintCount = chromium.complaints.length;
    await chromium.visit(`http://127.0.0.1:${fixture.server.port}/debug/wasm`);
    const seen = String(await chromium.evaluate('document.body.textContent'));
    for (const [field, text] of Object.entries(texts)) {
      if (field !== 'name') assert.ok(seen.includes(text), `${field} in ${seen}`);
    }
    for (const field of ['signer', 'proof', 'why', 'node', 'istiod', 'message'])
      assert.ok(seen.includes(`${field}${hostileText}`), field);
    assert.ok(seen.includes(hostile.name));
    assert.equal(await chromium.evaluate(`document.querySelectorAll('main script, main img').length`), 0);
    assert.equal(await chromium.evaluate('document.title'), '1 failed - Wasm plugins');
    // A script that had come in would have been stopped by the policy, with a complaint.
    assert.deepEqual(chromium.complaints.slice(complaintCount), []);
  });

  test('takes itself anew, keeps what the reader has opened, and says when the agent is gone', async () => {
    let page = fixtureReport();
    const fixture = await start(() => page);
    await chromium.visit(`http://127.0.0.1:${fixture.server.port}/debug/wasm`);
    const first = `document.querySelector('[data-plugin*="basic-auth"] .history')`;
    await chromium.evaluate(`${first}.open = true`);
    await chromium.evaluate(`document.querySelector('[data-plugin*="jwt"] .history').open = false`);
    page = fixtureReport(fixturePlugins.filter(({ name }) => !name.includes('rate-limit')));
    await chromium.evaluate('refresh()');
    assert.equal(await chromium.evaluate(`document.querySelectorAll('.plugin').length`), 5);
    assert.equal(await chromium.evaluate('document.title'), '2 failed - Wasm plugins');
    assert.equal(await chromium.evaluate(`${first}.open`), true);
    assert.equal(
      await chromium.evaluate(`document.querySelector('[data-plugin*="jwt"] .history').open`),
      false,
    );
    assert.equal(await chromium.evaluate(`document.querySelector('.stale').textContent`), '');
    await fixture[Symbol.asyncDispose]();
    await chromium.evaluate('refresh()');
    assert.match(
      String(await chromium.evaluate(`document.querySelector('.stale').innerText`)),
      /^The agent has not answered since .*This is what it said last\.$/,
    );
    assert.equal(await chromium.evaluate(`document.querySelectorAll('.plugin').length`), 5);
  });
});
