import assert from 'node:assert/strict';
import { getFips } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createSecureServer, type Http2SecureServer, type IncomingHttpHeaders } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { createServer, type TLSSocket, type TlsOptions } from 'node:tls';
import type { XdsTlsConfig } from '../../../agent/config/agent-config.ts';
import type { CompliancePolicy } from '../../../agent/config/compliance-policy.ts';
import { LogRoot } from '../../../agent/log.ts';
import { checkCompliance } from '../../../agent/xds/tls-limits.ts';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { temporaryFolder } from '../../support/test-end.ts';
import { EventQueue } from './event-queue.ts';
import { openRawEnvoy } from './raw-peers.ts';
import { startRelay } from './relay-fixture.ts';

const root = Authority.createRoot('root');
const otherRoot = Authority.createRoot('other root');
const serverName = 'istiod.istio-system.svc';
const server = root.issue([serverName, '127.0.0.1']);

interface Seen {
  readonly headers: IncomingHttpHeaders;
  /** Common name of the client's certificate; undefined without one. */
  readonly clientName: string | undefined;
  readonly serverName: string | false | null | undefined;
  readonly protocol: string | null;
}

/** A TLS server that answers every stream with OK and says what it saw. */
async function startTlsIstiod(t: TestContext, options: TlsOptions = {}) {
  const seen = new EventQueue<Seen>();
  const istiod: Http2SecureServer = createSecureServer({
    key: server.key,
    cert: server.certificate,
    ca: [root.certificate],
    requestCert: true,
    rejectUnauthorized: false,
    ...options,
  });
  const sockets = new Set<TLSSocket>();
  istiod.on('secureConnection', (socket: TLSSocket) => sockets.add(socket));
  istiod.on('sessionError', () => undefined);
  istiod.on('tlsClientError', () => undefined);
  istiod.on('stream', (stream, headers) => {
    const socket = [...sockets].at(-1);
    stream.on('error', () => undefined);
    seen.push({
      headers,
      clientName: socket?.getPeerCertificate().subject?.CN?.toString(),
      serverName: socket?.servername,
      protocol: socket?.getProtocol() ?? null,
    });
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '0' },
      { endStream: true },
    );
  });
  istiod.listen(0, '127.0.0.1');
  await once(istiod, 'listening');
  t.after(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      istiod.close(() => resolve());
    });
  });
  return { seen, address: `127.0.0.1:${(istiod.address() as AddressInfo).port}` };
}

/** Files in a folder of the test, and the configuration that names them. */
async function tlsFiles(
  t: TestContext,
  changes: { readonly rootText?: string; readonly serverName?: string } = {},
) {
  const folder = await temporaryFolder(t);
  const paths = {
    root: join(folder, 'root.pem'),
    key: join(folder, 'key.pem'),
    certificate: join(folder, 'cert.pem'),
    token: join(folder, 'token'),
  };
  await writeFile(paths.root, changes.rootText ?? root.certificate);
  await writeFile(paths.token, ' secret-token\n');
  const tls: XdsTlsConfig = {
    serverName: changes.serverName ?? serverName,
    root: { kind: 'file', path: paths.root },
    clientCertificate: { keyPath: paths.key, certificatePath: paths.certificate },
    compliance: undefined,
  };
  return { paths, tls };
}

test('with the right root and name, istiod gets the token, the cluster and the client certificate', async (t) => {
  const { seen, address } = await startTlsIstiod(t);
  const { paths, tls } = await tlsFiles(t);
  const client = root.issue([], { commonName: 'pod' });
  await writeFile(paths.key, client.key);
  await writeFile(paths.certificate, client.certificate);
  const { config, logLines } = await startRelay(t, {
    discoveryAddress: address,
    tls,
    tokenPath: paths.token,
  });
  const end = await openRawEnvoy(t, config.socketPath).ended;
  assert.equal(end.grpcStatus, 0);
  const first = await seen.next();
  assert.equal(first.clientName, 'pod');
  assert.equal(first.serverName, serverName);
  assert.equal(first.headers.authorization, 'Bearer secret-token');
  assert.equal(first.headers['clusterid'], 'Kubernetes');
  assert.equal(first.headers[':authority'], serverName);
  assert.equal(first.headers[':scheme'], 'https');
  assert.doesNotMatch(JSON.stringify(logLines), /secret-token/);

  // All of it is read anew for each connection.
  await writeFile(paths.token, 'second-token');
  const second = root.issue([], { commonName: 'pod two' });
  await writeFile(paths.key, second.key);
  await writeFile(paths.certificate, second.certificate);
  await openRawEnvoy(t, config.socketPath).ended;
  const next = await seen.next();
  assert.equal(next.clientName, 'pod two');
  assert.equal(next.headers.authorization, 'Bearer second-token');
  await writeFile(paths.root, otherRoot.certificate);
  assert.equal((await openRawEnvoy(t, config.socketPath).ended).grpcStatus, 14);
});

