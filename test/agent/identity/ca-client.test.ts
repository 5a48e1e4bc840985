import assert from 'node:assert/strict';
import { once } from 'node:events';
import { rm, writeFile } from 'node:fs/promises';
import { createServer as createHttp2Server } from 'node:http2';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { status } from '@grpc/grpc-js';
import type { CaConfig } from '../../../agent/config/identity-config.ts';
import { createCertificateRequest } from '../../../agent/identity/csr.ts';
import { IdentityError } from '../../../agent/identity/identity-error.ts';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { openSsl, openSslSkipReason } from '../../support/certificate-authority/open-ssl.ts';
import { atEnd } from '../../support/test-end.ts';
import { HastyClock, makeClient, serverName, spiffeId, startCa, token } from './ca-fixture.ts';

const { signal } = new AbortController();
const { csr } = await createCertificateRequest({
  key: { kind: 'ecdsa', curve: 'P-256' },
  keyFormat: 'traditional',
  spiffeId,
});
const request = { csr, validitySeconds: 86_400, certSigner: '' };

function assertIdentityError(
  error: unknown,
  code: IdentityError['code'],
  ...patterns: readonly RegExp[]
): true {
  assert.ok(error instanceof IdentityError, String(error));
  assert.equal(error.code, code, error.message);
  for (const pattern of patterns) assert.match(error.message, pattern);
  return true;
}

test('OpenSSL verifies the chain and the SPIFFE identity', {
  skip: openSslSkipReason() ?? false,
}, async (t) => {
  const root = Authority.createRoot('root');
  const { config, folder } = await startCa(t, { authority: root.createIntermediate('intermediate'), root });
  const [leaf = '', intermediate = '', top = ''] = await makeClient(config).client.sign(request, { signal });
  const path = (name: string) => join(folder, name);
  await Promise.all([
    writeFile(path('leaf.pem'), leaf),
    writeFile(path('intermediate.pem'), intermediate),
    writeFile(path('root.pem'), top),
  ]);
  const chain = ['-CAfile', path('root.pem'), '-untrusted', path('intermediate.pem'), path('leaf.pem')];
  const verified = await openSsl('verify', '-purpose', 'sslserver', ...chain);
  assert.match(verified, /leaf\.pem: OK/);
  const names = await openSsl('x509', '-in', path('leaf.pem'), '-noout', '-ext', 'subjectAltName');
  assert.match(names, new RegExp(`URI:${spiffeId}`));
});

test('the request has the same contents and headers as the stock agent sends', async (t) => {
  const { ca, config } = await startCa(t);
  await makeClient({ ...config, headers: { 'x-extra': 'value', 'x-data-bin': 'YWI' } }).client.sign(request, {
    signal,
  });
  const [call] = ca.calls;
  assert.ok(call !== undefined);
  assert.equal(call.csr, csr);
  assert.equal(call.validitySeconds, 86_400);
  assert.deepEqual(Object.keys(call.metadataFields), ['CertSigner']);
  assert.equal(call.metadataFields['CertSigner']?.stringValue, '');
  const headers = call.headers.getMap();
  assert.equal(headers['authorization'], `Bearer ${token}`);
  assert.equal(headers['clusterid'], 'Kubernetes');
  assert.equal(headers['x-extra'], 'value');
  assert.deepEqual(headers['x-data-bin'], Buffer.from('ab'));
});

for (const code of [
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.RESOURCE_EXHAUSTED,
  status.ABORTED,
  status.INTERNAL,
  status.UNAVAILABLE,
]) {
  test(`${status[code]} is tried again, four times with growing waits`, async (t) => {
    const { ca, config } = await startCa(t);
    const clock = new HastyClock();
    const { client, capture } = makeClient(config, clock);
    const fault = { kind: 'status', code, message: 'not now' } as const;
    ca.failNext(fault, fault, fault, fault);
    assert.equal((await client.sign(request, { signal })).length, 3);
    assert.equal(ca.calls.length, 5);
    assert.deepEqual(clock.waitsMs, [100, 200, 400, 800]);
    assert.equal(await capture.value('istio_agent_num_outgoing_retries{request_type="csr"}'), 4);
  });
}

