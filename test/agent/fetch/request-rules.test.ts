import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { httpWaitMs, isHttpStatusRetried } from '../../../agent/fetch/http-source.ts';
import { InsecureHosts } from '../../../agent/fetch/insecure-hosts.ts';
import { displayUrl, hostTextOf, parseModuleUrl } from '../../../agent/fetch/module-url.ts';
import { chooseProxy } from '../../../agent/fetch/proxy-choice.ts';
import { decideRedirect } from '../../../agent/fetch/redirect.ts';
import { type Attempt, parseRetryAfter, retry } from '../../../agent/fetch/retry.ts';
import { FetchError } from '../../../agent/fetch/types.ts';

describe('a URL for people', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['https://user:secret@host/a?secret#secret', 'https://host/a'],
    ['oci://user:secret@reg.test/a:v1', 'oci://reg.test/a:v1'],
    ['oci://reg.test/a@sha256:00', 'oci://reg.test/a@sha256:00'],
    ['oci://a@sha256:00', 'oci://a@sha256:00'],
    ['oci://user:secret@sha256:5000/a', 'oci://sha256:5000/a'],
    ['oci://user:secret@sha256:5000/a@sha256:00', 'oci://sha256:5000/a@sha256:00'],
    ['user:secret@sha256:5000/a', 'sha256:5000/a'],
    ['https://host/pkg@1.0/x', 'https://host/pkg@1.0/x'],
    ['https://user:sec/ret@host/x', 'https://host/x'],
    ['https://user:secret@[bad/x', 'https://[bad/x'],
    ['user:secret@host/x', 'host/x'],
    ['https://host/a\nb', 'https://host/a\u{fffd}b'],
  ];
  for (const [url, display] of cases) {
    it(`hides secrets of ${JSON.stringify(url)}`, () => {
      assert.equal(displayUrl(url), display);
      assert.doesNotMatch(displayUrl(url), /secret|ret@/);
    });
  }
});

describe('a module URL', () => {
  it('of any scheme case is read, user info of an image is dropped', () => {
    const oci = parseModuleUrl(`OCI://user:p@reg.test:5000/a/b:v1?x=1`);
    assert.ok(oci.kind === 'oci');
    assert.deepEqual(oci.reference, {
      registry: 'reg.test:5000',
      repository: 'a/b',
      tag: 'v1',
      digest: undefined,
    });
    const digest = 'a'.repeat(64);
    const short = parseModuleUrl(`oci://foo@sha256:${digest}`);
    assert.ok(short.kind === 'oci');
    assert.deepEqual(short.reference, {
      registry: 'index.docker.io',
      repository: 'library/foo',
      tag: 'latest',
      digest,
    });
    // A host may look like the start of a digest.
    const odd = parseModuleUrl('oci://user:p@sha256:5000/a');
    assert.ok(odd.kind === 'oci');
    assert.deepEqual([odd.reference.registry, odd.reference.repository], ['sha256:5000', 'a']);
    assert.equal(parseModuleUrl('HTTPS://host/x').kind, 'http');
  });

  it('that is none is refused', () => {
    for (const url of ['https:host/x', 'http:///x', 'oci:reg/x', 'http://[::1/x']) {
      assert.throws(() => parseModuleUrl(url), { code: 'bad_url', result: undefined });
    }
    for (const url of ['', 'reg.test/x', 'file:///x']) {
      assert.throws(() => parseModuleUrl(url), { code: 'unsupported_scheme' });
    }
    assert.throws(
      () => parseModuleUrl(`oci://secret@foo@sha512:00`),
      (error: Error) => !error.message.includes('secret'),
    );
  });

  it('has its host as it was written', () => {
    assert.equal(hostTextOf('HTTPS://u@Reg.Test:443/x'), 'Reg.Test:443');
    assert.equal(hostTextOf('/relative'), '');
  });
});

describe('WASM_INSECURE_REGISTRIES', () => {
  it('is compared byte for byte', () => {
    const hosts = new InsecureHosts(['reg.test', 'reg.test:5000', ' spaced']);
    const verdicts = ['reg.test', 'reg.test:5000', 'reg.test:443', 'Reg.test', 'spaced', 'sub.reg.test'].map(
      (host) => hosts.isUnverified(host),
    );
    assert.deepEqual(verdicts, [true, true, false, false, false, false]);
    assert.ok(new InsecureHosts(['*']).isUnverified('any'));
  });

  it('and local addresses allow plain http; lookalikes and the star do not', () => {
    const hosts = new InsecureHosts(['*', 'reg.test:80']);
    const allowed = [
      'reg.test:80',
      'localhost',
      'LOCALHOST:5000',
      'a.localhost:1',
      '127.0.0.1:5000',
      '127.9.9.9',
      '[::1]:5000',
      '10.0.0.1',
      '172.31.0.1:1',
      '192.168.0.1',
    ];
    const refused = [
      'reg.test',
      'reg.test:443',
      'localhost.evil.test',
      '127.0.0.1.evil.test',
      'x127.0.0.1',
      '172.32.0.1',
      '8.8.8.8',
      '169.254.169.254',
      '[fd00::1]',
    ];
    assert.deepEqual(
      allowed.filter((host) => !hosts.isPlainHttpAllowed(host)),
      [],
    );
    assert.deepEqual(
      refused.filter((host) => hosts.isPlainHttpAllowed(host)),
      [],
    );
  });
});

