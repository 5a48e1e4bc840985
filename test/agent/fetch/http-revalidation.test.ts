import assert from 'node:assert/strict';
import { readFile, rm } from 'node:fs/promises';
import { describe, it } from 'node:test';
import {
  conditionHeaders,
  isSameFile,
  rangeValidator,
  readValidators,
} from '../../../agent/fetch/http-validators.ts';
import { FetchFixture } from './fetch-fixture.ts';
import { wasmModule } from './module-bytes.ts';
import { answer, type Handler, startWebServer } from './web-server.ts';

const one = wasmModule('one');
const two = wasmModule('two');
const date = 'Wed, 21 Oct 2015 07:28:00 GMT';

/** A server of one file that heeds conditions, and whether the file was sent. */
function fileServer(): { handle: Handler; file: Buffer; headers: Record<string, string>; sentCount: number } {
  const state = {
    file: one,
    headers: { etag: '"1"' } as Record<string, string>,
    sentCount: 0,
    handle: ((request, response) => {
      const { etag, 'last-modified': lastModified } = state.headers;
      const isKnown =
        etag === undefined
          ? request.headers['if-modified-since'] === lastModified
          : request.headers['if-none-match'] === etag;
      if (isKnown && (etag ?? lastModified) !== undefined) {
        response.writeHead(304, state.headers).end();
        return;
      }
      state.sentCount += 1;
      answer(response, 200, state.file, state.headers);
    }) satisfies Handler,
  };
  return state;
}

function versions(fixture: FetchFixture, url: string) {
  return async (pluginResourceVersion: string) =>
    fixture.fetch(url, { pullPolicy: 'always', pluginResourceVersion });
}

describe('a module of a URL that has not changed', () => {
  const validators: readonly (readonly [string, Record<string, string>, string])[] = [
    ['a tag', { etag: '"1"' }, 'if-none-match'],
    ['a weak tag', { etag: 'W/"1"' }, 'if-none-match'],
    ['a date', { 'last-modified': date }, 'if-modified-since'],
    ['both', { etag: '"1"', 'last-modified': date }, 'if-none-match'],
  ];
  for (const [name, headers, conditionName] of validators) {
    it(`is known by ${name} and not sent again, one that has changed is`, async () => {
      const origin = fileServer();
      origin.headers = headers;
      await using server = await startWebServer(origin.handle);
      await using fixture = await FetchFixture.open();
      const fetch = versions(fixture, `${server.url}/m.wasm`);
      const first = await fetch('1');
      const second = await fetch('2');
      assert.deepEqual([second.source, second.digest], ['cache', first.digest]);
      assert.equal(origin.sentCount, 1);
      assert.notEqual(server.requests.at(-1)?.headers[conditionName], undefined);
      assert.equal((await fetch('2')).source, 'cache');
      assert.equal(server.requests.length, 2, 'the version was noted');

      origin.file = two;
      origin.headers = { etag: '"2"' };
      const third = await fetch('3');
      assert.deepEqual([third.source, await readFile(third.path)], ['http', two]);
      assert.deepEqual(
        [...(await fixture.samples())].filter((line) => line.startsWith('remote_fetch')),
        ['remote_fetch_count{result="success"} 2'],
      );
    });
  }

  it('is known over a restart', async () => {
    const origin = fileServer();
    await using server = await startWebServer(origin.handle);
    await using fixture = await FetchFixture.open();
    await versions(fixture, server.url)('1');
    await fixture.restart();
    assert.equal((await versions(fixture, server.url)('2')).source, 'cache');
    assert.equal(origin.sentCount, 1);
  });

  it('is sent again when its file is gone from the cache, or is pinned by another digest', async () => {
    const origin = fileServer();
    await using server = await startWebServer(origin.handle);
    await using fixture = await FetchFixture.open();
    const first = await versions(fixture, server.url)('1');
    await rm(first.path);
    const second = await versions(fixture, server.url)('2');
    assert.deepEqual([second.source, await readFile(second.path)], ['http', one]);
    await assert.rejects(fixture.fetch(server.url, { sha256: 'a'.repeat(64) }), {
      code: 'checksum_mismatched',
    });
    assert.equal(server.requests.at(-1)?.headers['if-none-match'], undefined);
  });

  it('is asked for only where the pull policy wants that', async () => {
    const origin = fileServer();
    await using server = await startWebServer(origin.handle);
    await using fixture = await FetchFixture.open();
    for (const pullPolicy of ['unspecified', 'if-not-present'] as const) {
      for (const pluginResourceVersion of ['1', '2']) {
        await fixture.fetch(server.url, { pullPolicy, pluginResourceVersion });
      }
    }
    assert.equal(server.requests.length, 1);
  });

  it('is told by the place that said so before, not by a mirror of it', async () => {
    const origin = fileServer();
    const mirror = fileServer();
    await using originServer = await startWebServer(origin.handle);
    await using mirrorServer = await startWebServer(mirror.handle);
    const mirrors = [{ url: `${mirrorServer.url}/m`, timeoutMs: 10_000 }];
    let areMirrorsUsed = false;
    await using fixture = await FetchFixture.open({
      settings: { module: () => ({ layouts: [], mirrors: areMirrorsUsed ? mirrors : [] }) },
    });
    const fetch = versions(fixture, originServer.url);
    await fetch('1');
    areMirrorsUsed = true;
    // The same tag there means other bytes.
    mirror.file = two;
    assert.deepEqual(await readFile((await fetch('2')).path), two);
    assert.equal((await fetch('3')).source, 'cache');
    assert.deepEqual([origin.sentCount, mirror.sentCount], [1, 1]);
  });

  it('is not believed when nobody asked: a 304 without a condition is a failure', async () => {
    await using server = await startWebServer((_, response) => answer(response, 304));
    await using fixture = await FetchFixture.open();
    await assert.rejects(fixture.fetch(server.url), { code: 'http_status', message: /status code 304/ });
  });
});

