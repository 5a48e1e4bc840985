import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import test, { type TestContext } from 'node:test';
import { systemClock } from '../../../agent/clock.ts';
import type { IssuedCertificate } from '../../../agent/identity/certificate-issuer.ts';
import { CertificateStore, type CertificateStoreOptions } from '../../../agent/identity/certificate-store.ts';
import { FileCertificates } from '../../../agent/identity/file-certificates.ts';
import { IdentityError } from '../../../agent/identity/identity-error.ts';
import { OutputFiles } from '../../../agent/identity/output-files.ts';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { atEnd, temporaryFolder } from '../../support/test-end.ts';
import { EventQueue } from '../xds/event-queue.ts';
import { LogCapture, MetricsCapture } from './sds-fixture.ts';

const hourMs = 3_600_000;
const { signal } = new AbortController();
const root = Authority.createRoot('root').certificate;

/** What the CA would give: a number in the place of key and chain tells one from the other. */
class Issuing {
  readonly issued: IssuedCertificate[] = [];
  readonly failures: Error[] = [];
  root = root;
  /** Settles before a certificate is given. */
  gate: Promise<void> = Promise.resolve();
  readonly #clock: FakeClock;

  constructor(clock: FakeClock) {
    this.#clock = clock;
  }

  async issue(): Promise<IssuedCertificate> {
    await this.gate;
    const failure = this.failures.shift();
    if (failure !== undefined) throw failure;
    const number = this.issued.length + 1;
    const nowMs = this.#clock.now();
    const certificate = {
      certificateChain: Buffer.from(`chain ${number}`),
      privateKey: Buffer.from(`key ${number}`),
      root: this.root,
      issuedAtMs: nowMs,
      notAfterMs: nowMs + 24 * hourMs,
    };
    this.issued.push(certificate);
    return certificate;
  }
}

async function openStore(
  t: TestContext,
  changes: Partial<CertificateStoreOptions> & { outputFolder?: string } = {},
) {
  const folder = await temporaryFolder(t);
  const clock = new FakeClock();
  const issuing = new Issuing(clock);
  const updates = new EventQueue<string>();
  const logs = new LogCapture();
  const log = logs.root.scope('cache');
  const onUpdate = (name: string): void => updates.push(name);
  const certs = join(folder, 'etc', 'certs');
  const { outputFolder, ...options } = changes;
  const store = new CertificateStore({
    resolvePath: (path) => resolve(folder, path),
    workloadFiles: {
      certificatePath: join(certs, 'cert-chain.pem'),
      keyPath: join(certs, 'key.pem'),
      rootPath: join(certs, 'root-cert.pem'),
      areRequired: false,
      areOwnOutput: false,
    },
    files: new FileCertificates({
      debounceMs: 5,
      onChange: onUpdate,
      metrics: new MetricsCapture().metrics,
      log,
      clock: systemClock,
      random: Math.random,
    }),
    issue: async () => issuing.issue(),
    rotation: { graceRatio: 0.5, graceRatioJitter: 0 },
    output:
      outputFolder === undefined
        ? undefined
        : new OutputFiles({ folder: join(folder, outputFolder), fileMode: 0o600, log }),
    onUpdate,
    log,
    clock,
    random: () => 0.5,
    ...options,
  });
  atEnd(t, async () => store.close());
  const get = async (name: string): Promise<string> => {
    const secret = await store.generate(name, { signal });
    assert.equal(secret.name, name);
    return secret.kind === 'roots' ? secret.certificates.toString() : secret.certificateChain.toString();
  };
  const write = async (path: string, text: string): Promise<void> => {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), text);
  };
  return { store, clock, issuing, updates, logs, folder, get, write };
}

test('one certificate serves all who ask, whatever name they use, and its root', async (t) => {
  const { issuing, get } = await openStore(t);
  const [one, two, other, roots] = await Promise.all([
    get('default'),
    get('default'),
    get('no-such'),
    get('ROOTCA'),
  ]);
  assert.deepEqual([one, two, other], ['chain 1', 'chain 1', 'chain 1']);
  assert.equal(roots, root.trimEnd());
  assert.equal(issuing.issued.length, 1);
});

test('at half its life the certificate is dropped and pushed; the next request gets a new one', async (t) => {
  const { clock, updates, issuing, get, store } = await openStore(t);
  await get('default');
  assert.equal(await updates.next(), 'ROOTCA');
  clock.advance(12 * hourMs - 1);
  assert.equal(updates.pendingCount, 0);
  assert.equal(await get('default'), 'chain 1');
  clock.advance(1);
  assert.equal(await updates.next(), 'default');
  assert.equal(issuing.issued.length, 1);
  assert.equal(await get('default'), 'chain 2');
  // The root is the same: nobody is told.
  assert.equal(updates.pendingCount, 0);
  assert.deepEqual(store.served, [{ resourceName: 'default', notAfterMs: clock.now() + 24 * hourMs }]);
});

