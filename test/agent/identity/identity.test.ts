import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { status } from '@grpc/grpc-js';
import type { Secret } from '../../../agent/identity/secret-messages.ts';
import { Authority, type KeyedCertificate } from '../../support/certificate-authority/authority.ts';
import { CaServer } from '../../support/certificate-authority/ca-server.ts';
import { openSsl, openSslSkipReason } from '../../support/certificate-authority/open-ssl.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { SdsProvider } from '../../support/sds-provider.ts';
import { atEnd, temporaryFolder } from '../../support/test-end.ts';
import { serverName, spiffeId, startCa, token } from './ca-fixture.ts';
import { makeIdentity } from './identity-fixture.ts';
import { type ReadAnswer, SdsClient } from './sds-fixture.ts';

const hourMs = 3_600_000;
const refusal = { kind: 'status', code: status.PERMISSION_DENIED, message: 'no' } as const;

/** A CA, and a pod on a clock that the test moves; certificates live a day of that clock. */
async function startPod(t: TestContext, options: Parameters<typeof makeIdentity>[2] = {}) {
  const clock = new FakeClock();
  const fixture = await startCa(t, { validity: () => ({ notAfter: new Date(clock.now() + 24 * hourMs) }) });
  const pod = await makeIdentity(t, fixture.folder, {
    clock,
    ...options,
    values: { CA_ADDR: `localhost:${fixture.ca.port}`, ...options.values },
  });
  return { ...fixture, ...pod, clock };
}

function pairOf(answer: ReadAnswer): Extract<Secret, { kind: 'key-pair' }> {
  const [secret] = answer.secrets;
  assert.ok(secret?.kind === 'key-pair');
  return secret;
}

function rootsOf(answer: ReadAnswer): string {
  const [secret] = answer.secrets;
  assert.ok(secret?.kind === 'roots');
  return secret.certificates.toString();
}

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
}

/** Opens a stream for one name, as Envoy does, and takes the first answer. */
async function watch(t: TestContext, socketPath: string, name: string) {
  const client = new SdsClient(t, socketPath);
  const first = await client.ask(name);
  client.acknowledge(first, [name]);
  return { client, first };
}

test('Envoy gets a key, a chain that OpenSSL verifies with the SPIFFE name, and the root', {
  skip: openSslSkipReason() ?? false,
}, async (t) => {
  const { identity, socketPath, folder, ca, capture, logs } = await startPod(t);
  assert.deepEqual(await identity.start(), {
    isCredentialSocketPresent: false,
    isFileCredentialServed: false,
  });
  const { first } = await watch(t, socketPath, 'default');
  const roots = rootsOf((await watch(t, socketPath, 'ROOTCA')).first);
  const pair = pairOf(first);
  const [chain, root] = [join(folder, 'chain.pem'), join(folder, 'root.pem')];
  await writeFile(chain, pair.certificateChain);
  await writeFile(root, roots);
  assert.match(await openSsl('verify', '-CAfile', root, '-untrusted', chain, chain), /chain\.pem: OK/);
  const text = await openSsl('x509', '-in', chain, '-noout', '-ext', 'subjectAltName');
  assert.match(text, new RegExp(`URI:${spiffeId}`));
  assert.ok(new X509Certificate(pair.certificateChain).checkPrivateKey(createPrivateKey(pair.privateKey)));
  // The warm-up and both streams needed one request.
  assert.equal(ca.calls.length, 1);
  const life = await capture.value('istio_agent_cert_expiry_seconds{resource_name="default"}');
  assert.ok(Math.abs(life - 86_400) < 60, `${life}`);
  assert.doesNotMatch(logs.text, new RegExp(`PRIVATE KEY|${token}`));
});

test('at rotation the open stream gets a new key and chain, the roots are left in peace', async (t) => {
  const { identity, socketPath, clock, ca } = await startPod(t);
  await identity.start();
  const { client, first } = await watch(t, socketPath, 'default');
  const roots = await watch(t, socketPath, 'ROOTCA');
  for (const callCount of [2, 3]) {
    clock.advance(12 * hourMs);
    const next = pairOf(await client.answers.next());
    assert.notDeepEqual(next.privateKey, pairOf(first).privateKey);
    assert.ok(new X509Certificate(next.certificateChain).checkPrivateKey(createPrivateKey(next.privateKey)));
    assert.equal(ca.calls.length, callCount);
  }
  assert.equal(roots.client.answers.pendingCount, 0);
});