test('after five attempts it is given up, with what the CA said', async (t) => {
  const { ca, config } = await startCa(t);
  const fault = { kind: 'status', code: status.UNAVAILABLE, message: 'overloaded' } as const;
  ca.failNext(fault, fault, fault, fault, fault);
  await assert.rejects(makeClient(config).client.sign(request, { signal }), (error) =>
    assertIdentityError(error, 'ca_unavailable', /did not sign the certificate \(UNAVAILABLE\): overloaded/),
  );
  assert.equal(ca.calls.length, 5);
});

const refusals: readonly (readonly [status, RegExp])[] = [
  [status.UNAUTHENTICATED, /\(UNAUTHENTICATED\): no; check the token at .*istio-token \(audience, expiry\)/],
  [status.PERMISSION_DENIED, /\(PERMISSION_DENIED\): no; check that the CA allows this workload/],
  [status.INVALID_ARGUMENT, /\(INVALID_ARGUMENT\): no$/],
  [status.UNIMPLEMENTED, /\(UNIMPLEMENTED\): no; there is no CA at this address: set CA_ADDR/],
  [status.UNKNOWN, /\(UNKNOWN\): no$/],
];
for (const [code, pattern] of refusals) {
  test(`${status[code]} is not tried again`, async (t) => {
    const { ca, config } = await startCa(t);
    ca.failNext({ kind: 'status', code, message: 'no' });
    await assert.rejects(makeClient(config).client.sign(request, { signal }), (error) =>
      assertIdentityError(error, 'ca_refused', pattern),
    );
    assert.equal(ca.calls.length, 1);
  });
}

test('the token is read anew for each attempt', async (t) => {
  const { ca, config, tokenPath } = await startCa(t);
  const gate = Promise.withResolvers<void>();
  ca.failNext({ kind: 'delay', until: gate.promise });
  const { client } = makeClient(config);
  const first = client.sign(request, { signal });
  await ca.waitForCalls(1);
  await writeFile(tokenPath, 'renewed-token');
  ca.failNext({ kind: 'status', code: status.UNAVAILABLE, message: 'not now' });
  await client.sign(request, { signal });
  gate.resolve();
  await first;
  assert.deepEqual(
    ca.calls.map(({ headers }) => headers.get('authorization')[0]),
    [`Bearer ${token}`, 'Bearer renewed-token', 'Bearer renewed-token'],
  );
});

for (const [what, contents] of [
  ['missing', undefined],
  ['empty', ' \n'],
] as const) {
  test(`while the token file is ${what} the request goes out without a token`, async (t) => {
    const { ca, config, tokenPath } = await startCa(t);
    if (contents === undefined) await rm(tokenPath);
    else await writeFile(tokenPath, contents);
    const { client, logs } = makeClient(config);
    await client.sign(request, { signal });
    assert.deepEqual(ca.calls[0]?.headers.get('authorization'), []);
    assert.equal(logs.lines.filter(({ level }) => level === 'warn').length, 1);
  });
}

test('a CA that quotes token and headers brings them neither into the error nor into the log', async (t) => {
  const { ca, config } = await startCa(t);
  const quoted = { kind: 'status', message: `bad token ${token}, header my-password` } as const;
  ca.failNext({ ...quoted, code: status.UNAVAILABLE }, { ...quoted, code: status.UNAUTHENTICATED });
  const { client, logs } = makeClient({ ...config, headers: { 'x-password': 'my-password' } });
  await assert.rejects(client.sign(request, { signal }), (error) =>
    assertIdentityError(error, 'ca_refused', /bad token \[redacted\], header \[redacted\]/),
  );
  assert.doesNotMatch(logs.text, /service-account-token|my-password/);
});

test('a root that does not fit is an error with its path; a new root counts for the next request', async (t) => {
  const { config, rootPath, serverAuthority } = await startCa(t);
  await writeFile(rootPath, Authority.createRoot('another').certificate);
  const { client } = makeClient(config);
  await assert.rejects(client.sign(request, { signal }), (error) =>
    assertIdentityError(
      error,
      'ca_unavailable',
      /TLS handshake with the CA at 127\.0\.0\.1:\d+ failed: .*root-cert\.pem\) is the one of the CA/,
    ),
  );
  await writeFile(rootPath, serverAuthority.certificate);
  await client.sign(request, { signal });
});

