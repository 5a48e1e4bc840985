import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { AdminError, HttpAdminClient } from '../../../agent/envoy/admin.ts';
import { freePorts } from '../../support/free-ports.ts';

async function adminServer(context: TestContext, listener: RequestListener, host = '127.0.0.1') {
  const server = createServer(listener);
  server.listen(0, host);
  await once(server, 'listening');
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { host, port: (server.address() as AddressInfo).port, server };
}

const timeoutMs = 10_000;

const withCode = (code: string, pattern?: RegExp) => (error: unknown) => {
  assert.ok(error instanceof AdminError);
  assert.equal(error.code, code);
  if (pattern !== undefined) assert.match(error.message, pattern);
  return true;
};

describe('the admin client', () => {
  test('gives the body of a 200, with method and query as asked, over IPv4 and IPv6', async (context) => {
    for (const host of ['127.0.0.1', '::1']) {
      const server = await adminServer(
        context,
        (request, response) => response.end(`${request.method} ${request.url}`),
        host,
      );
      const admin = new HttpAdminClient(server);
      assert.equal(await admin.get('/stats?filter=^(a)$', { timeoutMs }), 'GET /stats?filter=^(a)$');
      assert.equal(
        await admin.post('/drain_listeners?graceful', { timeoutMs }),
        'POST /drain_listeners?graceful',
      );
    }
  });

  test('refuses any other status', async (context) => {
    const server = await adminServer(context, (_, response) => response.writeHead(503).end('no'));
    const admin = new HttpAdminClient(server);
    await assert.rejects(
      admin.get('/x', { timeoutMs }),
      withCode('status', /GET http:\/\/127\.0\.0\.1:\d+\/x: status 503/),
    );
  });

  test('bounds an answer that never ends in time', async (context) => {
    const server = await adminServer(context, (_, response) => response.write('part'));
    const admin = new HttpAdminClient(server);
    await assert.rejects(admin.get('/x', { timeoutMs: 20 }), withCode('timeout'));
  });

  test('bounds an answer in size', async (context) => {
    const server = await adminServer(context, (_, response) => response.end('12345'));
    const admin = new HttpAdminClient({ ...server, maxBodyBytes: 4 });
    await assert.rejects(admin.get('/x', { timeoutMs }), withCode('too_large'));
  });

  test('ends with its signal', async (context) => {
    const arrived = Promise.withResolvers<void>();
    const server = await adminServer(context, () => arrived.resolve());
    const abort = new AbortController();
    const asked = new HttpAdminClient(server).post('/x', { timeoutMs, signal: abort.signal });
    await arrived.promise;
    abort.abort();
    await assert.rejects(asked, withCode('aborted'));
  });

  test('says when nothing listens or the connection breaks', async (context) => {
    const [port = 0] = await freePorts(1);
    await assert.rejects(
      new HttpAdminClient({ host: '127.0.0.1', port }).get('/x', { timeoutMs }),
      withCode('network', /ECONNREFUSED/),
    );
    const server = await adminServer(context, (request) => request.socket.destroy());
    await assert.rejects(new HttpAdminClient(server).get('/x', { timeoutMs }), withCode('network'));
    const cut = await adminServer(context, (request, response) => {
      response.writeHead(200, { 'content-length': '10' });
      response.write('12345', () => request.socket.destroy());
    });
    await assert.rejects(new HttpAdminClient(cut).get('/x', { timeoutMs }), withCode('network'));
  });
});
