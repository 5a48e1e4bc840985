import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, type TestContext, test } from 'node:test';
import { CommandError } from '../../../agent/cli/command-error.ts';
import { requestLocal } from '../../../agent/cli/request.ts';
import { main } from './command-process.ts';

/** One of the ports that `request` may use and that is free here: the command has no other. */
async function allowedServer(context: TestContext, listener: RequestListener): Promise<number> {
  for (const port of [15_004, 15_020, 15_021, 15_000]) {
    const server = createServer(listener);
    try {
      server.listen(port, 'localhost');
      await once(server, 'listening');
    } catch {
      continue;
    }
    context.after(() => {
      server.closeAllConnections();
      server.close();
    });
    return port;
  }
  throw new Error('All ports that request may use are taken.');
}

async function output(request: Parameters<typeof requestLocal>[0]): Promise<string> {
  const sink = new PassThrough();
  const read = text(sink);
  await requestLocal(request, sink);
  sink.end();
  return read;
}

describe('request', () => {
  test('prints the body and one newline', async (context) => {
    const port = await allowedServer(context, (request, response) => {
      response.write(`${request.method} ${request.url} `);
      request.pipe(response);
    });
    const ask = (method: string, path: string, body = '') => output({ port, method, path, body });
    assert.equal(await ask('GET', 'stats?usedonly'), 'GET /stats?usedonly \n');
    assert.equal(await ask('POST', '/drain', 'a body'), 'POST /drain a body\n');
    assert.equal(await ask('POST', 'drain'), 'POST /drain \n');
  });

  test('prints a 404 as success, and a redirect as it is', async (context) => {
    const port = await allowedServer(context, (request, response) => {
      response.writeHead(request.url === '/moved' ? 302 : 404, { location: '/x' }).end('seen');
    });
    assert.equal(await output({ port, method: 'GET', path: 'none', body: '' }), 'seen\n');
    assert.equal(await output({ port, method: 'GET', path: 'moved', body: '' }), 'seen\n');
  });

  test('fails for other statuses above 399, with status and body', async (context) => {
    const port = await allowedServer(context, (_, response) => response.writeHead(503).end('not now'));
    await assert.rejects(output({ port, method: 'GET', path: 'x', body: '' }), {
      name: 'CommandError',
      message: 'received unsuccessful status code 503: not now',
    });
  });

  test('gives a reader that is slow the whole body, before it ends', async (context) => {
    // More than a pipe holds, less than makes the command wait for its reader.
    const body = 'x'.repeat(100_000);
    const port = await allowedServer(context, (_, response) => response.end(body));
    const words = [main, 'request', `--debug-port=${port}`, 'GET', 'config_dump'];
    const script = '"$@" | { sleep 1; cat; }';
    const reader = spawn('sh', ['-c', script, 'sh', process.execPath, ...words], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    assert.equal((await text(reader.stdout)).length, body.length + 1);
  });

  test('fails when the answer is cut short', async (context) => {
    const port = await allowedServer(context, (request, response) => {
      response.writeHead(200, { 'content-length': '10' });
      response.write('12345', () => request.socket.destroy());
    });
    await assert.rejects(output({ port, method: 'GET', path: 'x', body: '' }), CommandError);
  });
});
