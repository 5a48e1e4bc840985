import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import type { HttpResponse } from '../../../agent/fetch/http-client.ts';
import { readResumed } from '../../../agent/fetch/resumed-body.ts';
import { FetchError } from '../../../agent/fetch/types.ts';
import { FetchFixture } from './fetch-fixture.ts';
import { sha256, wasmModule } from './module-bytes.ts';
import { answer, type SeenRequest, startWebServer } from './web-server.ts';

const big = wasmModule('x'.repeat(1_000_000));
const other = wasmModule('y'.repeat(1_000_000));
const pieceBytes = 150_000;
const strong = { etag: '"1"' };

/** Sends a piece of a file from a byte on, then breaks the connection when there is more. */
function sendPiece(
  response: ServerResponse,
  file: Buffer,
  start: number,
  headers: Readonly<Record<string, string>>,
): void {
  const { byteLength } = file;
  response.writeHead(start === 0 ? 200 : 206, {
    ...headers,
    'content-length': byteLength - start,
    ...(start === 0 ? {} : { 'content-range': `bytes ${start}-${byteLength - 1}/${byteLength}` }),
  });
  const end = start + pieceBytes;
  if (end >= byteLength) response.end(file.subarray(start));
  else response.write(file.subarray(start, end), () => response.destroy());
}

function rangeOf(request: SeenRequest): number {
  const [, start = '0'] = /^bytes=(\d+)-$/.exec(request.headers.range ?? '') ?? [];
  return Number(start);
}

describe('a download over HTTP that breaks off', () => {
  it('is taken up where it broke, as often as it gets on, and its digest is of the whole', async () => {
    await using server = await startWebServer((request, response) =>
      sendPiece(response, big, rangeOf(request), strong),
    );
    await using fixture = await FetchFixture.open();
    const fetched = await fixture.fetch(server.url, { sha256: sha256(big) });
    assert.deepEqual(await readFile(fetched.path), big);
    const rests = server.requests.slice(1);
    // One more where the end of a piece was lost with its connection.
    assert.ok(rests.length >= Math.ceil(big.byteLength / pieceBytes) - 1);
    assert.ok(rests.every(({ headers }) => headers['if-range'] === '"1"'));
    assert.ok(rests.every((request) => rangeOf(request) > 0));
  });

  it('goes on after the time of one attempt, when that brought something', async () => {
    let isHeld = true;
    await using server = await startWebServer((request, response) => {
      const start = rangeOf(request);
      if (start > 0) {
        isHeld = false;
        sendPiece(response, big, start, strong);
        return;
      }
      response.writeHead(200, { ...strong, 'content-length': big.byteLength });
      response.write(big.subarray(0, big.byteLength - pieceBytes));
    });
    await using fixture = await FetchFixture.open({ config: { httpRequestTimeoutMs: 500 } });
    assert.deepEqual(await readFile((await fixture.fetch(server.url)).path), big);
    assert.equal(isHeld, false);
  });

  it('is asked for from its start when nothing vouches for the rest', async () => {
    for (const headers of [{}, { etag: 'W/"1"' }] as Record<string, string>[]) {
      let isFirst = true;
      await using server = await startWebServer((_, response) => {
        if (isFirst) sendPiece(response, big, 0, headers);
        else answer(response, 200, big, headers);
        isFirst = false;
      });
      await using fixture = await FetchFixture.open();
      assert.deepEqual(await readFile((await fixture.fetch(server.url)).path), big);
      assert.deepEqual(
        server.requests.map((request) => request.headers.range),
        [undefined, undefined],
      );
    }
  });

  it('before its first byte is asked for again, and not taken for an empty file', async () => {
    for (const pin of [undefined, sha256(big)]) {
      let isFirst = true;
      await using server = await startWebServer((_, response) => {
        if (!isFirst) return answer(response, 200, big, strong);
        isFirst = false;
        response.writeHead(200, { ...strong, 'content-length': big.byteLength });
        response.flushHeaders();
        response.destroy();
      });
      await using fixture = await FetchFixture.open();
      const fetched = await fixture.fetch(server.url, { sha256: pin });
      assert.deepEqual(await readFile(fetched.path), big);
      assert.equal(server.requests.length, 2);
    }
  });

  it('of a file that has changed meanwhile is never put together of both', async () => {
    const changed = { etag: '"2"' };
    const answers: readonly ((request: SeenRequest, response: ServerResponse) => void)[] = [
      // It heeds If-Range: the whole of the new one.
      (_, response) => answer(response, 200, other, changed),
      // It does not: a rest of the new one, which says so.
      (request, response) => {
        const range = `bytes ${rangeOf(request)}-${other.byteLength - 1}/${other.byteLength}`;
        answer(response, 206, other.subarray(rangeOf(request)), { ...changed, 'content-range': range });
      },
      (_, response) => answer(response, 416, '', { 'content-range': 'bytes */7' }),
    ];
    for (const answerRest of answers) {
      let isFirst = true;
      await using server = await startWebServer((request, response) => {
        if (isFirst) sendPiece(response, big, 0, strong);
        else if (rangeOf(request) > 0) answerRest(request, response);
        else answer(response, 200, other, changed);
        isFirst = false;
      });
      await using fixture = await FetchFixture.open();
      const fetched = await fixture.fetch(server.url);
      assert.deepEqual(await readFile(fetched.path), other);
      assert.deepEqual(await fixture.temporaryFileNames(), []);
    }
  });

  it('from a server that knows no ranges goes on in the whole that it sends again', async () => {
    let isFirst = true;
    await using server = await startWebServer((_, response) => {
      if (isFirst) sendPiece(response, big, 0, strong);
      else answer(response, 200, big, strong);
      isFirst = false;
    });
    await using fixture = await FetchFixture.open();
    assert.deepEqual(await readFile((await fixture.fetch(server.url)).path), big);
    assert.equal(server.requests.length, 2);
  });

  it('is taken up after 429 and 503 in between, with what had come', async () => {
    const statuses = [503, 429];
    await using server = await startWebServer((request, response) => {
      const start = rangeOf(request);
      const status = start > 0 ? statuses.shift() : undefined;
      if (status === undefined) sendPiece(response, big, start, strong);
      else answer(response, status, '', { 'retry-after': '0' });
    });
    await using fixture = await FetchFixture.open();
    assert.deepEqual(await readFile((await fixture.fetch(server.url)).path), big);
    assert.equal(server.requests.filter((request) => rangeOf(request) === 0).length, 1);
  });

  it('is given up when it does not get on, and is not begun anew', async () => {
    await using server = await startWebServer((request, response) => {
      if (rangeOf(request) === 0) sendPiece(response, big, 0, strong);
      else response.destroy();
    });
    await using fixture = await FetchFixture.open({ config: { httpMaxAttemptCount: 3 } });
    await assert.rejects(fixture.fetch(server.url), { code: 'network', message: /failed after 3 attempts/ });
    assert.equal(server.requests.length, 3);
    assert.deepEqual(await fixture.temporaryFileNames(), []);
  });
});

