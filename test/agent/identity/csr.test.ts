import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'node:test';
import type { CsrConfig } from '../../../agent/config/identity-config.ts';
import { decodeSigningAnswer, encodeSigningRequest } from '../../../agent/identity/ca-messages.ts';
import { createCertificateRequest, encodeCertificateRequest } from '../../../agent/identity/csr.ts';
import { openSsl, openSslSkipReason } from '../../support/certificate-authority/open-ssl.ts';
import { readCertificateRequest } from '../../support/certificate-authority/request-reader.ts';
import { temporaryFolder } from '../../support/test-end.ts';
import { recordedMessages, recordingSkipReason } from './recording.ts';

const spiffeId = 'spiffe://cluster.local/ns/shop/sa/cart';
const rsa = { kind: 'rsa', sizeBits: 2048 } as const;
const p256 = { kind: 'ecdsa', curve: 'P-256' } as const;
const p384 = { kind: 'ecdsa', curve: 'P-384' } as const;

const cases: readonly {
  readonly name: string;
  readonly config: Pick<CsrConfig, 'key' | 'keyFormat'>;
  readonly label: string;
  readonly text: readonly RegExp[];
}[] = [
  {
    name: 'RSA with a PKCS#1 key',
    config: { key: rsa, keyFormat: 'traditional' },
    label: 'RSA PRIVATE KEY',
    text: [/Public-Key: \(2048 bit\)/, /Signature Algorithm: sha256WithRSAEncryption/],
  },
  {
    name: 'larger RSA with a PKCS#8 key',
    config: { key: { kind: 'rsa', sizeBits: 3072 }, keyFormat: 'pkcs8' },
    label: 'PRIVATE KEY',
    text: [/Public-Key: \(3072 bit\)/],
  },
  {
    name: 'P-256 with a SEC 1 key',
    config: { key: p256, keyFormat: 'traditional' },
    label: 'EC PRIVATE KEY',
    text: [/NIST CURVE: P-256/, /Signature Algorithm: ecdsa-with-SHA256/],
  },
  {
    name: 'P-384 with a SEC 1 key',
    config: { key: p384, keyFormat: 'traditional' },
    label: 'EC PRIVATE KEY',
    text: [/NIST CURVE: P-384/, /Signature Algorithm: ecdsa-with-SHA384/],
  },
  {
    name: 'P-256 with a PKCS#8 key',
    config: { key: p256, keyFormat: 'pkcs8' },
    label: 'PRIVATE KEY',
    text: [/NIST CURVE: P-256/],
  },
];

for (const { name, config, label, text } of cases) {
  test(`OpenSSL reads the request and its identity: ${name}`, {
    skip: openSslSkipReason() ?? false,
  }, async (t) => {
    const folder = await temporaryFolder(t);
    const made = await createCertificateRequest({ ...config, spiffeId });
    const path = join(folder, 'request.pem');
    await writeFile(path, made.csr);
    const seen = await openSsl('req', '-in', path, '-noout', '-text', '-verify');
    assert.match(seen, /verify OK/i);
    assert.match(
      seen,
      /X509v3 Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster\.local\/ns\/shop\/sa\/cart\n/,
    );
    assert.match(seen, /Subject: O =\s*\n/);
    for (const pattern of text) assert.match(seen, pattern);
    assert.ok(made.key.toString().startsWith(`-----BEGIN ${label}-----\n`), label);
    const publicKey = createPublicKey(createPrivateKey(made.key)).export({ type: 'spki', format: 'der' });
    assert.deepEqual(publicKey, readCertificateRequest(made.csr).publicKey);
  });
}

test('each request is for a new key', async () => {
  const config = { key: p256, keyFormat: 'traditional', spiffeId } as const;
  const [one, two] = await Promise.all([createCertificateRequest(config), createCertificateRequest(config)]);
  assert.notDeepEqual(readCertificateRequest(one.csr).publicKey, readCertificateRequest(two.csr).publicKey);
});

test('request and message are byte for byte those of the stock agent for the same key', {
  skip: recordingSkipReason,
}, () => {
  const [asked] = recordedMessages('ca').filter(({ dir }) => dir === 'agent>istiod');
  // The key came back over SDS, in the first answer for `default`.
  const [served] = recordedMessages('sds').filter(({ dir }) => dir === 'agent>client');
  const key = /-----BEGIN RSA PRIVATE KEY-----[\s\S]+-----END RSA PRIVATE KEY-----\n/.exec(
    served?.bytes.toString('latin1') ?? '',
  )?.[0];
  assert.ok(key !== undefined && asked !== undefined);
  const csr = encodeCertificateRequest(createPrivateKey(key), {
    key: rsa,
    spiffeId: 'spiffe://cluster.local/ns/istio-system/sa/gw',
  });
  const message = encodeSigningRequest({ csr, validitySeconds: 60, certSigner: '' });
  assert.deepEqual(message, asked.bytes);
});

test('the chain of a recorded answer is read', { skip: recordingSkipReason }, () => {
  const [answer] = recordedMessages('ca').filter(({ dir }) => dir === 'istiod>agent');
  const chain = decodeSigningAnswer(answer?.bytes ?? Buffer.alloc(0));
  assert.deepEqual(
    chain.map((text) => text.length),
    [928, 611, 611],
  );
  assert.ok(chain.every((text) => text.startsWith('-----BEGIN CERTIFICATE-----\n')));
});
