import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Signer } from '../../../../agent/fetch/signature/signer.ts';
import type { SignatureVerdict } from '../../../../agent/fetch/signature/verdict.ts';
import {
  classicPayload,
  keyBundle,
  keyKinds,
  makeKey,
  type SigningKey,
  signClassic,
  signStatement,
} from './cosign-signer.ts';
import { codesOf, type SignedImage, SignedRegistry, signersOf } from './signed-registry.ts';

type FormName = 'classic' | 'bundle by tag' | 'bundle by referrers API';

/** Signs what `digest` names with the key, and puts the signature beside the image. `alter` changes what was signed. */
type Sign = (
  image: SignedImage,
  key: SigningKey,
  digest: string,
  alter?: (bytes: Buffer) => Buffer,
) => Promise<void>;

const same = (bytes: Buffer): Buffer => bytes;
const bundleBy =
  (by: 'tag' | 'api'): Sign =>
  async (image, key, digest, alter = same) => {
    const bundle = keyBundle(key, signStatement(digest));
    const envelope = bundle['dsseEnvelope'] as { payload: string };
    const payload = alter(Buffer.from(envelope.payload, 'base64')).toString('base64');
    await image.signBundle({ ...bundle, dsseEnvelope: { ...envelope, payload } }, by);
  };

const forms: Readonly<Record<FormName, Sign>> = {
  classic: async (image, key, digest, alter = same) => {
    const signed = signClassic(key, classicPayload(digest));
    await image.signClassic({ ...signed, payload: alter(signed.payload) });
  },
  'bundle by tag': bundleBy('tag'),
  'bundle by referrers API': bundleBy('api'),
};

function bySigner(verdict: SignatureVerdict): unknown {
  return verdict.kind === 'verified'
    ? [verdict.signer, verdict.signed, verdict.signedDigest, verdict.proof.kind]
    : verdict;
}