test('a certificate that cannot be trusted or names another server is refused', async (t) => {
  const commonNameOnly = root.issue([], { commonName: serverName });
  const expired = root.issue([serverName], { notAfter: new Date(Date.now() - 1000) });
  const cases = [
    {
      title: 'wrong name',
      server,
      serverName: 'other.svc',
      rootText: root.certificate,
      expected: /other\.svc/,
    },
    {
      title: 'wrong root',
      server,
      serverName,
      rootText: otherRoot.certificate,
      expected: /TLS handshake.*certificate/,
    },
    {
      title: 'common name only',
      server: commonNameOnly,
      serverName,
      rootText: root.certificate,
      expected: /subject alternative name/,
    },
    { title: 'expired', server: expired, serverName, rootText: root.certificate, expected: /expired/ },
    {
      title: 'root file without certificates',
      server,
      serverName,
      rootText: '',
      expected: /no readable PEM certificate/,
    },
    {
      title: 'damaged root',
      server,
      serverName,
      rootText: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----',
      expected: /no readable PEM certificate \(1 found\)/,
    },
  ];
  for (const item of cases) {
    await t.test(item.title, async (t) => {
      const istiod = await startTlsIstiod(t, { key: item.server.key, cert: item.server.certificate });
      const { paths, tls } = await tlsFiles(t, item);
      const relay = await startRelay(t, { discoveryAddress: istiod.address, tls, tokenPath: paths.token });
      const end = await openRawEnvoy(t, relay.config.socketPath).ended;
      assert.equal(end.grpcStatus, 14);
      assert.match(end.grpcMessage ?? '', item.expected);
      assert.equal(istiod.seen.pendingCount, 0);
      assert.equal(await relay.sample('istio_agent_istiod_connection_failures'), 1);
      assert.equal(await relay.sample('istio_agent_istiod_connection_terminations{type="error"}'), 1);
    });
  }
});

test('a missing root file is named in the status', async (t) => {
  const { tls } = await tlsFiles(t);
  const missing: XdsTlsConfig = { ...tls, root: { kind: 'file', path: '/nonexistent/root.pem' } };
  const { config } = await startRelay(t, { tls: missing });
  const end = await openRawEnvoy(t, config.socketPath).ended;
  assert.equal(end.grpcStatus, 14);
  assert.match(end.grpcMessage ?? '', /\/nonexistent\/root\.pem: ENOENT/);
});

test('an address is checked against the address names of the certificate', async (t) => {
  const { seen, address } = await startTlsIstiod(t);
  const { tls } = await tlsFiles(t, { serverName: '127.0.0.1' });
  const { config } = await startRelay(t, { discoveryAddress: address, tls });
  assert.equal((await openRawEnvoy(t, config.socketPath).ended).grpcStatus, 0);
  const { headers, serverName: indicated } = await seen.next();
  assert.equal(headers[':authority'], '127.0.0.1');
  assert.ok(indicated === false || indicated === null || indicated === '', String(indicated));
});

test('an intermediate certificate alone is enough as a root', async (t) => {
  const intermediate = root.createIntermediate('mesh');
  const leaf = intermediate.issue([serverName]);
  const { address } = await startTlsIstiod(t, {
    key: leaf.key,
    cert: leaf.certificate + intermediate.certificate,
  });
  const { tls } = await tlsFiles(t, { rootText: intermediate.certificate });
  const { config } = await startRelay(t, { discoveryAddress: address, tls });
  assert.equal((await openRawEnvoy(t, config.socketPath).ended).grpcStatus, 0);
});

test('a client certificate that cannot be used is left out with a warning', async (t) => {
  const good = root.issue([], { commonName: 'pod' });
  const expired = root.issue([], { commonName: 'pod', notAfter: new Date(Date.now() - 1000) });
  const early = root.issue([], { commonName: 'pod', notBefore: new Date(Date.now() + 3_600_000) });
  const cases = [
    { title: 'missing', key: undefined, certificate: undefined, expected: /ENOENT/ },
    { title: 'expired', key: expired.key, certificate: expired.certificate, expected: /expired/ },
    { title: 'not yet valid', key: early.key, certificate: early.certificate, expected: /not valid before/ },
    { title: 'mismatched', key: early.key, certificate: good.certificate, expected: /does not belong/ },
    { title: 'garbage', key: 'x', certificate: 'y', expected: /./ },
  ];
  const { seen, address } = await startTlsIstiod(t);
  for (const { title, key, certificate, expected } of cases) {
    await t.test(title, async (t) => {
      const { paths, tls } = await tlsFiles(t);
      if (key !== undefined) await writeFile(paths.key, key);
      if (certificate !== undefined) await writeFile(paths.certificate, certificate);
      const { config, logLines } = await startRelay(t, { discoveryAddress: address, tls });
      assert.equal((await openRawEnvoy(t, config.socketPath).ended).grpcStatus, 0);
      assert.equal((await seen.next()).clientName, undefined);
      const warning = logLines.find(({ msg }) =>
        msg.startsWith('client certificate for istiod cannot be used'),
      );
      assert.equal(warning?.level, 'warn');
      assert.match(String(warning?.['reason']), expected);
    });
  }
});

