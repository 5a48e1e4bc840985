import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'node:test';
import { LogRoot } from '../../../agent/log.ts';
import { buildRequestHeaders, isLoopback, readToken } from '../../../agent/xds/request-metadata.ts';
import { temporaryFolder } from '../../support/test-end.ts';
import { testConfig } from './relay-fixture.ts';

function recordingLog() {
  const lines: string[] = [];
  const root = new LogRoot({ format: 'text', levels: new Map(), write: (line) => lines.push(line) });
  return { log: root.scope('xdsproxy'), lines };
}

test('a token is trimmed; one that is missing, empty or no header text is left out with a warning', async (t) => {
  const path = join(await temporaryFolder(t), 'token');
  const { log, lines } = recordingLog();
  assert.equal(await readToken(path, log), undefined);
  await writeFile(path, ' \n');
  assert.equal(await readToken(path, log), undefined);
  await writeFile(path, 'very-secret\u0000\nx');
  assert.equal(await readToken(path, log), undefined);
  assert.equal(lines.length, 3);
  await writeFile(path, '\tvery-secret\n');
  assert.equal(await readToken(path, log), 'very-secret');
  assert.equal(lines.length, 3);
  assert.doesNotMatch(lines.join(''), /very-secret/);
});

test('a token goes over TLS to anyone, in clear text only to this machine', () => {
  const { log, lines } = recordingLog();
  const plain = testConfig('/tmp', {});
  const tls = testConfig('/tmp', {
    tls: {
      serverName: 'istiod',
      root: { kind: 'system' },
      clientCertificate: undefined,
      compliance: undefined,
    },
  });
  const stream = { kind: 'delta', token: 'very-secret' } as const;
  const authorization = (config: typeof plain, remoteAddress: string | undefined): unknown =>
    buildRequestHeaders(config, { ...stream, remoteAddress }, log)['authorization'];
  for (const address of ['127.0.0.1', '127.1.2.3', '::1', '::ffff:127.0.0.1']) {
    assert.equal(authorization(plain, address), 'Bearer very-secret', address);
  }
  for (const address of ['10.0.0.1', 'fd00::1', '::ffff:10.127.0.1', undefined]) {
    assert.equal(authorization(plain, address), undefined, address);
    assert.equal(authorization(tls, address), 'Bearer very-secret', address);
  }
  assert.equal(lines.length, 4);
  assert.doesNotMatch(lines.join(''), /very-secret/);
});

test('loopback is told by the address alone', () => {
  for (const address of ['127.0.0.1', '::1']) assert.equal(isLoopback(address), true, address);
  for (const address of ['1127.0.0.1', '128.0.0.1', '::1:2', 'localhost', undefined]) {
    assert.equal(isLoopback(address), false, address);
  }
});