test('a clock that was set forward does not lose the rotation', async (t) => {
  const { clock, updates, get } = await openStore(t);
  await get('default');
  await updates.next();
  clock.jump(30 * hourMs);
  clock.advance(hourMs);
  assert.equal(await updates.next(), 'default');
});

test('after a sleep of the machine nobody is given a certificate that expired meanwhile', async (t) => {
  const { issuing, clock, updates, get } = await openStore(t);
  assert.equal(await get('default'), 'chain 1');
  assert.equal(await updates.next(), 'ROOTCA');
  clock.jump(24 * hourMs);
  assert.equal(await get('default'), 'chain 2');
  assert.equal(await updates.next(), 'default', 'whoever holds the old one is given the new one');
  assert.equal(await get('default'), 'chain 2');
  assert.equal(issuing.issued.length, 2);
});

test('while the renewal fails, each request is a new attempt, and the old expiry stays visible', async (t) => {
  const { clock, updates, issuing, get, store } = await openStore(t);
  await get('default');
  await updates.next();
  const notAfterMs = store.served[0]?.notAfterMs;
  clock.advance(12 * hourMs);
  await updates.next();
  issuing.failures.push(
    new IdentityError('ca_unavailable', 'away'),
    new IdentityError('ca_unavailable', 'away'),
  );
  await assert.rejects(get('default'), { code: 'ca_unavailable' });
  await assert.rejects(get('ROOTCA'), { code: 'ca_unavailable' });
  assert.equal(store.served[0]?.notAfterMs, notAfterMs);
  assert.equal(await get('default'), 'chain 2');
});

test('requests that come during one to the CA share its result, also its failure', async (t) => {
  const { issuing, get } = await openStore(t);
  const gate = Promise.withResolvers<void>();
  issuing.gate = gate.promise;
  issuing.failures.push(new IdentityError('ca_unavailable', 'away'));
  // These names look at no file first, so all three wait when the gate opens.
  const asked = Promise.allSettled([get('a'), get('b'), get('c')]);
  gate.resolve();
  assert.deepEqual(
    (await asked).map(({ status }) => status),
    ['rejected', 'rejected', 'rejected'],
  );
  assert.equal(issuing.failures.length, 0);
  assert.equal(await get('default'), 'chain 1');
});

test('who gives up does not end the request that others wait for', async (t) => {
  const { issuing, get, store } = await openStore(t);
  const gate = Promise.withResolvers<void>();
  issuing.gate = gate.promise;
  const gone = new AbortController();
  const first = store.generate('default', { signal: gone.signal });
  const second = get('default');
  gone.abort(new Error('gone'));
  await assert.rejects(first, { message: 'gone' });
  gate.resolve();
  assert.equal(await second, 'chain 1');
});

test('a new root of the CA is pushed, and served with the roots of the mesh', async (t) => {
  const { clock, updates, issuing, get, store } = await openStore(t);
  const [newRoot, meshRoot] = [
    Authority.createRoot('new').certificate,
    Authority.createRoot('mesh').certificate,
  ];
  await get('default');
  await updates.next();
  issuing.root = newRoot;
  clock.advance(12 * hourMs);
  assert.equal(await updates.next(), 'default');
  await get('default');
  assert.equal(await updates.next(), 'ROOTCA');
  assert.equal(await get('ROOTCA'), newRoot.trimEnd());
  store.setMeshAnchors([meshRoot, newRoot]);
  assert.deepEqual([await updates.next(), await updates.next()], ['ROOTCA', 'default']);
  assert.equal(await get('ROOTCA'), [newRoot.trimEnd(), meshRoot.trimEnd()].sort().join('\n'));
  assert.equal(await get('default'), 'chain 3');
});

test('the same roots of the mesh again change nothing', async (t) => {
  const { store, updates, get, issuing } = await openStore(t);
  await get('default');
  await updates.next();
  store.setMeshAnchors([root]);
  assert.deepEqual([await updates.next(), await updates.next()], ['ROOTCA', 'default']);
  await get('default');
  store.setMeshAnchors([root]);
  assert.equal(updates.pendingCount, 0);
  await get('default');
  assert.equal(issuing.issued.length, 2);
});

test('a rotation that was overtaken by new roots of the mesh does nothing', async (t) => {
  const { store, clock, updates, get } = await openStore(t);
  await get('default');
  clock.advance(6 * hourMs);
  store.setMeshAnchors([root]);
  await get('default');
  for (let count = 0; count < 3; count += 1) await updates.next();
  clock.advance(6 * hourMs);
  assert.equal(updates.pendingCount, 0);
  clock.advance(6 * hourMs);
  assert.equal(await updates.next(), 'default');
});

