import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import type { Fault } from '../support/fault.ts';
import { httpGet } from '../support/http-get.ts';
import { HttpOrigin } from '../support/http-origin.ts';
import { buildPlugin, paddedModule } from '../support/plugin-build.ts';

const body = Buffer.from('0123456789'.repeat(1000));

/** What a client sees of an answer that ends too early: its head, and the body bytes before the end. */
async function rawBody(port: number, path: string): Promise<Buffer> {
  const socket = connect(port, '127.0.0.1');
  socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
  const chunks: Buffer[] = [];
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(socket, 'close');
  const whole = Buffer.concat(chunks);
  return whole.subarray(whole.indexOf('\r\n\r\n') + 4);
}

describe('a scripted server', () => {
  test('serves files and bytes, whole and in ranges, and counts', async () => {
    await using origin = await HttpOrigin.start();
    const plugin = await buildPlugin();
    const fileUrl = await origin.put('/plugin.wasm', plugin.path);
    const bytesUrl = await origin.put('/bytes', body);
    assert.equal((await httpGet(fileUrl)).body.byteLength, plugin.sizeBytes);
    assert.deepEqual((await httpGet(bytesUrl)).body, body);
    const part = await httpGet(fileUrl, { headers: { range: 'bytes=0-3' } });
    assert.equal(part.body.toString('latin1'), '\0asm');
    assert.equal((await httpGet(`${origin.http.url}/none`)).status, 404);
    assert.equal(origin.http.count(), 4);
    assert.equal(origin.http.count({ path: '/plugin.wasm' }), 2);
    assert.equal(
      origin.http.count({ path: /wasm$/, when: ({ headers }) => headers['range'] !== undefined }),
      1,
    );
    origin.http.forgetRequests();
    assert.equal(origin.http.count(), 0);
  });

  test('answers with a status, headers and a body of the script, so many times', async () => {
    await using origin = await HttpOrigin.start();
    const url = await origin.put('/x', body);
    const fault: Fault = {
      kind: 'status',
      status: 429,
      headers: { 'retry-after': '7' },
      body: '<html>slow down',
    };
    origin.http.script({ path: '/x', times: 2 }, fault);
    for (let i = 0; i < 2; i += 1) {
      const answer = await httpGet(url);
      assert.equal(answer.status, 429);
      assert.equal(answer.headers['retry-after'], '7');
      assert.match(answer.headers['content-type'] ?? '', /^text\/html/);
      assert.equal(answer.text, '<html>slow down');
    }
    assert.equal((await httpGet(url)).status, 200);
  });

  for (const afterBytes of [1, 17, 9_999]) {
    test(`cuts the connection after exactly ${afterBytes} bytes`, async () => {
      await using origin = await HttpOrigin.start();
      const url = await origin.put('/x', body);
      origin.http.script({}, { kind: 'cut', afterBytes });
      await assert.rejects(httpGet(url), /aborted|socket hang up/);
      assert.deepEqual(await rawBody(origin.http.port, '/x'), body.subarray(0, afterBytes));
      origin.http.heal();
      assert.deepEqual((await httpGet(url)).body, body);
    });
  }

  test('cuts a file in the middle of its stream', async () => {
    await using origin = await HttpOrigin.start();
    const module = await paddedModule(1_000_000);
    await origin.put('/m', module.path);
    origin.http.script({}, { kind: 'cut', afterBytes: 654_321 });
    assert.equal((await rawBody(origin.http.port, '/m')).byteLength, 654_321);
    assert.equal(origin.http.bodyBytesSent, 654_321);
  });

  test('flips one byte and keeps the length', async () => {
    await using origin = await HttpOrigin.start();
    const url = await origin.put('/x', body);
    origin.http.script({}, { kind: 'wrong-bytes', atByte: 5000 });
    const { body: got } = await httpGet(url);
    assert.equal(got.byteLength, body.byteLength);
    const different = got.findIndex((byte, index) => byte !== body[index]);
    assert.equal(different, 5000);
    assert.deepEqual(got.subarray(5001), body.subarray(5001));
  });

  test('waits before the answer, and stalls inside it, until it is let go', async () => {
    await using origin = await HttpOrigin.start();
    const url = await origin.put('/x', body);
    for (const faultOf of [
      (until: () => Promise<unknown>): Fault => ({ kind: 'delay', until }),
      (until: () => Promise<unknown>): Fault => ({ kind: 'stall', afterBytes: 100, until }),
    ]) {
      const gate = Promise.withResolvers<void>();
      const isHeld = Promise.withResolvers<void>();
      origin.http.script(
        { times: 1 },
        faultOf(() => {
          isHeld.resolve();
          return gate.promise;
        }),
      );
      let isAnswered = false;
      const answer = httpGet(url).then((got) => {
        isAnswered = true;
        return got;
      });
      await isHeld.promise;
      assert.equal(isAnswered, false);
      gate.resolve();
      assert.deepEqual((await answer).body, body);
    }
  });

  test('disconnects without an answer', async () => {
    await using origin = await HttpOrigin.start();
    const url = await origin.put('/x', body);
    origin.http.script({ times: 1 }, { kind: 'disconnect' });
    await assert.rejects(httpGet(url), /ECONNRESET|socket hang up/);
    assert.equal((await httpGet(url)).status, 200);
  });

  test('redirects, and overrides headers', async () => {
    await using origin = await HttpOrigin.start();
    const url = await origin.put('/x', body);
    origin.http.script({ times: 1 }, { kind: 'redirect', location: 'http://127.0.0.1:1/y', status: 302 });
    origin.http.script({ times: 1 }, { kind: 'headers', headers: { 'content-type': 'text/plain' } });
    assert.equal((await httpGet(url)).headers['content-type'], 'text/plain');
    const redirect = await httpGet(url);
    assert.deepEqual([redirect.status, redirect.headers['location']], [302, 'http://127.0.0.1:1/y']);
  });

  test('tells when requests have come, and names those that did when they have not', async () => {
    await using origin = await HttpOrigin.start();
    const url = await origin.put('/x', body);
    const waiting = origin.http.waitForRequests({ path: '/x' }, 2);
    await Promise.all([httpGet(url), httpGet(url)]);
    await waiting;
    await assert.rejects(
      origin.http.waitForRequests({ path: '/y' }, 1, 20),
      /Of 1 requests, 0 came .* GET \/x, GET \/x/,
    );
  });

  test('ends connections that a fault holds when it is closed', async () => {
    const origin = await HttpOrigin.start();
    const url = await origin.put('/x', body);
    const never = Promise.withResolvers<void>();
    origin.http.script({}, { kind: 'stall', afterBytes: 10, until: () => never.promise });
    const answer = assert.rejects(httpGet(url));
    await origin.http.waitForRequests({});
    await origin.close();
    await origin.close();
    await answer;
  });
});