describe('a signature by key', () => {
  let server: SignedRegistry;
  before(async () => {
    server = await SignedRegistry.start();
  });
  after(async () => server[Symbol.asyncDispose]());

  for (const kind of keyKinds) {
    const key = makeKey(kind);
    const otherKey = makeKey(kind === 'RSA-2048' || kind === 'RSA-2048 with PSS' ? 'P-256' : kind);
    const signer = async (): Promise<readonly Signer[]> =>
      signersOf([{ kind: 'key', name: 'release', publicKeys: [key.publicKeyPem] }]);

    for (const [form, sign] of Object.entries(forms)) {
      const title = `${kind}, ${form}`;

      it(`(${title}) that is good is verified`, async () => {
        const image = server.image();
        await sign(image, key, image.digest);
        const verdict = await image.verify(await signer());
        assert.deepEqual(bySigner(verdict), ['release', 'manifest', image.digest, 'key']);
        assert.equal(verdict.kind === 'verified' && verdict.form, form === 'classic' ? 'classic' : 'bundle');
      });

      it(`(${title}) of another key is refused`, async () => {
        const image = server.image();
        await sign(image, otherKey, image.digest);
        assert.ok(codesOf(await image.verify(await signer())).includes('wrong_signature'));
      });

      it(`(${title}) whose signed bytes were altered is refused`, async () => {
        const image = server.image();
        const other = server.image();
        const rename = (bytes: Buffer): Buffer =>
          Buffer.from(bytes.toString().replace(other.digest, image.digest));
        await sign(image, key, other.digest, rename);
        assert.ok(codesOf(await image.verify(await signer())).includes('wrong_signature'));
      });

      it(`(${title}) that was moved here from another image is refused`, async () => {
        const image = server.image();
        const other = server.image();
        await sign(image, key, other.digest);
        const verdict = await image.verify(await signer());
        assert.ok(codesOf(verdict).includes('other_digest'));
        const texts = verdict.kind === 'refused' ? verdict.reasons.map(({ seen }) => seen).join() : '';
        assert.match(texts, new RegExp(`signs sha256:${other.digest}, not sha256:${image.digest}`));
      });
    }
  }

  for (const [form, sign] of Object.entries(forms)) {
    it(`on an index (${form}) covers the manifest that was chosen from it`, async () => {
      const key = makeKey('P-256');
      const index = server.image();
      await sign(index, key, index.digest);
      const signers = await signersOf([{ kind: 'key', name: 'release', publicKeys: [key.publicKeyPem] }]);
      const chain = { indexDigests: ['f'.repeat(64), index.digest], manifestDigest: 'a'.repeat(64) };
      const verdict = await server.verify(index.repository, chain, signers);
      assert.deepEqual(bySigner(verdict), ['release', 'index', index.digest, 'key']);
    });

    it(`on the manifest (${form}) suffices where the index has none`, async () => {
      const key = makeKey('P-256');
      const image = server.image();
      await sign(image, key, image.digest);
      const signers = await signersOf([{ kind: 'key', name: 'release', publicKeys: [key.publicKeyPem] }]);
      const chain = { indexDigests: ['f'.repeat(64)], manifestDigest: image.digest };
      const verdict = await server.verify(image.repository, chain, signers);
      assert.deepEqual(bySigner(verdict), ['release', 'manifest', image.digest, 'key']);
    });

    it(`on an index (${form}) says nothing about a manifest that was not chosen from it`, async () => {
      const key = makeKey('P-256');
      const image = server.image();
      await sign(image, key, image.digest);
      const signers = await signersOf([{ kind: 'key', name: 'release', publicKeys: [key.publicKeyPem] }]);
      const chain = { indexDigests: [], manifestDigest: 'b'.repeat(64) };
      assert.deepEqual(codesOf(await server.verify(image.repository, chain, signers)), [
        'unsigned',
        'unsigned',
      ]);
    });
  }

  it('names the key and what the signer called the image', async () => {
    const key = makeKey('P-256');
    const image = server.image();
    await image.signClassic(signClassic(key, classicPayload(image.digest, 'registry.test/other\nname')));
    const signers = await signersOf([{ kind: 'key', name: 'release', publicKeys: [key.publicKeyPem] }]);
    const verdict = await image.verify(signers);
    assert.ok(verdict.kind === 'verified');
    assert.equal(verdict.claimedReference, String.raw`registry.test/other\nname`);
    const [signer] = signers;
    assert.ok(signer?.kind === 'key');
    assert.deepEqual(verdict.proof, { kind: 'key', keyId: signer.keys[0]?.id });
  });

  it('is taken from any of several signers and keys', async () => {
    const [first, second, third] = [makeKey('P-256'), makeKey('Ed25519'), makeKey('P-384')];
    const image = server.image();
    await image.signClassic(signClassic(third, classicPayload(image.digest)));
    const signers = await signersOf([
      { kind: 'key', name: 'one', publicKeys: [first.publicKeyPem] },
      { kind: 'key', name: 'two', publicKeys: [second.publicKeyPem + third.publicKeyPem] },
    ]);
    assert.deepEqual(bySigner(await image.verify(signers)), ['two', 'manifest', image.digest, 'key']);
  });

  it('made in a way that the signer does not allow is refused', async () => {
    const key = makeKey('RSA-2048 with PSS');
    const image = server.image();
    await image.signClassic(signClassic(key, classicPayload(image.digest)));
    const verifyWith = async (algorithm: string): Promise<readonly string[]> =>
      codesOf(
        await image.verify(
          await signersOf([
            { kind: 'key', name: 'x', publicKeys: [key.publicKeyPem], algorithms: [algorithm] },
          ]),
        ),
      );
    assert.deepEqual(await verifyWith('rsa-pss-sha256'), ['verified']);
    assert.deepEqual(await verifyWith('rsa-pkcs1-sha256'), ['wrong_signature', 'unsigned']);
  });

  it('is not taken from an attestation, though the signer made it', async () => {
    const key = makeKey('P-256');
    const image = server.image();
    const signers = await signersOf([{ kind: 'key', name: 'release', publicKeys: [key.publicKeyPem] }]);
    await image.signBundle(keyBundle(key, signStatement(image.digest, 'https://slsa.dev/provenance/v1')));
    assert.ok(codesOf(await image.verify(signers)).includes('other_kind'));
    await image.signBundle(keyBundle(key, signStatement(image.digest), 'text/plain'));
    assert.ok(codesOf(await image.verify(signers)).includes('other_kind'));
    const payload = Buffer.from(
      classicPayload(image.digest).toString().replace('cosign container image signature', 'atomic'),
    );
    await image.signClassic(signClassic(key, payload));
    assert.ok(codesOf(await image.verify(signers)).includes('other_kind'));
  });
});