describe('a proxy', () => {
  const proxies = { http: 'http://p:3128', https: 'p.test:8080', noProxy: '' };
  const choose = (target: string, noProxy = '', more = {}): string | undefined =>
    chooseProxy(new URL(target), { ...proxies, noProxy, ...more })?.href;

  it('is chosen by the scheme of the target, its own scheme is http by default', () => {
    assert.equal(choose('http://a.test/'), 'http://p:3128/');
    assert.equal(choose('https://a.test/'), 'http://p.test:8080/');
    assert.equal(
      choose('https://a.test/', '', { https: undefined }),
      undefined,
      'HTTP_PROXY is not for https',
    );
  });

  const cases: readonly (readonly [string, string, boolean])[] = [
    ['http://localhost:1/', '', true],
    ['http://127.0.0.1/', '', true],
    ['http://[::1]/', '', true],
    ['http://a.test/', '*', true],
    ['http://a.test/', 'a.test', true],
    ['http://x.a.test/', 'a.test', true],
    ['http://xa.test/', 'a.test', false],
    ['http://a.test/', '.a.test', false],
    ['http://x.a.test/', '.a.test', true],
    ['http://x.a.test/', '*.a.test', true],
    ['http://A.TEST./', ' A.Test ', true],
    ['http://a.test:81/', 'a.test:80', false],
    ['http://a.test/', 'a.test:80', true],
    ['https://a.test/', 'a.test:443', true],
    ['http://10.1.2.3/', '10.0.0.0/8', true],
    ['http://11.1.2.3/', '10.0.0.0/8, b.test', false],
    ['http://10.1.2.3/', '10.1.2.3', true],
    ['http://[fd00::1]/', 'fd00::/8', true],
    ['http://[fd00::1]/', 'fd00::1', true],
    ['http://10.1.2.3/', '3', false],
  ];
  for (const [target, noProxy, isDirect] of cases) {
    it(`${isDirect ? 'is not' : 'is'} used for ${target} with NO_PROXY "${noProxy}"`, () => {
      assert.equal(choose(target, noProxy) === undefined, isDirect);
    });
  }

  it('that cannot be used is an error without its credentials', () => {
    for (const http of ['socks5://u:secret@p:1', 'http://u:secret@:bad', 'http://']) {
      assert.throws(
        () => choose('http://a.test/', '', { http }),
        (error: FetchError) =>
          error.code === 'network' &&
          error.message.startsWith('HTTP_PROXY') &&
          !error.message.includes('secret'),
      );
    }
  });
});

describe('a redirect', () => {
  const decide = (
    from: string,
    location: string,
    more: { isInternalLiteralRefused?: boolean; count?: number } = {},
  ) =>
    decideRedirect({
      from: new URL(from),
      firstHost: new URL(from).hostname,
      location,
      redirectCount: more.count ?? 0,
      rule: {
        isInternalLiteralRefused: more.isInternalLiteralRefused ?? true,
        isPlainHttpAllowed: (host) => host === 'plain.test:80',
      },
    });

  const followed: readonly (readonly [string, string, string, boolean])[] = [
    ['https://a.test/x/y', '../z?q#f', 'https://a.test/z?q', true],
    ['https://a.test/', '//b.test/z', 'https://b.test/z', false],
    ['https://a.test/', 'https://a.test:444/', 'https://a.test:444/', false],
    ['http://a.test/', 'https://a.test/', 'https://a.test/', false],
    ['http://a.test/', 'http://user:pw@a.test/', 'http://a.test/', true],
    ['https://a.test/', 'http://plain.test:80/', 'http://plain.test/', false],
    ['http://10.0.0.1/', 'http://10.0.0.1:9000/', 'http://10.0.0.1:9000/', false],
  ];
  for (const [from, location, target, keepsAuthorization] of followed) {
    it(`from ${from} to ${location} is followed ${keepsAuthorization ? 'with' : 'without'} credentials`, () => {
      const decision = decide(from, location);
      assert.deepEqual(
        decision.kind === 'follow' ? [decision.url.href, decision.keepsAuthorization] : decision,
        [target, keepsAuthorization],
      );
    });
  }

  const refused: readonly (readonly [string, string, RegExp])[] = [
    ['https://a.test/', 'http://b.test/', /plain http/],
    ['https://a.test/', 'ftp://b.test/', /scheme ftp/],
    ['https://a.test/', 'file:///etc/passwd', /scheme file/],
    ['https://a.test/', 'https://[bad/', /not a URL/],
    ['https://a.test/', 'https://10.0.0.1/', /internal address/],
    ['https://a.test/', 'https://[::1]/', /internal address/],
    ['https://a.test/', 'https://0/', /internal address/],
  ];
  for (const [from, location, reason] of refused) {
    it(`from ${from} to ${location} is refused`, () => {
      const decision = decide(from, location);
      assert.match(decision.kind === 'refuse' ? decision.reason : '', reason);
    });
  }

  it('to an internal literal is followed where the rule does not forbid it, and the tenth is the last', () => {
    assert.equal(
      decide('https://a.test/', 'https://10.0.0.1/', { isInternalLiteralRefused: false }).kind,
      'follow',
    );
    assert.equal(decide('https://a.test/', '/', { count: 9 }).kind, 'follow');
    assert.equal(decide('https://a.test/', '/', { count: 10 }).kind, 'refuse');
  });
});