describe('a body that is read in parts', () => {
  /** What a server does with one request, drawn at random. */
  const steps = fc.array(
    fc.record({
      /** Bytes before the connection breaks. */
      sizeBytes: fc.nat(40_000),
      chunkBytes: fc.integer({ min: 1, max: 9_000 }),
      isRangeKnown: fc.boolean(),
    }),
    { maxLength: 12 },
  );

  it('gives each byte once and in order, whatever breaks where', async () => {
    const file = Buffer.from(Array.from({ length: 100_000 }, (_, index) => index % 251));
    const respond = (start: number, step: { sizeBytes: number; chunkBytes: number } | undefined) => {
      async function* read(): AsyncGenerator<Uint8Array> {
        const end = step === undefined ? file.byteLength : Math.min(file.byteLength, start + step.sizeBytes);
        const chunkBytes = step?.chunkBytes ?? file.byteLength;
        for (let at = start; at < end; at += chunkBytes) {
          yield file.subarray(at, Math.min(end, at + chunkBytes));
        }
        if (end < file.byteLength) throw new FetchError('network', 'broken');
      }
      return read();
    };
    await fc.assert(
      fc.asyncProperty(steps, async (plan) => {
        const left = [...plan];
        const chunks: Uint8Array[] = [];
        const body = readResumed({
          ask: async (asked): Promise<HttpResponse> => {
            const step = left.shift();
            const isRange = asked > 0 && step?.isRangeKnown !== false;
            return {
              status: isRange ? 206 : 200,
              header: (name) => (name === 'content-range' && isRange ? `bytes ${asked}-` : undefined),
              headers: () => [],
              body: respond(isRange ? asked : 0, step),
              discard: async () => undefined,
            };
          },
          mayGoOn: async () => true,
        });
        for await (const chunk of body) chunks.push(chunk);
        assert.deepEqual(Buffer.concat(chunks), file);
      }),
      { numRuns: 100, seed: 20_261_203 },
    );
  });

  it('with a part that was not asked for is refused', async () => {
    const body = readResumed({
      ask: async (asked): Promise<HttpResponse> => ({
        status: asked === 0 ? 200 : 206,
        header: () => 'bytes 7-9/10',
        headers: () => [],
        body: (async function* () {
          yield Buffer.from('abc');
          throw new FetchError('network', 'broken');
        })(),
        discard: async () => undefined,
      }),
      mayGoOn: async () => true,
    });
    await assert.rejects(
      async () => {
        for await (const chunk of body) void chunk;
      },
      { code: 'network', message: /from byte 3, the server sends another part/ },
    );
  });
});