test('nor does a rotation whose certificate was dropped before', async (t) => {
  const { store, clock, updates, get } = await openStore(t);
  await get('default');
  store.setMeshAnchors([root]);
  for (let count = 0; count < 3; count += 1) await updates.next();
  clock.advance(24 * hourMs);
  assert.equal(updates.pendingCount, 0);
});

test('a ratio that asks for a rotation at once does not flood the CA', async (t) => {
  const { clock, updates, get } = await openStore(t, { rotation: { graceRatio: 1, graceRatioJitter: 0 } });
  await get('default');
  await updates.next();
  clock.advance(999);
  assert.equal(updates.pendingCount, 0);
  clock.advance(1);
  assert.equal(await updates.next(), 'default');
});

test('files of the workload go before the CA, as long as they are there', async (t) => {
  const authority = Authority.createRoot('files');
  const { issuing, updates, get, write } = await openStore(t);
  const one = authority.issue(['spiffe://td/ns/a/sa/b']);
  await write('etc/certs/key.pem', one.key);
  // The key alone is not enough.
  assert.equal(await get('default'), 'chain 1');
  await updates.next();
  await write('etc/certs/cert-chain.pem', one.certificate);
  await write('etc/certs/root-cert.pem', authority.certificate);
  assert.equal(await get('default'), one.certificate);
  assert.equal(await get('ROOTCA'), authority.certificate.trimEnd());
  // Other names are the workload's, but not from files.
  assert.equal(await get('other'), 'chain 1');
  const two = authority.issue(['spiffe://td/ns/a/sa/b']);
  await write('etc/certs/key.pem', two.key);
  await write('etc/certs/cert-chain.pem', two.certificate);
  assert.equal(await updates.next(), 'default');
  assert.equal(await get('default'), two.certificate);
  assert.equal(issuing.issued.length, 1);
});

test('files that the agent writes itself are not read', async (t) => {
  const { folder, get, write } = await openStore(t, {
    outputFolder: 'etc/certs',
    workloadFiles: {
      certificatePath: 'unused',
      keyPath: 'unused',
      rootPath: 'unused',
      areRequired: false,
      areOwnOutput: true,
    },
  });
  await write('etc/certs/key.pem', 'old');
  assert.equal(await get('default'), 'chain 1');
  assert.equal(await readFile(join(folder, 'etc/certs/key.pem'), 'utf8'), 'key 1');
});

test('a fresh certificate is written with its root as it came, the roots alone with those of the mesh', async (t) => {
  const { store, folder, get, write } = await openStore(t, { outputFolder: 'out' });
  await write('out/other', '');
  const read = async (name: string) => readFile(join(folder, 'out', name), 'utf8');
  const meshRoot = Authority.createRoot('mesh').certificate;
  await get('default');
  assert.deepEqual(
    [await read('key.pem'), await read('cert-chain.pem'), await read('root-cert.pem')],
    ['key 1', 'chain 1', root],
  );
  store.setMeshAnchors([meshRoot]);
  await get('ROOTCA');
  assert.equal(await read('key.pem'), 'key 1');
  const merged = [root.trimEnd(), meshRoot.trimEnd()].sort().join('\n');
  assert.equal(await read('root-cert.pem'), merged);
  // From the cache: key and chain, and the roots stay as they are.
  await get('default');
  assert.deepEqual([await read('key.pem'), await read('root-cert.pem')], ['key 2', merged]);
});

test('without a CA and without files the error says what is missing', async (t) => {
  const { get } = await openStore(t, { issue: undefined });
  await assert.rejects(get('default'), (error) => {
    assert.ok(error instanceof IdentityError && error.code === 'no_source');
    assert.match(error.message, /no CA is used in this mode and .*cert-chain\.pem/);
    return true;
  });
});

test('the CA bundle of the system is served under its name', async (t) => {
  const { get } = await openStore(t);
  const bundle = await readFile('/etc/ssl/certs/ca-certificates.crt', 'utf8').catch(() => undefined);
  if (bundle === undefined) {
    t.skip('this machine has no CA bundle');
    return;
  }
  const [first = ''] = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/.exec(bundle) ?? [];
  assert.ok((await get('file-root:system')).startsWith(first));
});

test('when the store closes, whoever waits is told, and nothing is issued any more', async (t) => {
  const { store, issuing, clock } = await openStore(t);
  const gate = Promise.withResolvers<void>();
  issuing.gate = gate.promise;
  const waiting = assert.rejects(store.generate('default', { signal }), { code: 'closed' });
  const closed = store.close();
  await waiting;
  gate.resolve();
  await closed;
  await assert.rejects(store.generate('default', { signal }), { code: 'closed' });
  clock.advance(100 * hourMs);
});
