import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { type Clock, systemClock } from '../../../agent/clock.ts';
import { FileCertificates } from '../../../agent/identity/file-certificates.ts';
import { IdentityError } from '../../../agent/identity/identity-error.ts';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { openSsl, openSslSkipReason } from '../../support/certificate-authority/open-ssl.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { atEnd, temporaryFolder } from '../../support/test-end.ts';
import { EventQueue } from '../xds/event-queue.ts';
import { LogCapture, MetricsCapture } from './sds-fixture.ts';

const authority = Authority.createRoot('root');
const { signal } = new AbortController();

async function open(t: TestContext, clock: Clock = systemClock, maxWatchedCount = 1000) {
  const folder = await temporaryFolder(t);
  const changes = new EventQueue<string>();
  const logs = new LogCapture();
  const capture = new MetricsCapture();
  const files = new FileCertificates({
    debounceMs: 100,
    onChange: (name) => changes.push(name),
    metrics: capture.metrics,
    log: logs.root.scope('cache'),
    clock,
    random: () => 0.5,
    maxWatchedCount,
  });
  atEnd(t, async () => files.close());
  const paths = { certificatePath: join(folder, 'cert.pem'), keyPath: join(folder, 'key.pem') };
  const writePair = async ({ certificate, key } = authority.issue(['a.example'])): Promise<void> => {
    await writeFile(paths.keyPath, key);
    await writeFile(paths.certificatePath, certificate);
  };
  return { files, folder, paths, writePair, changes, logs, capture };
}

test('a pair is read as it is, and its certificate is watched', async (t) => {
  const { files, paths, writePair, changes } = await open(t);
  const pair = authority.issue(['a.example']);
  await writePair({ ...pair, certificate: `a comment\n${pair.certificate}${authority.certificate}` });
  const read = await files.readKeyPair('name', paths, { signal });
  assert.deepEqual(read.certificateChain, await readFile(paths.certificatePath));
  assert.equal(read.privateKey.toString(), pair.key);
  await writePair();
  assert.equal(await changes.next(), 'name');
  files.release('name');
});

test('a pair that is half written is read again until it fits', async (t) => {
  const clock = new FakeClock();
  const { files, paths, writePair } = await open(t, clock);
  const [old, next] = [authority.issue(['a.example']), authority.issue(['a.example'])];
  await writePair({ certificate: next.certificate, key: old.key });
  const reading = files.readKeyPair('name', paths, { signal });
  assert.equal(await clock.waitForTimer(), 100);
  clock.advance(100);
  assert.equal(await clock.waitForTimer(), 150);
  await writeFile(paths.keyPath, next.key);
  clock.advance(150);
  assert.equal((await reading).privateKey.toString(), next.key);
});

test('after ten seconds it is given up with what was last seen', async (t) => {
  const clock = new FakeClock();
  const { files, paths, writePair, capture } = await open(t, clock);
  const [one, two] = [authority.issue(['a.example']), authority.issue(['a.example'])];
  await writePair({ certificate: one.certificate, key: two.key });
  const reading = assert.rejects(files.readKeyPair('name', paths, { signal }), (error) => {
    assert.ok(error instanceof IdentityError && error.code === 'file_content');
    assert.match(error.message, /the key in .*key\.pem does not belong to the certificate in .*cert\.pem/);
    return true;
  });
  const startedAtMs = clock.now();
  for (;;) {
    const delayMs = await Promise.race([clock.waitForTimer(), reading.then(() => undefined)]);
    if (delayMs === undefined) break;
    clock.advance(delayMs);
  }
  const tookMs = clock.now() - startedAtMs;
  assert.ok(tookMs > 5000 && tookMs <= 10_000, `${tookMs}`);
  assert.equal(await capture.value('istio_agent_num_file_secret_failures_total'), 1);
});