test('a certificate for another name is refused', async (t) => {
  const { config } = await startCa(t);
  const { tls } = config;
  assert.ok(tls !== undefined);
  const { client } = makeClient({ ...config, tls: { ...tls, serverName: 'other.svc' } });
  await assert.rejects(client.sign(request, { signal }), (error) =>
    assertIdentityError(error, 'ca_unavailable', /its certificate is for other\.svc/),
  );
});

test('a CA that cannot be reached is an error with its address and setting', async (t) => {
  const { ca, config } = await startCa(t);
  await ca.close();
  const { client, capture } = makeClient(config);
  await assert.rejects(client.sign(request, { signal }), (error) =>
    assertIdentityError(
      error,
      'ca_unavailable',
      /failed to connect to the CA at 127\.0\.0\.1:\d+: .*ECONNREFUSED.*check CA_ADDR/,
    ),
  );
  assert.equal(await capture.value('istio_agent_num_outgoing_retries{request_type="csr"}'), 4);
});

test('an address that is none is refused at once', async (t) => {
  const { config } = await startCa(t);
  const { client, capture } = makeClient({ ...config, address: 'no-port' });
  await assert.rejects(client.sign(request, { signal }), (error) =>
    assertIdentityError(error, 'ca_unavailable', /"no-port" of the CA is not host:port: set CA_ADDR/),
  );
  assert.equal(await capture.value('istio_agent_num_outgoing_retries{request_type="csr"}'), 0);
});

test('over plaintext the token goes out to this machine', async (t) => {
  const { ca, config } = await startCa(t, { tls: undefined as never });
  await makeClient({ ...config, tls: undefined }).client.sign(request, { signal });
  assert.deepEqual(ca.calls[0]?.headers.get('authorization'), [`Bearer ${token}`]);
});

test('a provisioned client certificate is presented; an expired one is left out', async (t) => {
  const clients = Authority.createRoot('provisioned root');
  const serverAuthority = Authority.createRoot('istiod root');
  const fixture = await startCa(t, {
    tls: { server: serverAuthority.issue([serverName]), clientRoot: clients.certificate },
  });
  const { ca, folder, rootPath } = fixture;
  await writeFile(rootPath, serverAuthority.certificate);
  const clientCertificate = {
    keyPath: join(folder, 'key.pem'),
    certificatePath: join(folder, 'cert-chain.pem'),
  };
  const tls = { ...(fixture.config.tls as NonNullable<CaConfig['tls']>), clientCertificate };
  const { client, logs } = makeClient({ ...fixture.config, tls });
  const provision = async (notAfter: Date): Promise<void> => {
    const pair = clients.issue(['spiffe://cluster.local/ns/vm/sa/vm'], { notAfter });
    await writeFile(clientCertificate.keyPath, pair.key);
    await writeFile(clientCertificate.certificatePath, pair.certificate);
  };
  await provision(new Date(Date.now() + 60_000));
  await client.sign(request, { signal });
  assert.equal(ca.calls[0]?.clientNames, 'URI:spiffe://cluster.local/ns/vm/sa/vm');
  await provision(new Date(Date.now() - 1000));
  // This server wants a certificate, and gets none.
  await assert.rejects(client.sign(request, { signal }), { code: 'ca_unavailable' });
  assert.equal(ca.calls.length, 1);
  assert.match(logs.text, /certificate has expired/);
});

test('a request is given up at once when the agent ends, wherever it is', async (t) => {
  const { ca, config } = await startCa(t);
  const { client } = makeClient(config);
  ca.failNext({ kind: 'delay', until: new Promise(() => undefined) });
  const ending = new AbortController();
  const asked = client.sign(request, { signal: ending.signal });
  await ca.waitForCalls(1);
  ending.abort(new Error('ending'));
  await assert.rejects(asked, { message: 'ending' });
  await assert.rejects(client.sign(request, { signal: ending.signal }), { message: 'ending' });
});

