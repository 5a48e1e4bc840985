import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { RefusalCode } from '../../../../agent/fetch/signature/verdict.ts';
import {
  classicPayload,
  type KeylessOptions,
  keyBundle,
  keylessBundle,
  makeKey,
  signClassic,
  signClassicKeyless,
  signStatement,
} from './cosign-signer.ts';
import { PrivateSigstore, type RootOptions } from './private-sigstore.ts';
import { codesOf, type SignedImage, SignedRegistry, signersOf } from './signed-registry.ts';

const subject = 'https://git.test/team/plugin/.github/workflows/release.yml@refs/heads/main';
const issuer = 'https://token.git.test';
const dayMs = 24 * 60 * 60 * 1000;

const forms = {
  classic: async (image: SignedImage, options: KeylessOptions, digest: string): Promise<void> =>
    image.signClassic(signClassicKeyless(options, classicPayload(digest))),
  bundle: async (image: SignedImage, options: KeylessOptions, digest: string): Promise<void> =>
    image.signBundle(keylessBundle(options, signStatement(digest))),
};

const sigstore = new PrivateSigstore();
const stranger = new PrivateSigstore();

interface Case {
  readonly name: string;
  readonly signing?: Partial<KeylessOptions>;
  readonly root?: RootOptions;
  readonly identity?: Record<string, string>;
  readonly expected: RefusalCode | 'verified';
}

const cases: readonly Case[] = [
  { name: 'that is good is verified', expected: 'verified' },
  {
    name: 'of a certificate that has long expired is verified: it was valid then',
    signing: { at: new Date(Date.now() - 30 * dayMs) },
    expected: 'verified',
  },
  {
    name: 'made after its certificate expired is refused',
    signing: { signedAfterMs: 11 * 60 * 1000 },
    expected: 'expired',
  },
  {
    name: 'made before its certificate began is refused',
    signing: { signedAfterMs: -60_000 },
    expected: 'expired',
  },
  { name: 'of another subject is refused', signing: { subject: `${subject}x` }, expected: 'wrong_identity' },
  { name: 'of another issuer is refused', signing: { issuer: `${issuer}/x` }, expected: 'wrong_identity' },
  {
    name: 'whose subject matches the pattern is verified',
    identity: { issuer, subjectPattern: String.raw`https://git\.test/team/.*@refs/heads/main` },
    expected: 'verified',
  },
  {
    name: 'whose subject matches only in part is refused',
    identity: { issuer, subjectPattern: String.raw`https://git\.test/team/` },
    expected: 'wrong_identity',
  },
  { name: 'of another Sigstore is refused', signing: { sigstore: stranger }, expected: 'wrong_certificate' },
  {
    name: 'whose certificate is not for code signing is refused',
    signing: { isForCodeSigning: false },
    expected: 'wrong_certificate',
  },
  {
    name: 'whose certificate is in no certificate log is refused',
    signing: { isInCertificateLog: false },
    expected: 'wrong_certificate',
  },
  {
    name: 'whose certificate is in no certificate log is verified under a root without one',
    signing: { isInCertificateLog: false },
    root: { ctlog: false },
    expected: 'verified',
  },
  { name: 'without any proof of time is refused', signing: { proofs: [] }, expected: 'unproven_time' },
  {
    name: 'with a timestamp alone is refused under a root with a log',
    signing: { proofs: ['timestamp'] },
    root: { timestampAuthority: true },
    expected: 'wrong_certificate',
  },
  {
    name: 'with a timestamp alone is verified under a root with timestamps and no log',
    signing: { proofs: ['timestamp'] },
    root: { timestampAuthority: true, tlog: false },
    expected: 'verified',
  },
  {
    name: 'with a late timestamp is refused',
    signing: { proofs: ['timestamp'], signedAfterMs: 11 * 60 * 1000 },
    root: { timestampAuthority: true, tlog: false },
    expected: 'expired',
  },
  {
    name: 'with a log entry and a timestamp is verified',
    signing: { proofs: ['log', 'timestamp'] },
    root: { timestampAuthority: true },
    expected: 'verified',
  },
  {
    name: 'with a timestamp of a stranger is refused',
    signing: { proofs: ['log', 'timestamp'] },
    expected: 'wrong_certificate',
  },
];