describe('the validators of an answer', () => {
  const answerOf = (headers: Readonly<Record<string, string>>, status = 200) => ({
    status,
    header: (name: string) => headers[name],
  });

  it('are those that can be sent back', () => {
    const rows: readonly (readonly [Record<string, string>, Record<string, string>])[] = [
      [{ etag: '"a"' }, { 'if-none-match': '"a"' }],
      [
        { etag: 'W/"a"', 'last-modified': date },
        { 'if-none-match': 'W/"a"', 'if-modified-since': date },
      ],
      [{ etag: 'a' }, {}],
      [{ etag: '"a b"' }, {}],
      [{ etag: '"a"\r\nx: y' }, {}],
      [{ etag: `"${'a'.repeat(300)}"` }, {}],
      [{ 'last-modified': 'yesterday' }, {}],
      [{}, {}],
    ];
    for (const [headers, expected] of rows) {
      assert.deepEqual(
        conditionHeaders(readValidators(answerOf(headers))),
        expected,
        JSON.stringify(headers),
      );
    }
  });

  it('vouch for the rest of a file only when they are strong', () => {
    const later = (seconds: number): string => new Date(Date.parse(date) + seconds * 1_000).toUTCString();
    const rows: readonly (readonly [Record<string, string>, string | undefined])[] = [
      [{ etag: '"a"', 'last-modified': date }, '"a"'],
      [{ etag: 'W/"a"', 'last-modified': date, date: later(3_600) }, undefined],
      [{ 'last-modified': date, date: later(60) }, date],
      [{ 'last-modified': date, date: later(59) }, undefined],
      [{ 'last-modified': date }, undefined],
      [{}, undefined],
    ];
    for (const [headers, expected] of rows) assert.equal(rangeValidator(answerOf(headers)), expected);
  });

  it('find out a rest that is of another file', () => {
    const first = answerOf({ etag: '"a"', 'content-length': '100' });
    const rest = (headers: Record<string, string>, status = 206): boolean =>
      isSameFile(first, answerOf(headers, status));
    assert.ok(rest({ etag: '"a"', 'content-range': 'bytes 10-99/100' }));
    assert.ok(rest({ 'content-range': 'bytes 10-99/*' }));
    assert.ok(rest({ etag: '"a"' }, 200), 'the whole of the same file');
    assert.ok(!rest({ etag: '"b"', 'content-range': 'bytes 10-99/100' }));
    assert.ok(!rest({ 'content-range': 'bytes 10-199/200' }));
    assert.ok(!rest({ 'last-modified': date }));
    assert.ok(!rest({}, 200), 'the whole of who knows what');
  });
});
