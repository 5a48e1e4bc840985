import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { describe, it } from 'node:test';
import { parseSigners, signerSetId } from '../../../../agent/fetch/signature/signer.ts';
import { pem } from '../../../support/certificate-authority/der.ts';
import { type KeyKind, makeKey } from './cosign-signer.ts';
import { PrivateSigstore } from './private-sigstore.ts';
import { signersOf } from './signed-registry.ts';

const sigstore = new PrivateSigstore();
const key = makeKey('P-256');
const byKey = { kind: 'key', name: 'release', publicKeys: [key.publicKeyPem] };
const identity = { issuer: 'https://issuer.test', subject: 'someone@test' };
const keyless = { kind: 'keyless', name: 'ci', trustedRoot: sigstore.trustedRoot(), identities: [identity] };

async function problems(data: unknown): Promise<string> {
  const parsed = await parseSigners(data);
  assert.ok(parsed.kind === 'rejected');
  return parsed.problems.join('\n');
}

describe('signers of a policy', () => {
  const algorithms: readonly (readonly [KeyKind, readonly string[]])[] = [
    ['P-256', ['ecdsa-p256-sha256']],
    ['P-384', ['ecdsa-p384-sha384', 'ecdsa-p384-sha256']],
    ['Ed25519', ['ed25519']],
    ['RSA-2048', ['rsa-pkcs1-sha256', 'rsa-pss-sha256']],
  ];
  for (const [kind, expected] of algorithms) {
    it(`with a key of kind ${kind} are read, with its id and what it is for`, async () => {
      const { publicKey, publicKeyPem } = makeKey(kind);
      const [signer] = await signersOf([{ ...byKey, publicKeys: [publicKeyPem] }]);
      assert.ok(signer?.kind === 'key');
      const id = createHash('sha256')
        .update(publicKey.export({ type: 'spki', format: 'der' }))
        .digest('hex');
      assert.deepEqual(
        signer.keys.map((each) => [each.id, each.algorithms]),
        [[id, expected]],
      );
    });
  }

  it('with an RSA key in PKCS #1 and with an RSA-PSS key are read', async () => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const publicKeys = [publicKey.export({ type: 'pkcs1', format: 'pem' }), pss('sha256', 'sha256')];
    const [signer] = await signersOf([{ ...byKey, publicKeys }]);
    assert.deepEqual(signer?.kind === 'key' && signer.keys.map((each) => each.algorithms), [
      ['rsa-pkcs1-sha256', 'rsa-pss-sha256'],
      ['rsa-pss-sha256'],
    ]);
  });

  it('by identity are read, an absent end of time too', async () => {
    const [signer] = await signersOf([
      { ...keyless, identities: [identity, { issuer: 'i', subjectPattern: 'a|b' }] },
    ]);
    assert.ok(signer?.kind === 'keyless');
    assert.deepEqual(
      signer.identities.map(({ subject }) =>
        subject.kind === 'exact' ? subject.text : subject.pattern.source,
      ),
      ['someone@test', '^(?:a|b)$'],
    );
    assert.equal(signer.trustedRoot.tlogs[0]?.validFor.end, undefined);
    assert.ok((signer.trustedRoot.tlogs[0]?.validFor.start?.getTime() ?? Number.NaN) < Date.now());
  });

  const { privateKey } = generateKeyPairSync('ed25519');
  const privatePem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const certificatePem = pem('CERTIFICATE', Buffer.from('x'));
  const curve = generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey.export({
    type: 'spki',
    format: 'pem',
  });
  const short = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({
    type: 'spki',
    format: 'pem',
  });
  const x25519 = generateKeyPairSync('x25519').publicKey.export({ type: 'spki', format: 'pem' });
  const root = sigstore.trustedRoot();
  const rejected: readonly (readonly [string, unknown, RegExp])[] = [
    ['that are no list', {}, /^signers: must be of type array/],
    ['of an unknown kind', [{ ...byKey, kind: 'gpg' }], /^signers\.0\.kind: /],
    ['without a name', [{ ...byKey, name: '' }], /^signers\.0\.name: /],
    ['with a misspelt field', [{ ...byKey, publicKey: 'x' }], /^signers\.0: has unknown fields: "publicKey"/],
    ['without keys', [{ ...byKey, publicKeys: [] }], /^signers\.0\.publicKeys: /],
    ['with an unknown algorithm', [{ ...byKey, algorithms: ['md5'] }], /^signers\.0\.algorithms\.0: /],
    [
      'with a text that is no key',
      [{ ...byKey, publicKeys: ['key'] }],
      /^signers\.0 \("release"\)\.publicKeys\.0: holds no PEM block/,
    ],
    [
      'with a private key',
      [{ ...byKey, publicKeys: [privatePem] }],
      /publicKeys\.0: holds a PEM block "PRIVATE KEY"; only public keys/,
    ],
    [
      'with a certificate for a key',
      [{ ...byKey, publicKeys: [certificatePem] }],
      /publicKeys\.0: holds a PEM block "CERTIFICATE"/,
    ],
    [
      'with a broken key',
      [{ ...byKey, publicKeys: [pem('PUBLIC KEY', Buffer.from('x'))] }],
      /publicKeys\.0: cannot be read as a public key/,
    ],
    [
      'with a curve that is not supported',
      [{ ...byKey, publicKeys: [curve] }],
      /publicKeys\.0: is on the curve secp256k1/,
    ],
    [
      'with a short RSA key',
      [{ ...byKey, publicKeys: [short] }],
      /publicKeys\.0: is an RSA key of 1024 bits/,
    ],
    [
      'with an RSA-PSS key for another hash',
      [{ ...byKey, publicKeys: [pss('sha384', 'sha384')] }],
      /publicKeys\.0: is an RSA-PSS key for sha384/,
    ],
    [
      'with an RSA-PSS key for two hashes',
      [{ ...byKey, publicKeys: [pss('sha256', 'sha1')] }],
      /publicKeys\.0: is an RSA-PSS key for sha256 and sha1/,
    ],
    ['with a key that cannot sign', [{ ...byKey, publicKeys: [x25519] }], /publicKeys\.0: is of type x25519/],
    [
      'with a key that the algorithms do not allow',
      [{ ...byKey, algorithms: ['ed25519'] }],
      /publicKeys\.0: is for ecdsa-p256-sha256, and the signer's "algorithms"/,
    ],
    [
      'of one name',
      [byKey, { ...keyless, name: 'release' }],
      /^signers\.1 \("release"\): another signer has this name/,
    ],
    ['without identities', [{ ...keyless, identities: [] }], /^signers\.0\.identities: /],
    [
      'with an identity of anybody',
      [{ ...keyless, identities: [{ issuer: 'i' }] }],
      /identities\.0: give either "subject"/,
    ],
    [
      'with two subjects in one identity',
      [{ ...keyless, identities: [{ ...identity, subjectPattern: 'x' }] }],
      /identities\.0: give either "subject"/,
    ],
    [
      'with a broken pattern',
      [{ ...keyless, identities: [{ issuer: 'i', subjectPattern: '(' }] }],
      /identities\.0: subjectPattern is no regular expression/,
    ],
    [
      'with a pattern that would leave its anchors',
      [{ ...keyless, identities: [{ issuer: 'i', subjectPattern: 'a)|(?:.*' }] }],
      /subjectPattern is no regular expression/,
    ],
    [
      'without a trusted root',
      [{ ...keyless, trustedRoot: undefined }],
      /trustedRoot: .*\n.*trusted_root\.json/,
    ],
    [
      'with another document for a trusted root',
      [{ ...keyless, trustedRoot: { mediaType: 'text/plain' } }],
      /trustedRoot: mediaType: /,
    ],
    [
      'with a root without authorities',
      [{ ...keyless, trustedRoot: { ...root, certificateAuthorities: [] } }],
      /trustedRoot: certificateAuthorities: there is none/,
    ],
    [
      'with a root that proves no time',
      [{ ...keyless, trustedRoot: { ...root, tlogs: [] } }],
      /trustedRoot: tlogs, timestampAuthorities: there is neither/,
    ],
    [
      'with a root of a broken certificate',
      [
        {
          ...keyless,
          trustedRoot: {
            ...root,
            certificateAuthorities: [{ certChain: { certificates: [{ rawBytes: 'AAAA' }] } }],
          },
        },
      ],
      /trustedRoot: certificateAuthorities\.0: /,
    ],
    [
      'with a chain that does not end in a root',
      [{ ...keyless, trustedRoot: { ...root, certificateAuthorities: [chainWithoutRoot()] } }],
      /certificateAuthorities\.0: certChain does not end in a self-signed root/,
    ],
    [
      'with a root of a broken key',
      [
        {
          ...keyless,
          trustedRoot: { ...root, tlogs: [{ publicKey: { rawBytes: 'AAAA' }, logId: { keyId: 'AAAA' } }] },
        },
      ],
      /trustedRoot: tlogs\.0: publicKey\.rawBytes is no public key/,
    ],
    [
      'with a root of a broken time',
      [{ ...keyless, trustedRoot: { ...root, ctlogs: [logWithTime('yesterday')] } }],
      /trustedRoot: ctlogs\.0: validFor\.start is no time/,
    ],
  ];
  for (const [name, data, expected] of rejected) {
    it(`${name} are rejected`, async () => {
      const text = await problems(data);
      assert.match(text, expected);
      assert.doesNotMatch(text, new RegExp(privatePem.slice(40, 60).replaceAll(/[+/]/g, '\\$&')));
    });
  }

  it('are rejected with all their problems at once', async () => {
    const text = await problems([
      { ...byKey, publicKeys: ['x', key.publicKeyPem, 'y'] },
      { ...keyless, trustedRoot: {}, identities: [{ issuer: 'i', subjectPattern: '(' }] },
    ]);
    for (const place of [
      /signers\.0.*publicKeys\.0/,
      /signers\.0.*publicKeys\.2/,
      /signers\.1.*trustedRoot/,
      /signers\.1.*identities\.0/,
    ]) {
      assert.match(text, place);
    }
  });

  it('have an id that changes with what they accept, and not with names or order', async () => {
    const id = async (...data: readonly unknown[]): Promise<string> => signerSetId(await signersOf(data));
    const base = await id(byKey, keyless);
    assert.equal(await id({ ...keyless, name: 'a' }, { ...byKey, name: 'b' }), base);
    const others = await Promise.all([
      id(byKey),
      id(keyless),
      id(byKey, { ...keyless, identities: [{ ...identity, subject: 'other' }] }),
      id(byKey, { ...keyless, identities: [{ issuer: identity.issuer, subjectPattern: identity.subject }] }),
      id(byKey, { ...keyless, trustedRoot: sigstore.trustedRoot({ ctlog: false }) }),
      id({ ...byKey, publicKeys: [makeKey('P-256').publicKeyPem] }, keyless),
      id({ ...byKey, publicKeys: [makeKey('P-384').publicKeyPem] }, keyless),
    ]);
    assert.equal(new Set([base, ...others]).size, others.length + 1);
    const narrowed = makeKey('RSA-2048').publicKeyPem;
    const wide = { ...byKey, publicKeys: [narrowed] };
    assert.notEqual(await id(wide), await id({ ...wide, algorithms: ['rsa-pss-sha256'] }));
  });
});

function pss(hashAlgorithm: string, mgf1HashAlgorithm: string): unknown {
  const { publicKey } = generateKeyPairSync('rsa-pss', {
    modulusLength: 2048,
    hashAlgorithm,
    mgf1HashAlgorithm,
  });
  return publicKey.export({ type: 'spki', format: 'pem' });
}

function chainWithoutRoot(): unknown {
  const { publicKey } = makeKey('P-256');
  const leaf = sigstore.certificate({ publicKey, subject: 's', issuer: 'i', notBefore: new Date() });
  return { certChain: { certificates: [{ rawBytes: leaf.toString('base64') }] } };
}

function logWithTime(start: string): unknown {
  const rawBytes = key.publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
  return { publicKey: { rawBytes, validFor: { start } }, logId: { keyId: 'AAAA' } };
}
