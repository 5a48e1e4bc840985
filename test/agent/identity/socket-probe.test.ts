import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { createServer as createHttp2Server } from 'node:http2';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { probeSocket } from '../../../agent/identity/socket-probe.ts';
import { SdsProvider } from '../../support/sds-provider.ts';
import { atEnd, temporaryFolder } from '../../support/test-end.ts';
import { LogCapture } from './sds-fixture.ts';

const options = { log: new LogCapture().root.scope('sds'), signal: new AbortController().signal };

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** A socket file behind which nobody is any more: its server was killed. */
async function leaveStaleSocket(path: string): Promise<void> {
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', script]);
  assert.ok(await exists(path));
}

async function listenSilently(
  t: TestContext,
  path: string,
  onSocket: (socket: Socket) => void,
): Promise<void> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    onSocket(socket);
  });
  server.listen(path);
  await once(server, 'listening');
  atEnd(t, () => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
}

test('nothing there is no socket', async (t) => {
  assert.equal(await probeSocket(join(await temporaryFolder(t), 'socket'), options), false);
});

test('a gRPC server is a healthy socket, and stays', async (t) => {
  const path = join(await temporaryFolder(t), 'socket');
  const provider = await SdsProvider.start(path, {});
  atEnd(t, async () => provider.close());
  assert.equal(await probeSocket(path, options), true);
  assert.equal(await probeSocket(path, options), true);
});

test('a server of any HTTP/2 library behind a link is found too', async (t) => {
  const folder = await temporaryFolder(t);
  const server = createHttp2Server();
  server.listen(join(folder, 'real'));
  await once(server, 'listening');
  atEnd(t, () => server.close());
  await symlink('real', join(folder, 'socket'));
  assert.equal(await probeSocket(join(folder, 'socket'), options), true);
});

test('a socket that was left behind is removed', async (t) => {
  const path = join(await temporaryFolder(t), 'socket');
  await leaveStaleSocket(path);
  assert.equal(await probeSocket(path, options), false);
  assert.equal(await exists(path), false);
});

test('a server that does not speak HTTP/2, or says nothing for a second, is removed', async (t) => {
  const folder = await temporaryFolder(t);
  const [rude, silent] = [join(folder, 'rude'), join(folder, 'silent')];
  await listenSilently(t, rude, (socket) => socket.end('no'));
  await listenSilently(t, silent, () => undefined);
  assert.deepEqual(await Promise.all([probeSocket(rude, options), probeSocket(silent, options)]), [
    false,
    false,
  ]);
  assert.deepEqual([await exists(rude), await exists(silent)], [false, false]);
});

test('a regular file is left alone', async (t) => {
  const path = join(await temporaryFolder(t), 'socket');
  await writeFile(path, 'text');
  assert.equal(await probeSocket(path, options), false);
  assert.equal(await readFile(path, 'utf8'), 'text');
});

test('an empty folder goes; one that is not empty is an error that names it', async (t) => {
  const folder = await temporaryFolder(t);
  await mkdir(join(folder, 'empty'));
  assert.equal(await probeSocket(join(folder, 'empty'), options), false);
  assert.equal(await exists(join(folder, 'empty')), false);
  await mkdir(join(folder, 'full', 'inside'), { recursive: true });
  await assert.rejects(probeSocket(join(folder, 'full'), options), {
    code: 'socket',
    message: /existing SDS socket could not be removed: .*full does not answer.*remove it/,
  });
});

test('a probe is given up when the agent ends, and removes nothing', async (t) => {
  const path = join(await temporaryFolder(t), 'socket');
  const connected = Promise.withResolvers<void>();
  await listenSilently(t, path, () => connected.resolve());
  const ending = new AbortController();
  const probing = probeSocket(path, { ...options, signal: ending.signal });
  await connected.promise;
  ending.abort(new Error('ending'));
  await assert.rejects(probing, { message: 'ending' });
  assert.equal(await exists(path), true);
});