test('when the CA has a new root, the roots are pushed with the new certificate', async (t) => {
  const { identity, socketPath, clock, ca, authority } = await startPod(t);
  await identity.start();
  const workload = await watch(t, socketPath, 'default');
  const roots = await watch(t, socketPath, 'ROOTCA');
  assert.equal(rootsOf(roots.first), authority.certificate.trimEnd());
  const next = Authority.createRoot('next root');
  ca.rotate(next);
  clock.advance(12 * hourMs);
  assert.ok(
    pairOf(await workload.client.answers.next())
      .certificateChain.toString()
      .endsWith(next.certificate),
  );
  assert.equal(rootsOf(await roots.client.answers.next()), next.certificate.trimEnd());
});

test('roots of the mesh are pushed, and the workload gets a new certificate', async (t) => {
  const { identity, socketPath, ca, authority } = await startPod(t);
  await identity.start();
  const workload = await watch(t, socketPath, 'default');
  const roots = await watch(t, socketPath, 'ROOTCA');
  const mesh = Authority.createRoot('mesh root').certificate;
  identity.setMeshAnchors([mesh]);
  const merged = [mesh.trimEnd(), authority.certificate.trimEnd()].sort().join('\n');
  assert.equal(rootsOf(await roots.client.answers.next()), merged);
  assert.notDeepEqual(
    pairOf(await workload.client.answers.next()).privateKey,
    pairOf(workload.first).privateKey,
  );
  assert.equal(ca.calls.length, 2);
});

test('a rotation that fails ends the stream; when Envoy comes back the certificate is there', async (t) => {
  const { identity, socketPath, clock, ca, capture } = await startPod(t);
  await identity.start();
  const { client, first } = await watch(t, socketPath, 'default');
  ca.failNext(refusal, refusal);
  clock.advance(12 * hourMs);
  const ended = await client.status;
  assert.equal(ended.code, status.UNKNOWN);
  assert.match(ended.details, /^failed to generate secret for default: the CA at localhost:\d+ did not sign/);
  const second = new SdsClient(t, socketPath);
  second.send({ nodeId: 'node', names: ['default'], nonce: first.nonce, version: first.version });
  assert.equal((await second.status).code, status.UNKNOWN);
  await watch(t, socketPath, 'default');
  assert.equal(await capture.value('istio_agent_num_failed_outgoing_requests{request_type="csr"}'), 2);
});

test('the agent starts without the CA; the warm-up goes on until it is there', async (t) => {
  const { identity, ca, clock, logs, authority, serverAuthority } = await startPod(t);
  await ca.close();
  await identity.start();
  // Each try is five attempts; then 0.5 s and 0.75 s.
  for (const waitsMs of [
    [100, 200, 400, 800, 500],
    [100, 200, 400, 800, 750],
  ]) {
    for (const waitMs of waitsMs) {
      assert.equal(await clock.waitForTimer(), waitMs);
      clock.advance(waitMs);
    }
  }
  assert.equal(await clock.waitForTimer(), 100);
  await using late = await CaServer.start({
    authority,
    tls: { server: serverAuthority.issue([serverName]) },
    spiffeId,
    port: ca.port,
  });
  clock.advance(100);
  await logs.waitFor('generated new workload certificate');
  assert.equal(late.calls.length, 1);
});

test('a token that the kubelet has renewed goes with the next request', async (t) => {
  const { identity, socketPath, clock, ca, tokenPath } = await startPod(t);
  await identity.start();
  const { client } = await watch(t, socketPath, 'default');
  await writeFile(`${tokenPath}.new`, 'renewed');
  await rename(`${tokenPath}.new`, tokenPath);
  clock.advance(12 * hourMs);
  await client.answers.next();
  assert.deepEqual(
    ca.calls.map(({ headers }) => headers.get('authorization')[0]),
    [`Bearer ${token}`, 'Bearer renewed'],
  );
});