describe('a signature by identity', () => {
  let server: SignedRegistry;
  before(async () => {
    server = await SignedRegistry.start();
  });
  after(async () => server[Symbol.asyncDispose]());

  async function signers(each: Pick<Case, 'root' | 'identity'> = {}): ReturnType<typeof signersOf> {
    const identities = [each.identity ?? { issuer, subject }];
    return signersOf([
      { kind: 'keyless', name: 'ci', trustedRoot: sigstore.trustedRoot(each.root), identities },
    ]);
  }

  for (const [form, sign] of Object.entries(forms)) {
    for (const each of cases) {
      it(`(${form}) ${each.name}`, async () => {
        const image = server.image();
        await sign(image, { sigstore, subject, issuer, ...each.signing }, image.digest);
        const verdict = await image.verify(await signers(each));
        if (each.expected !== 'verified') {
          assert.ok(codesOf(verdict).includes(each.expected), JSON.stringify(verdict));
          return;
        }
        assert.ok(verdict.kind === 'verified', JSON.stringify(verdict));
        assert.deepEqual(verdict.proof, { kind: 'keyless', issuer, subject });
        assert.equal(verdict.form, form);
      });
    }

    it(`(${form}) that was moved here from another image is refused`, async () => {
      const image = server.image();
      await sign(image, { sigstore, subject, issuer }, server.image().digest);
      assert.ok(codesOf(await image.verify(await signers())).includes('other_digest'));
    });

    it(`(${form}) on an index covers the manifest that was chosen from it`, async () => {
      const index = server.image();
      await sign(index, { sigstore, subject, issuer }, index.digest);
      const chain = { indexDigests: [index.digest], manifestDigest: 'a'.repeat(64) };
      const verdict = await server.verify(index.repository, chain, await signers());
      assert.equal(verdict.kind === 'verified' && verdict.signed, 'index');
    });
  }

  it('(classic) whose payload was altered is refused', async () => {
    const image = server.image();
    const other = server.image();
    const signed = signClassicKeyless({ sigstore, subject, issuer }, classicPayload(other.digest));
    await image.signClassic({ ...signed, payload: classicPayload(image.digest) });
    assert.equal(codesOf(await image.verify(await signers()))[0], 'wrong_certificate');
  });

  it('(classic) of a P-384 key is verified', async () => {
    const image = server.image();
    const options = { sigstore, subject, issuer, key: makeKey('P-384'), proofs: ['timestamp'] as const };
    await image.signClassic(signClassicKeyless(options, classicPayload(image.digest)));
    assert.deepEqual(
      codesOf(await image.verify(await signers({ root: { tlog: false, timestampAuthority: true } }))),
      ['verified'],
    );
  });

  it('(bundle) whose payload was altered is refused', async () => {
    const image = server.image();
    const bundle = keylessBundle(
      { sigstore, subject, issuer, proofs: ['timestamp'] },
      signStatement(server.image().digest),
    );
    const payload = signStatement(image.digest).toString('base64');
    await image.signBundle({ ...bundle, dsseEnvelope: { ...(bundle['dsseEnvelope'] as object), payload } });
    const codes = codesOf(
      await image.verify(await signers({ root: { tlog: false, timestampAuthority: true } })),
    );
    assert.ok(codes.includes('wrong_signature'), codes.join());
  });

  it('(bundle) with the log entry of another signature is refused', async () => {
    const image = server.image();
    const make = (): Record<string, unknown> =>
      keylessBundle({ sigstore, subject, issuer }, signStatement(image.digest));
    const one = make();
    const { certificate } = one['verificationMaterial'] as { certificate: unknown };
    const { tlogEntries } = make()['verificationMaterial'] as { tlogEntries: unknown };
    await image.signBundle({ ...one, verificationMaterial: { certificate, tlogEntries } });
    assert.ok(codesOf(await image.verify(await signers())).includes('wrong_certificate'));
  });

  it('is not found in a signature by key, in either form', async () => {
    const image = server.image();
    const key = makeKey('P-256');
    await image.signClassic(signClassic(key, classicPayload(image.digest)));
    await image.signBundle(keyBundle(key, signStatement(image.digest)));
    assert.deepEqual(codesOf(await image.verify(await signers())), ['wrong_signature', 'wrong_signature']);
  });

  it('with proofs that cannot be read is refused and the annotation named', async () => {
    for (const annotation of ['certificate', 'bundle', 'rfc3161timestamp']) {
      const image = server.image();
      const signed = signClassicKeyless({ sigstore, subject, issuer }, classicPayload(image.digest));
      await image.signClassic({
        ...signed,
        annotations: { ...signed.annotations, [`dev.sigstore.cosign/${annotation}`]: '{"x":1}' },
      });
      const verdict = await image.verify(await signers());
      assert.ok(verdict.kind === 'refused');
      assert.equal(verdict.reasons[0]?.code, 'malformed');
      assert.match(verdict.reasons[0].seen, new RegExp(annotation));
    }
  });

  it('is taken beside a signer by key, whichever is listed first', async () => {
    const image = server.image();
    await image.signBundle(keylessBundle({ sigstore, subject, issuer }, signStatement(image.digest)));
    const byKey = await signersOf([
      { kind: 'key', name: 'release', publicKeys: [makeKey('P-256').publicKeyPem] },
    ]);
    const byIdentity = await signers();
    assert.deepEqual(codesOf(await image.verify([...byKey, ...byIdentity])), ['verified']);
    assert.deepEqual(codesOf(await image.verify([...byIdentity, ...byKey])), ['verified']);
  });
});
