import assert from 'node:assert/strict';
import { mkdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import type { SecretSource } from '../../../agent/identity/certificate-store.ts';
import { IdentityError } from '../../../agent/identity/identity-error.ts';
import { SdsServer, type SdsServerOptions } from '../../../agent/identity/sds-server.ts';
import type { Secret } from '../../../agent/identity/secret-messages.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { atEnd, temporaryFolder } from '../../support/test-end.ts';
import { recordedMessages, recordingSkipReason } from './recording.ts';
import { LogCapture, MetricsCapture, nodeId, SdsClient } from './sds-fixture.ts';
import { decodeSecretResponse } from './secret-codec.ts';

/** Secrets that count how often they were made, with failures on demand. */
class CountingSource implements SecretSource {
  readonly released: string[] = [];
  readonly failing = new Set<string>();
  readonly #counts = new Map<string, number>();

  async generate(name: string): Promise<Secret> {
    if (this.failing.has(name)) throw new IdentityError('ca_unavailable', 'the CA is away');
    const count = (this.#counts.get(name) ?? 0) + 1;
    this.#counts.set(name, count);
    await Promise.resolve();
    return { kind: 'roots', name, certificates: Buffer.from(`${name} ${count}`) };
  }

  release(name: string): void {
    this.released.push(name);
  }
}

async function startServer(t: TestContext, changes: Partial<SdsServerOptions> = {}) {
  const folder = await temporaryFolder(t);
  const source = new CountingSource();
  const logs = new LogCapture();
  const capture = new MetricsCapture();
  const socketPath = join(folder, 'uds', 'socket');
  const server = new SdsServer({
    socketPath,
    purpose: 'workload certificates',
    source,
    crlPath: undefined,
    keyProvider: undefined,
    metrics: capture.metrics,
    log: logs.root.scope('sds'),
    clock: new FakeClock(Date.UTC(2026, 10, 21, 10, 32, 23, 456)),
    ...changes,
  });
  await server.listen();
  atEnd(t, async () => server.close());
  return { server, source, logs, capture, folder, socketPath };
}

const textOf = (secret: Secret | undefined): string =>
  secret?.kind === 'roots' ? secret.certificates.toString() : '';

test('a secret is served with version, nonce and type; the socket is open to all users', async (t) => {
  const { socketPath } = await startServer(t);
  const client = new SdsClient(t, socketPath);
  const answer = await client.ask('ROOTCA');
  assert.equal(answer.version, '2026-11-21T10:32:23Z/1');
  assert.match(answer.nonce, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(answer.typeUrl, 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret');
  assert.deepEqual(answer.secrets.map(textOf), ['ROOTCA 1']);
  assert.equal((await stat(socketPath)).mode & 0o777, 0o666);
});

test('several names on one stream are pushed one by one, to those who watch them', async (t) => {
  const { server, socketPath, capture } = await startServer(t);
  const both = new SdsClient(t, socketPath);
  const one = new SdsClient(t, socketPath);
  both.acknowledge(await both.ask('default', 'ROOTCA'), ['default', 'ROOTCA']);
  one.acknowledge(await one.ask('default'), ['default']);
  server.push('ROOTCA');
  const pushed = await both.answers.next();
  assert.deepEqual(pushed.secrets.map(textOf), ['ROOTCA 2']);
  server.push('default');
  assert.deepEqual(
    (await one.answers.next()).secrets.map(({ name }) => name),
    ['default'],
  );
  assert.deepEqual(
    (await both.answers.next()).secrets.map(({ name }) => name),
    ['default'],
  );
  assert.equal(one.answers.pendingCount, 0);
  assert.equal(await capture.value('istio_agent_pilot_xds_send_time_count'), 5);
});

test('only added names are answered, a stale nonce and an ACK are not, an unsubscribe ends pushes', async (t) => {
  const { server, source, socketPath } = await startServer(t);
  const client = new SdsClient(t, socketPath);
  const first = await client.ask('a');
  client.send({ names: ['a', 'x'], nonce: 'stale' });
  client.acknowledge(first, ['a']);
  client.acknowledge(first, ['a', 'b']);
  const second = await client.answers.next();
  assert.deepEqual(
    second.secrets.map(({ name }) => name),
    ['b'],
  );
  client.acknowledge(second, ['b']);
  // An answer to a name that is new proves that the requests before it were read.
  client.acknowledge(second, ['b', 'c']);
  const third = await client.answers.next();
  assert.deepEqual(source.released, ['a']);
  server.push('a');
  client.send({ names: [], nonce: third.nonce });
  client.send({ names: ['d'], nonce: third.nonce });
  assert.deepEqual(
    (await client.answers.next()).secrets.map(({ name }) => name),
    ['d'],
  );
  server.push('b');
  server.push('d');
  assert.deepEqual(
    (await client.answers.next()).secrets.map(({ name }) => name),
    ['d'],
  );
  assert.deepEqual(source.released, ['a', 'b', 'c']);
});

test('a NACK is logged and keeps the watch', async (t) => {
  const { server, logs, socketPath } = await startServer(t);
  const client = new SdsClient(t, socketPath);
  const answer = await client.ask('default');
  client.send({ names: ['default'], nonce: answer.nonce, rejection: 'Failed to load private key' });
  const line = await logs.waitFor('Envoy rejected a secret');
  assert.deepEqual([line['names'], line['reason']], ['default', 'Failed to load private key']);
  server.push('default');
  assert.deepEqual((await client.answers.next()).secrets.map(textOf), ['default 2']);
});

test('a request that cannot be served ends the stream, and the next stream is served', async (t) => {
  const { source, socketPath } = await startServer(t);
  source.failing.add('default');
  const client = new SdsClient(t, socketPath);
  client.send({ nodeId, names: ['ROOTCA', 'default'] });
  const ended = await client.status;
  assert.equal(ended.code, status.UNKNOWN);
  assert.equal(ended.details, 'failed to generate secret for default: the CA is away');
  assert.equal(client.answers.pendingCount, 0);
  source.failing.clear();
  await new SdsClient(t, socketPath).ask('default');
});

test('a push that cannot be served ends that stream and no other', async (t) => {
  const { server, source, socketPath } = await startServer(t);
  const failing = new SdsClient(t, socketPath);
  const other = new SdsClient(t, socketPath);
  await failing.ask('default');
  await other.ask('ROOTCA');
  source.failing.add('default');
  server.push('default');
  assert.equal((await failing.status).code, status.UNKNOWN);
  server.push('ROOTCA');
  await other.answers.next();
});

test('what no stream watches any more is released, also when a client just goes', async (t) => {
  const { source, socketPath } = await startServer(t);
  const [one, two] = [new SdsClient(t, socketPath), new SdsClient(t, socketPath)];
  await one.ask('file-root:/a', 'file-root:/b');
  await two.ask('file-root:/a');
  one.finish();
  assert.equal((await one.status).code, status.OK);
  two.cancel();
  await two.status;
  const last = new SdsClient(t, socketPath);
  await last.ask('default');
  last.finish();
  await last.status;
  await new SdsClient(t, socketPath).ask('x');
  assert.deepEqual(source.released.toSorted(), ['default', 'file-root:/a', 'file-root:/b']);
});

for (const method of ['DeltaSecrets', 'FetchSecrets']) {
  test(`${method} is not implemented`, async (t) => {
    const { socketPath } = await startServer(t);
    const ended = await new SdsClient(t, socketPath, method).status;
    assert.deepEqual([ended.code, ended.details], [status.UNIMPLEMENTED, `${method} not implemented`]);
  });
}

test('a stream without a node is refused', async (t) => {
  const { socketPath } = await startServer(t);
  const client = new SdsClient(t, socketPath);
  client.send({ names: ['default'] });
  const ended = await client.status;
  assert.deepEqual([ended.code, ended.details], [status.INVALID_ARGUMENT, 'missing node information']);
});

test('roots name the revocation list while it is there', async (t) => {
  const folder = await temporaryFolder(t);
  const crlPath = join(folder, 'crl.pem');
  const { server, socketPath } = await startServer(t, { crlPath });
  const client = new SdsClient(t, socketPath);
  assert.equal((await client.ask('ROOTCA')).raw[0]?.validation_context?.crl, null);
  await writeFile(crlPath, 'list');
  server.push('ROOTCA');
  assert.equal((await client.answers.next()).raw[0]?.validation_context?.crl?.filename, crlPath);
});

test('when the agent ends, streams end as unavailable and the socket is gone', async (t) => {
  const { server, socketPath } = await startServer(t);
  const client = new SdsClient(t, socketPath);
  await client.ask('default');
  await server.close();
  assert.equal((await client.status).code, status.UNAVAILABLE);
  await assert.rejects(stat(socketPath), { code: 'ENOENT' });
});

test('a file in the way of the socket is replaced', async (t) => {
  const folder = await temporaryFolder(t);
  const socketPath = join(folder, 'socket');
  await writeFile(socketPath, 'in the way');
  await startServer(t, { socketPath });
  await new SdsClient(t, socketPath).ask('default');
});

test('a socket that cannot be bound is tried again with growing waits', async (t) => {
  const folder = await temporaryFolder(t);
  const socketPath = join(folder, 'uds', 'socket');
  await mkdir(join(folder, 'uds'));
  // A folder that is not empty cannot be replaced by a socket, whoever asks.
  await mkdir(join(socketPath, 'inside'), { recursive: true });
  const clock = new FakeClock();
  const { logs } = await startServer(t, { socketPath, clock });
  for (const waitMs of [1000, 2000]) {
    assert.equal(await clock.waitForTimer(), waitMs);
    clock.advance(waitMs);
  }
  assert.equal(await clock.waitForTimer(), 4000);
  await rm(socketPath, { recursive: true });
  clock.advance(4000);
  const openMode = (mode: number) => (mode & 0o777) === 0o666;
  while (
    !(await stat(socketPath).then(
      ({ mode }) => openMode(mode),
      () => false,
    ))
  )
    await setImmediate();
  await new SdsClient(t, socketPath).ask('default');
  assert.equal(logs.lines.filter(({ msg }) => msg.includes('failed to set up UDS')).length, 3);
});

test('after five failures the agent says so and goes on', async (t) => {
  const folder = await temporaryFolder(t);
  const socketPath = join(folder, 'uds', 'socket');
  await mkdir(join(socketPath, 'inside'), { recursive: true });
  const clock = new FakeClock();
  const { logs } = await startServer(t, { socketPath, clock });
  for (const waitMs of [1000, 2000, 4000, 8000]) {
    assert.equal(await clock.waitForTimer(), waitMs);
    clock.advance(waitMs);
  }
  await logs.waitFor('SDS grpc server could not be started');
  assert.equal(logs.lines.filter(({ msg }) => msg.includes('failed to set up UDS')).length, 5);
});

test('the recorded exchanges of a stock agent come out byte for byte', {
  skip: recordingSkipReason,
}, async (t) => {
  const recorded = recordedMessages('sds').filter(({ method }) => method.endsWith('/StreamSecrets'));
  const streams = Map.groupBy(recorded, ({ conn, stream }) => `${conn}.${stream}`);
  let checkedCount = 0;
  for (const messages of streams.values()) {
    const expected = messages.filter(({ dir }) => dir === 'agent>client').map(({ bytes }) => bytes);
    const secrets = expected.map((bytes) => decodeSecretResponse(bytes).secrets[0]);
    const { server, socketPath } = await startServer(t, {
      source: {
        async generate() {
          const next = secrets.shift();
          assert.ok(next !== undefined);
          return Promise.resolve(next);
        },
        release: () => undefined,
      },
    });
    const client = new SdsClient(t, socketPath);
    // Versions and nonces are drawn anew: the requests are sent with ours in the place of the recorded ones.
    const replaced = new Map<string, string>();
    const translate = (bytes: Buffer): Buffer => {
      let text = bytes.toString('latin1');
      for (const [from, to] of replaced) text = text.replaceAll(from, to);
      return Buffer.from(text, 'latin1');
    };
    for (const message of messages) {
      if (message.dir === 'client>agent') {
        client.sendBytes(translate(message.bytes));
        continue;
      }
      // All answers of a stream but the first were pushed, at a rotation.
      if (replaced.size > 0) server.push('default');
      const answer = await client.answers.next();
      const { version, nonce } = decodeSecretResponse(message.bytes);
      // The counter has one digit in both.
      replaced.set(version, answer.version).set(nonce, answer.nonce);
      assert.deepEqual(answer.bytes, translate(message.bytes));
      checkedCount += 1;
    }
    client.finish();
    assert.equal((await client.status).code, status.OK);
  }
  assert.equal(checkedCount, 9);
});