test('a new root of istiod reaches the running agent through its file', async (t) => {
  const { identity, socketPath, clock, ca, authority, rootPath } = await startPod(t);
  await identity.start();
  const { client } = await watch(t, socketPath, 'default');
  await ca.close();
  const newRoot = Authority.createRoot('new istiod root');
  await using _next = await CaServer.start({
    authority,
    tls: { server: newRoot.issue([serverName]) },
    spiffeId,
    port: ca.port,
    validity: () => ({ notAfter: new Date(clock.now() + 24 * hourMs) }),
  });
  await writeFile(rootPath, newRoot.certificate);
  clock.advance(12 * hourMs);
  pairOf(await client.answers.next());
});

/** As the kubelet mounts a secret. */
async function mountSecret(
  folder: string,
  version: number,
  pair: KeyedCertificate,
  root: string,
): Promise<void> {
  const files = { 'cert-chain.pem': pair.certificate, 'key.pem': pair.key, 'root-cert.pem': root };
  for (const [name, text] of Object.entries(files)) await write(join(folder, `..v${version}`, name), text);
  await symlink(`..v${version}`, join(folder, '..data_tmp'));
  await rename(join(folder, '..data_tmp'), join(folder, '..data'));
  if (version > 1) return rm(join(folder, `..v${version - 1}`), { recursive: true });
  for (const name of Object.keys(files)) await symlink(`..data/${name}`, join(folder, name));
}

for (const { name, folder, options } of [
  { name: 'by setting', folder: 'etc/certs', options: { values: { FILE_MOUNTED_CERTS: true } } },
  {
    name: 'that were there at start',
    folder: 'var/run/secrets/workload-spiffe-credentials',
    options: { areWorkloadCertificatesPresent: true },
  },
]) {
  test(`mounted files ${name} are served without a CA, and a swap of them is pushed`, async (t) => {
    const root = await temporaryFolder(t);
    const mount = join(root, folder);
    const [authority, next] = [Authority.createRoot('one'), Authority.createRoot('two')];
    await mountSecret(mount, 1, authority.issue([spiffeId]), authority.certificate);
    const { identity, socketPath } = await makeIdentity(t, root, options);
    await identity.start();
    const workload = await watch(t, socketPath, 'default');
    const roots = await watch(t, socketPath, 'ROOTCA');
    assert.equal(rootsOf(roots.first), authority.certificate.trimEnd());
    const renewed = next.issue([spiffeId]);
    await mountSecret(mount, 2, renewed, next.certificate);
    assert.equal(pairOf(await workload.client.answers.next()).privateKey.toString(), renewed.key);
    assert.equal(rootsOf(await roots.client.answers.next()), next.certificate.trimEnd());
  });
}

test('certificates of other files are served and pushed by their paths', async (t) => {
  const { identity, socketPath, folder } = await startPod(t, { clock: undefined as never });
  await identity.start();
  const authority = Authority.createRoot('gateway');
  const pair = authority.issue(['shop.example']);
  await write(join(folder, 'gw/tls.crt'), pair.certificate);
  await write(join(folder, 'gw/tls.key'), pair.key);
  await write(join(folder, 'gw/ca.crt'), authority.certificate);
  const cert = await watch(t, socketPath, `file-cert:${folder}/gw/tls.crt~${folder}/gw/tls.key`);
  const root = await watch(t, socketPath, 'file-root:./gw/ca.crt');
  assert.equal(pairOf(cert.first).privateKey.toString(), pair.key);
  assert.equal(rootsOf(root.first), authority.certificate);
  const next = authority.issue(['shop.example']);
  await write(join(folder, 'gw/tls.key'), next.key);
  await write(join(folder, 'gw/tls.crt'), next.certificate);
  assert.equal(pairOf(await cert.client.answers.next()).privateKey.toString(), next.key);
  assert.equal(root.client.answers.pendingCount, 0);
});