const unusable: readonly {
  readonly name: string;
  readonly certificate?: string;
  readonly key?: string;
  readonly message: RegExp;
}[] = [
  { name: 'an empty certificate', certificate: '', message: /cert\.pem does not begin with a readable PEM/ },
  {
    name: 'a certificate that is cut',
    certificate: authority.certificate.slice(0, 200),
    message: /readable PEM/,
  },
  {
    name: 'a key that is no key',
    key: 'SECRET-LOOKING TEXT',
    message: /key\.pem holds no usable PEM private key/,
  },
  { name: 'an empty key', key: '', message: /key\.pem holds no usable PEM private key/ },
];

for (const { name, certificate, key, message } of unusable) {
  test(`${name} is refused by path, without its contents`, async (t) => {
    // Each look at the clock is later than the patience for files.
    let nowMs = 0;
    const { files, paths, writePair, logs } = await open(t, { ...systemClock, now: () => (nowMs += 20_000) });
    const pair = authority.issue(['a.example']);
    await writePair({ certificate: certificate ?? pair.certificate, key: key ?? pair.key });
    await assert.rejects(files.readKeyPair('name', paths, { signal }), (error) => {
      assert.ok(error instanceof IdentityError);
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /SECRET-LOOKING/);
      return true;
    });
    assert.doesNotMatch(logs.text, /SECRET-LOOKING|PRIVATE KEY-----/);
  });
}

test('keys of every usual form fit their certificates', { skip: openSslSkipReason() ?? false }, async (t) => {
  const { files, paths } = await open(t);
  for (const words of [
    ['ecparam', '-name', 'prime256v1', '-genkey'], // with a block of parameters before the key
    ['ecparam', '-name', 'secp384r1', '-genkey', '-noout'],
    ['genrsa', '-traditional', '2048'],
    ['genpkey', '-algorithm', 'ed25519'],
  ]) {
    const [command = '', ...rest] = words;
    await promisify(execFile)('openssl', [command, '-out', paths.keyPath, ...rest]);
    await openSsl(
      'req',
      '-x509',
      '-new',
      '-key',
      paths.keyPath,
      '-subj',
      '/CN=a',
      '-days',
      '2',
      '-out',
      paths.certificatePath,
    );
    const name = words.join(' ');
    assert.ok((await files.readKeyPair(name, paths, { signal })).privateKey.length > 100, name);
  }
});

test('roots that cannot be read are left out, what is around them too', async (t) => {
  const { files, folder, logs } = await open(t);
  const path = join(folder, 'roots.pem');
  const other = Authority.createRoot('other');
  const bad = `-----BEGIN CERTIFICATE-----\n${Buffer.from('no').toString('base64')}\n-----END CERTIFICATE-----\n`;
  await writeFile(path, `# text\n${authority.certificate}${bad}\n\n${other.certificate.trimEnd()}`);
  assert.equal(
    await files.readRoots('name', path, { signal }),
    `${authority.certificate}${other.certificate}`,
  );
  const line = await logs.waitFor('failed to parse some certs from file');
  assert.deepEqual([line['certificateCount'], line['unusableCount']], [3, 1]);
});

test('a file that is not there yet is waited for', async (t) => {
  const clock = new FakeClock();
  const { files, folder } = await open(t, clock);
  const path = join(folder, 'roots.pem');
  const reading = files.readRoots('name', path, { signal });
  await clock.waitForTimer();
  await writeFile(path, authority.certificate);
  clock.advance(100);
  assert.equal(await reading, authority.certificate);
});

test('whoever waits for a file can give up', async (t) => {
  const { files, folder } = await open(t, new FakeClock());
  const gone = new AbortController();
  const reading = files.readRoots('name', join(folder, 'none.pem'), { signal: gone.signal });
  gone.abort(new Error('given up'));
  await assert.rejects(reading, { message: 'given up' });
});

test('no more files are watched than the bound; a released one makes room', async (t) => {
  const { files, folder } = await open(t, systemClock, 3);
  const path = join(folder, 'roots.pem');
  await writeFile(path, authority.certificate);
  for (const name of ['a', 'b', 'c', 'a']) await files.readRoots(name, path, { signal });
  await assert.rejects(
    files.readRoots('d', path, { signal }),
    /d is not served: 3 resources of files are in use/,
  );
  files.release('b');
  await files.readRoots('d', path, { signal });
});