test('a TLS server that does not speak HTTP/2 is named as such', async (t) => {
  const plain = createServer({ key: server.key, cert: server.certificate }, (socket) => {
    socket.on('error', () => undefined);
  });
  plain.listen(0, '127.0.0.1');
  await once(plain, 'listening');
  t.after(() => plain.close());
  const { tls } = await tlsFiles(t);
  const address = `127.0.0.1:${(plain.address() as AddressInfo).port}`;
  const { config } = await startRelay(t, { discoveryAddress: address, tls });
  const end = await openRawEnvoy(t, config.socketPath).ended;
  assert.equal(end.grpcStatus, 14);
  assert.match(end.grpcMessage ?? '', /ALPN h2/);
});

test('TLS 1.1 is refused', async (t) => {
  // OpenSSL's own security level would refuse it as well: lowered, so that ours is what is tested.
  const tlsModule = process.getBuiltinModule('node:tls');
  const usualCiphers = tlsModule.DEFAULT_CIPHERS;
  tlsModule.DEFAULT_CIPHERS = 'ALL:@SECLEVEL=0';
  t.after(() => {
    tlsModule.DEFAULT_CIPHERS = usualCiphers;
  });
  const { address } = await startTlsIstiod(t, {
    minVersion: 'TLSv1',
    maxVersion: 'TLSv1.1',
    ciphers: 'ALL:@SECLEVEL=0',
  });
  const { tls } = await tlsFiles(t);
  const { config } = await startRelay(t, { discoveryAddress: address, tls });
  const end = await openRawEnvoy(t, config.socketPath).ended;
  assert.equal(end.grpcStatus, 14);
  assert.match(end.grpcMessage ?? '', /TLS handshake/);
});

const policies: readonly {
  readonly policy: CompliancePolicy;
  /** What a server of the policy may insist on. */
  readonly kept: readonly TlsOptions[];
  /** What a server of another mind insists on. */
  readonly refused: readonly TlsOptions[];
}[] = [
  {
    policy: 'fips-140-2',
    kept: [{ maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256', ecdhCurve: 'P-256' }],
    refused: [
      { minVersion: 'TLSv1.3' },
      { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-CHACHA20-POLY1305' },
      { maxVersion: 'TLSv1.2', ecdhCurve: 'X25519' },
    ],
  },
  {
    policy: 'fips-140-3',
    kept: [
      { minVersion: 'TLSv1.3', ciphers: 'TLS_AES_256_GCM_SHA384', ecdhCurve: 'P-384' },
      { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES256-GCM-SHA384', ecdhCurve: 'P-256' },
    ],
    refused: [
      { minVersion: 'TLSv1.3', ciphers: 'TLS_CHACHA20_POLY1305_SHA256' },
      { minVersion: 'TLSv1.3', ecdhCurve: 'X25519' },
    ],
  },
  {
    policy: 'pqc',
    kept: [{ minVersion: 'TLSv1.3', ciphers: 'TLS_AES_128_GCM_SHA256', ecdhCurve: 'X25519MLKEM768' }],
    refused: [{ maxVersion: 'TLSv1.2' }, { ecdhCurve: 'X25519' }, { ecdhCurve: 'P-256' }],
  },
];

for (const { policy, kept, refused } of policies) {
  test(`with ${policy} a server within the policy is served, and one outside of it is not spoken to`, async (t) => {
    const statusOf = async (served: TlsOptions) => {
      const { address, seen } = await startTlsIstiod(t, served);
      const { tls } = await tlsFiles(t);
      const limited = await startRelay(t, { discoveryAddress: address, tls: { ...tls, compliance: policy } });
      const { grpcStatus } = await openRawEnvoy(t, limited.config.socketPath).ended;
      // Without the policy it would do.
      const free = await startRelay(t, { discoveryAddress: address, tls });
      assert.equal((await openRawEnvoy(t, free.config.socketPath).ended).grpcStatus, 0);
      assert.equal(seen.pendingCount, grpcStatus === 0 ? 2 : 1);
      return grpcStatus;
    };
    for (const served of kept) assert.equal(await statusOf(served), 0, JSON.stringify(served));
    for (const served of refused) assert.equal(await statusOf(served), 14, JSON.stringify(served));
  });
}

test('this Node.js can keep every policy; one that it cannot keep is refused at start, with the reason', () => {
  const warnings: string[] = [];
  const log = new LogRoot({ format: 'json', levels: new Map(), write: (line) => warnings.push(line) });
  for (const { policy } of policies) checkCompliance(policy, log.scope('default'));
  assert.equal(warnings.length, getFips() === 1 ? 0 : 2);
  assert.throws(
    () => checkCompliance('pqc', log.scope('default'), { ecdhCurve: 'X99999MLKEM' }),
    /^Error: COMPLIANCE_POLICY pqc cannot be kept: Node\.js .* cannot do X99999MLKEM .*newer Node\.js/,
  );
});