test('beside an external provider only files are served, on another socket, and no CA is asked', async (t) => {
  const { identity, config, socketPath, ca, folder, logs, authority } = await startPod(t);
  const external = await SdsProvider.start(socketPath, {});
  atEnd(t, async () => external.close());
  assert.deepEqual(await identity.start(), {
    isCredentialSocketPresent: false,
    isFileCredentialServed: true,
  });
  await write(join(folder, 'ca.crt'), authority.certificate);
  await watch(t, config.fileSocketPath, 'file-root:ca.crt');
  const client = new SdsClient(t, config.fileSocketPath);
  client.send({ nodeId: 'node', names: ['default'] });
  assert.match((await client.status).details, /no CA is used in this mode/);
  assert.equal(ca.calls.length, 0);
  assert.ok(logs.lines.some(({ msg }) => msg.startsWith('Existing workload SDS socket found')));
  await identity.close();
  // The provider's socket is not ours to remove.
  assert.ok((await stat(socketPath)).isSocket());
});

test('a socket of an agent before us is replaced', async (t) => {
  const first = await startPod(t);
  await first.identity.start();
  await rename(first.socketPath, `${first.socketPath}.kept`);
  await first.identity.close();
  await rename(`${first.socketPath}.kept`, first.socketPath);
  const second = await makeIdentity(t, first.folder, { discoveryAddress: `localhost:${first.ca.port}` });
  await second.identity.start();
  await watch(t, second.socketPath, 'default');
});

test('an external provider of gateway credentials is seen', async (t) => {
  const { identity, config } = await startPod(t);
  await mkdir(dirname(config.credentialSocketPath), { recursive: true });
  const provider = await SdsProvider.start(config.credentialSocketPath, {});
  atEnd(t, async () => provider.close());
  assert.deepEqual(await identity.start(), {
    isCredentialSocketPresent: true,
    isFileCredentialServed: false,
  });
});

for (const { name, options, code, message } of [
  {
    name: 'an external provider that is asked for by name but not there',
    options: { values: { WORKLOAD_IDENTITY_SOCKET_FILE: 'spire.sock' } },
    code: 'socket',
    message: /non-default SDS socket path: .*spire\.sock but no socket found/,
  },
  {
    name: 'a CA that is none',
    options: { values: { CA_PROVIDER: 'Other' } },
    code: 'bad_config',
    message: /CA provider "Other"/,
  },
  {
    name: 'files of GKE that are not there',
    options: { values: { CA_PROVIDER: 'GkeWorkloadCertificate' } },
    code: 'file',
    message: /certificates\.pem is not present/,
  },
  {
    name: 'a root for the CA that is not there',
    options: { values: { PILOT_CERT_PROVIDER: 'custom' } },
    code: 'bad_root',
    message: /etc\/certs\/root-cert\.pem\) cannot be used: ENOENT/,
  },
]) {
  test(`the start fails with ${name}, and leaves nothing behind`, async (t) => {
    const { identity, socketPath, ca } = await startPod(t, options);
    await assert.rejects(identity.start(), { code, message });
    await assert.rejects(stat(socketPath), { code: 'ENOENT' });
    assert.equal(ca.calls.length, 0);
  });
}

test('with OUTPUT_CERTS the files are written and renewed, also when Envoy asks for nothing', async (t) => {
  const { identity, folder, clock, ca, logs, authority } = await startPod(t, {
    values: { OUTPUT_CERTS: 'out' },
  });
  const read = async (name: string) => readFile(join(folder, 'out', name), 'utf8');
  await mkdir(join(folder, 'out'));
  await identity.start();
  await logs.waitFor('returned workload certificate from cache');
  const isOutputWhole = async () => (await read('root-cert.pem')) === authority.certificate.trimEnd();
  while (!(await isOutputWhole())) await new Promise(setImmediate);
  const [key, chain] = [await read('key.pem'), await read('cert-chain.pem')];
  assert.ok(new X509Certificate(chain).checkPrivateKey(createPrivateKey(key)));
  clock.advance(12 * hourMs);
  await ca.waitForCalls(2);
  while ((await read('cert-chain.pem')) === chain) await new Promise(setImmediate);
  assert.ok(
    new X509Certificate(await read('cert-chain.pem')).checkPrivateKey(
      createPrivateKey(await read('key.pem')),
    ),
  );
  assert.equal((await stat(join(folder, 'out', 'key.pem'))).mode & 0o777, 0o600);
});