/** A plaintext server that does as `onSocket` says. */
async function startRaw(t: TestContext, onSocket: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    onSocket(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  atEnd(t, () => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test('servers that speak no HTTP/2 or just hang up are unavailable', async (t) => {
  const { config } = await startCa(t);
  for (const onSocket of [
    (socket: Socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'),
    (socket: Socket) => socket.end(),
    (socket: Socket) => socket.destroy(),
    (socket: Socket) => socket.write(Buffer.alloc(100, 0xff)),
  ]) {
    const address = await startRaw(t, onSocket);
    await assert.rejects(
      makeClient({ ...config, address, tls: undefined }).client.sign(request, { signal }),
      (error) => assertIdentityError(error, 'ca_unavailable'),
    );
  }
});

const grpcHeaders = { ':status': 200, 'content-type': 'application/grpc' };
const okTrailers = { 'grpc-status': '0' };

for (const { name, headers, body, trailers, code, pattern } of [
  {
    name: 'an HTTP error',
    headers: { ':status': 503, 'content-type': 'text/html' },
    body: 'x',
    code: 'ca_unavailable',
    pattern: /UNAVAILABLE.*HTTP status 503/,
  },
  {
    name: 'an answer without a status',
    headers: grpcHeaders,
    body: '0000000000',
    trailers: undefined,
    code: 'ca_unavailable',
    pattern: /without a status/,
  },
  {
    name: 'OK without an answer',
    headers: grpcHeaders,
    body: '',
    trailers: okTrailers,
    code: 'ca_unavailable',
    pattern: /OK without an answer/,
  },
  {
    name: 'two answers',
    headers: grpcHeaders,
    body: '00000000000000000000',
    trailers: okTrailers,
    code: 'ca_unavailable',
    pattern: /more than one answer/,
  },
  {
    name: 'an answer beyond the bound',
    headers: grpcHeaders,
    body: '00ffffffff',
    trailers: okTrailers,
    code: 'ca_unavailable',
    pattern: /RESOURCE_EXHAUSTED/,
  },
  {
    name: 'a compressed answer',
    headers: grpcHeaders,
    body: '010000000100',
    trailers: okTrailers,
    code: 'ca_unavailable',
    pattern: /compressed flag 1/,
  },
  {
    name: 'an answer that is no protobuf',
    headers: grpcHeaders,
    body: '0000000001ff',
    trailers: okTrailers,
    code: 'ca_answer',
    pattern: /cannot be read/,
  },
] as const) {
  test(`${name} is an error that says so`, async (t) => {
    const { config } = await startCa(t);
    const server = createHttp2Server();
    server.on('stream', (stream) => {
      stream.on('error', () => undefined);
      stream.respond(headers, { waitForTrailers: trailers !== undefined });
      if (trailers !== undefined) stream.once('wantTrailers', () => stream.sendTrailers(trailers));
      stream.end(Buffer.from(body, 'hex'));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    atEnd(t, () => server.close());
    const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    await assert.rejects(
      makeClient({ ...config, address, tls: undefined }).client.sign(request, { signal }),
      (error) => assertIdentityError(error, code, pattern),
    );
  });
}

for (const { name, change, code, pattern } of [
  {
    name: 'another provider',
    change: { provider: 'GoogleCA' },
    code: 'bad_config',
    pattern: /CA provider "GoogleCA" .* is not registered: use Citadel/,
  },
  {
    name: 'no root at all',
    change: { root: { kind: 'none' } },
    code: 'bad_config',
    pattern: /configured provider as none: set CA_ROOT_CA/,
  },
  {
    name: 'a root file that is not there',
    change: { root: { kind: 'file', path: '/no/root.pem' } },
    code: 'bad_root',
    pattern: /\(\/no\/root\.pem\) cannot be used: ENOENT.*set CA_ROOT_CA/,
  },
  {
    name: 'a root file without certificates',
    change: { root: { kind: 'file', path: '/etc/hostname' } },
    code: 'bad_root',
    pattern: /\(\/etc\/hostname\) cannot be used: it holds no readable PEM certificate/,
  },
] as const) {
  test(`the start is refused with ${name}`, async (t) => {
    const { config } = await startCa(t);
    const { root, ...others } = { root: undefined, ...change };
    const tls = root === undefined ? config.tls : { ...(config.tls as NonNullable<CaConfig['tls']>), root };
    const { client } = makeClient({ ...config, ...others, tls });
    await assert.rejects(client.check(), (error) => assertIdentityError(error, code, pattern));
    // Never a fall back to plaintext, or to the roots of Node.
    if (root !== undefined) await assert.rejects(client.sign(request, { signal }));
  });
}

test('settings that can work pass the check, plaintext ones too', async (t) => {
  const { config } = await startCa(t);
  await makeClient(config).client.check();
  await makeClient({ ...config, tls: undefined }).client.check();
});