describe('another try', () => {
  it('waits longer each time, within the random share and the cap', () => {
    assert.deepEqual(
      [1, 2, 3].map((failed) => httpWaitMs(500, failed, 0.5)),
      [500, 750, 1125],
    );
    assert.equal(httpWaitMs(500, 1, 0), 250);
    assert.ok(httpWaitMs(500, 1, 0.999) < 750);
    assert.equal(httpWaitMs(500, 100, 0.5), 60_000);
  });

  it('is for some statuses only', () => {
    const statuses = [301, 400, 401, 404, 408, 410, 429, 500, 501, 502, 503, 504, 505, 511, 599];
    assert.deepEqual(
      statuses.filter((status) => isHttpStatusRetried(status)),
      [408, 429, 500, 502, 503, 504, 599],
    );
  });

  it('is asked for by seconds or by a date', () => {
    const now = Date.parse('Fri, 31 Dec 1999 23:59:50 GMT');
    assert.equal(parseRetryAfter('120', now), 120_000);
    assert.equal(parseRetryAfter(' 0 ', now), 0);
    assert.equal(parseRetryAfter('Fri, 31 Dec 1999 23:59:59 GMT', now), 9_000);
    assert.equal(parseRetryAfter('Thu, 30 Dec 1999 23:59:59 GMT', now), 0);
    for (const text of [undefined, '', '-1', '1.5', 'soon', '99999999999']) {
      assert.equal(parseRetryAfter(text, now), undefined);
    }
  });

  const failure = (retryAfterMs?: number): FetchError =>
    new FetchError('network', 'down', retryAfterMs === undefined ? {} : { retryAfterMs });
  const run = async (
    outcomes: readonly Attempt<string>[],
    deadlineAtMs: number,
    signal = new AbortController().signal,
  ) => {
    let attemptCount = 0;
    const outcome = await retry(
      { maxAttemptCount: 3, waitMs: () => 1 },
      async () => {
        attemptCount += 1;
        return outcomes[attemptCount - 1] ?? { kind: 'done', value: 'late' };
      },
      { signal, deadlineAtMs: () => deadlineAtMs },
      { nowMs: () => 0, random: () => 0 },
    );
    return outcome.kind === 'done'
      ? [outcome.value, outcome.attemptCount]
      : [outcome.stoppedBy, outcome.attemptCount];
  };
  const failed = (isRetryable: boolean, retryAfterMs?: number): Attempt<string> => ({
    kind: 'failed',
    error: failure(retryAfterMs),
    isRetryable,
  });

  it('ends with success, with the attempts, with the time, or with what cannot be mended', async () => {
    assert.deepEqual(await run([failed(true), failed(true)], 100), ['late', 3]);
    assert.deepEqual(await run([failed(true), failed(true), failed(true)], 100), ['attempts', 3]);
    assert.deepEqual(await run([failed(true)], 1), ['deadline', 1]);
    assert.deepEqual(await run([failed(true, 100)], 100), ['deadline', 1]);
    assert.deepEqual(await run([failed(false)], 100), ['not-retryable', 1]);
  });

  it('is not waited for when the caller leaves', async () => {
    const stop = new AbortController();
    const running = run([failed(true, 3_600_000)], Number.POSITIVE_INFINITY, stop.signal);
    setImmediate(() => stop.abort());
    await assert.rejects(running, { code: 'aborted', message: /waiting to try again after: down/ });
  });
});