test('a virtual machine renews its provisioned certificate through OUTPUT_CERTS', async (t) => {
  const clients = Authority.createRoot('workload root');
  const serverAuthority = Authority.createRoot('istiod root');
  const clock = new FakeClock();
  const { ca, folder } = await startCa(t, {
    authority: clients,
    tls: { server: serverAuthority.issue([serverName]), clientRoot: clients.certificate },
    validity: () => ({ notAfter: new Date(clock.now() + 24 * hourMs) }),
  });
  const certs = join(folder, 'etc/certs');
  const provisioned = clients.issue(['spiffe://cluster.local/ns/vm/sa/first']);
  await write(join(certs, 'key.pem'), provisioned.key);
  await write(join(certs, 'cert-chain.pem'), provisioned.certificate);
  // The root of istiod stays where the CA client looks for it: the output names the workload's.
  await write(join(folder, 'istiod-root.pem'), serverAuthority.certificate);
  const { identity, socketPath } = await makeIdentity(t, folder, {
    clock,
    values: {
      CA_ADDR: `localhost:${ca.port}`,
      CA_ROOT_CA: './istiod-root.pem',
      PROV_CERT: './etc/certs',
      OUTPUT_CERTS: './etc/certs',
    },
  });
  await identity.start();
  const { client } = await watch(t, socketPath, 'default');
  clock.advance(12 * hourMs);
  await client.answers.next();
  assert.deepEqual(
    ca.calls.map(({ clientNames }) => clientNames),
    ['URI:spiffe://cluster.local/ns/vm/sa/first', `URI:${spiffeId}`],
  );
});

test('without Envoy there is no socket; the certificate is written and renewed until it works', async (t) => {
  const { identity, folder, socketPath, clock, ca } = await startPod(t, {
    values: { DISABLE_ENVOY: true, OUTPUT_CERTS: 'out' },
  });
  await mkdir(join(folder, 'out'));
  ca.failNext(refusal);
  await identity.start();
  assert.equal(await clock.waitForTimer(), 500);
  clock.advance(500);
  await clock.waitForTimer(hourMs);
  const chain = await readUntilThere(join(folder, 'out/cert-chain.pem'));
  await assert.rejects(stat(socketPath), { code: 'ENOENT' });
  ca.failNext(refusal);
  clock.advance(12 * hourMs);
  await ca.waitForCalls(3);
  clock.advance(await clock.waitForTimer(60_000));
  while ((await readFile(join(folder, 'out/cert-chain.pem'), 'utf8')) === chain)
    await new Promise(setImmediate);
});

async function readUntilThere(path: string): Promise<string> {
  for (;;) {
    const text = await readFile(path, 'utf8').catch(() => undefined);
    if (text !== undefined) return text;
    await new Promise(setImmediate);
  }
}

test('close ends a request that hangs, the streams and the socket, and can be called again', async (t) => {
  const { identity, socketPath, ca } = await startPod(t);
  ca.failNext({ kind: 'delay', until: new Promise(() => undefined) });
  await identity.start();
  const client = new SdsClient(t, socketPath);
  client.send({ nodeId: 'node', names: ['default'] });
  await ca.waitForCalls(1);
  await identity.close();
  assert.equal((await client.status).code, status.UNAVAILABLE);
  await assert.rejects(stat(socketPath), { code: 'ENOENT' });
  await identity.close();
});

test('close before start does nothing, and a start after it is refused', async (t) => {
  const { identity, socketPath } = await startPod(t);
  await identity.close();
  await assert.rejects(identity.start(), { code: 'closed' });
  await assert.rejects(stat(socketPath), { code: 'ENOENT' });
});

test('close during start waits for it, and nothing is left', async (t) => {
  const { identity, socketPath } = await startPod(t);
  const started = identity.start().catch((error: unknown) => error);
  await identity.close();
  await started;
  await assert.rejects(stat(socketPath), { code: 'ENOENT' });
});
