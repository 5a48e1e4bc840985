import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { checkBundle } from '../../../../agent/fetch/signature/bundle.ts';
import type { Checker } from '../../../../agent/fetch/signature/checker.ts';
import { KeylessVerifier } from '../../../../agent/fetch/signature/keyless.ts';
import { isSignedBy, parsePublicKeys } from '../../../../agent/fetch/signature/public-key.ts';
import { parseSigners } from '../../../../agent/fetch/signature/signer.ts';
import { checkClassic } from '../../../../agent/fetch/signature/simple-signing.ts';
import { statementFault } from '../../../../agent/fetch/signature/statement.ts';
import { parseTrustedRoot } from '../../../../agent/fetch/signature/trusted-root.ts';
import { describeReasons, printable } from '../../../../agent/fetch/signature/verdict.ts';
import { decodeBase64, decodeJson } from '../../../../agent/fetch/signature/wire-text.ts';
import {
  classicPayload,
  keyBundle,
  keyKinds,
  keylessBundle,
  makeKey,
  signClassicKeyless,
  signStatement,
} from './cosign-signer.ts';
import { PrivateSigstore } from './private-sigstore.ts';
import { signersOf } from './signed-registry.ts';

const seeded = { seed: 7, numRuns: 200 };
const digest = 'd'.repeat(64);
const identity = { issuer: 'https://issuer.test', subject: 'https://subject.test' };

async function checkers(
  sigstore: PrivateSigstore,
  publicKeyPem: string,
): Promise<readonly [Checker, Checker]> {
  const signers = await signersOf([
    { kind: 'key', name: 'release', publicKeys: [publicKeyPem] },
    { kind: 'keyless', name: 'ci', trustedRoot: sigstore.trustedRoot(), identities: [identity] },
  ]);
  const [byKey, keyless] = signers;
  assert.ok(byKey?.kind === 'key' && keyless?.kind === 'keyless');
  return [
    { kind: 'key', signer: byKey },
    { kind: 'keyless', verifier: new KeylessVerifier(keyless) },
  ];
}

/** The paths of all values in a document. */
function pathsOf(value: unknown, path: readonly string[] = []): readonly (readonly string[])[] {
  if (typeof value !== 'object' || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([key, field]) => pathsOf(field, [...path, key]))];
}

/** A copy of the document with another value at a path. */
function replaceAt(value: unknown, [first, ...rest]: readonly string[], replacement: unknown): unknown {
  if (first === undefined) return replacement;
  if (Array.isArray(value))
    return value.map((each, index) => (String(index) === first ? replaceAt(each, rest, replacement) : each));
  const object = value as Readonly<Record<string, unknown>>;
  return { ...object, [first]: replaceAt(object[first], rest, replacement) };
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce((at: unknown, key) => (at as Record<string, unknown>)[key], value);
}

describe('against garbage', () => {
  it('base64 is exactly what is written back, and JSON is never half read', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.base64String(),
          fc.uint8Array().map((bytes) => Buffer.from(bytes).toString('base64')),
        ),
        (text) => {
          const bytes = decodeBase64(text);
          if (bytes !== undefined)
            assert.equal(Buffer.from(bytes.toString('base64'), 'base64').compare(bytes), 0);
          if (text !== '' && Buffer.from(text, 'base64').toString('base64') === text)
            assert.ok(bytes !== undefined);
        },
      ),
      seeded,
    );
    fc.assert(
      fc.property(fc.json(), (text) => assert.deepEqual(decodeJson(Buffer.from(text)), JSON.parse(text))),
      seeded,
    );
    for (const bytes of [Buffer.from('{"a":'), Buffer.from([0x22, 0xff, 0x22]), Buffer.alloc(0)])
      assert.equal(decodeJson(bytes), undefined);
  });

  it('printed texts are one line of bounded length', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 1000 }), (text) => {
        const printed = printable(text, 50);
        // A character may take six.
        assert.ok(printed.length <= 50 * 6 + 3);
        // oxlint-disable-next-line no-control-regex -- these are what must not be there
        assert.doesNotMatch(printed, /[\u0000-\u001f]/);
      }),
      seeded,
    );
  });

  it('keys, signers and trusted roots are rejected with a reason, never thrown at', async () => {
    const block = fc.tuple(
      fc.constantFrom('PUBLIC KEY', 'RSA PUBLIC KEY', 'X'),
      fc.uint8Array({ maxLength: 200 }),
    );
    const pemText = block.map(
      ([label, bytes]) =>
        `-----BEGIN ${label}-----\n${Buffer.from(bytes).toString('base64')}\n-----END ${label}-----\n`,
    );
    fc.assert(
      fc.property(fc.oneof(fc.string(), pemText), (text) => {
        const parsed = parsePublicKeys(text, undefined);
        assert.ok(parsed.kind === 'rejected' && parsed.problem !== '');
      }),
      seeded,
    );
    const nearly = fc.record(
      {
        kind: fc.constantFrom('key', 'keyless'),
        name: fc.string(),
        publicKeys: fc.array(fc.string()),
        trustedRoot: fc.anything(),
        identities: fc.anything(),
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.anything(), fc.array(nearly, { minLength: 1 })), async (data) => {
        const parsed = await parseSigners(data);
        if (parsed.kind === 'parsed') assert.deepEqual(data, []);
        else assert.ok(parsed.problems.length > 0);
      }),
      seeded,
    );
    const root = new PrivateSigstore().trustedRoot({ timestampAuthority: true });
    const paths = pathsOf(root).filter((path) => path.length > 0);
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...paths), fc.anything(), async (path, replacement) => {
        const parsed = await parseTrustedRoot(replaceAt(root, path, replacement));
        if (parsed.kind === 'rejected') assert.ok(parsed.problems.every((problem) => problem !== ''));
      }),
      seeded,
    );
  });

  it('signatures of any bytes are not taken, for any kind of key', () => {
    for (const kind of keyKinds) {
      const key = makeKey(kind);
      const parsed = parsePublicKeys(key.publicKeyPem, undefined);
      const [signerKey] = parsed.kind === 'parsed' ? parsed.keys : [];
      assert.ok(signerKey);
      const data = Buffer.from('data');
      const good = key.sign(data);
      assert.ok(isSignedBy(signerKey, data, good));
      fc.assert(
        fc.property(
          fc.oneof(
            fc.uint8Array({ maxLength: 300 }),
            fc
              .tuple(fc.nat(good.byteLength - 1), fc.integer({ min: 1, max: 255 }))
              .map(([at, flip]) =>
                Uint8Array.from(good, (byte, index) => (index === at ? byte ^ flip : byte)),
              ),
          ),
          (signature) => !isSignedBy(signerKey, data, signature),
        ),
        { seed: 7, numRuns: 50 },
      );
    }
  });

  it('a key that is for PSS alone takes what it signed', () => {
    const options = { modulusLength: 2048, hashAlgorithm: 'sha256', mgf1HashAlgorithm: 'sha256' };
    const { privateKey, publicKey } = generateKeyPairSync('rsa-pss', options);
    const parsed = parsePublicKeys(publicKey.export({ type: 'spki', format: 'pem' }).toString(), undefined);
    const [signerKey] = parsed.kind === 'parsed' ? parsed.keys : [];
    assert.ok(signerKey);
    const data = Buffer.from('data');
    assert.ok(isSignedBy(signerKey, data, sign('sha256', data, privateKey)));
    assert.ok(!isSignedBy(signerKey, Buffer.from('date'), sign('sha256', data, privateKey)));
  });

  it('statements and payloads of any bytes have a fault', async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.json(), fc.string()), async (text) => {
        assert.ok(
          (await statementFault('application/vnd.in-toto+json', Buffer.from(text), digest)) !== undefined,
        );
      }),
      seeded,
    );
    const key = makeKey('P-256');
    const [checker] = await checkers(new PrivateSigstore(), key.publicKeyPem);
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.json(), fc.string()), async (text) => {
        const payload = Buffer.from(text);
        const check = await checkClassic(
          { where: 'here', payload, signature: key.sign(payload), annotations: {} },
          digest,
          checker,
        );
        assert.ok(check.kind === 'bad' && describeReasons([check.reason]).length < 1000);
      }),
      seeded,
    );
  });

  it('bundles with anything in any place are refused with a reason, or still say the same', async () => {
    const sigstore = new PrivateSigstore();
    const key = makeKey('P-256');
    const [byKey, byIdentity] = await checkers(sigstore, key.publicKeyPem);
    const bundles = [
      { checker: byKey, bundle: keyBundle(key, signStatement(digest)) },
      { checker: byIdentity, bundle: keylessBundle({ sigstore, ...identity }, signStatement(digest)) },
    ];
    for (const { bundle, checker } of bundles) {
      assert.equal((await checkBundle({ where: 'here', bundle }, digest, checker)).kind, 'good');
      const paths = pathsOf(bundle);
      const replacement = fc.oneof(
        fc.anything(),
        fc.base64String(),
        fc.constantFrom(...paths.map((path) => valueAt(bundle, path))),
      );
      await fc.assert(
        fc.asyncProperty(fc.constantFrom(...paths), replacement, async (path, value) => {
          const changed = replaceAt(bundle, path, value);
          const check = await checkBundle({ where: 'here', bundle: changed }, digest, checker);
          if (check.kind === 'bad') assert.ok(check.reason.seen !== '' && check.reason.advice !== '');
          // What is signed cannot have changed.
          else
            assert.deepEqual(
              valueAt(changed, ['dsseEnvelope', 'payload']),
              valueAt(bundle, ['dsseEnvelope', 'payload']),
            );
        }),
        seeded,
      );
    }
  });

  it('classic signatures with anything in any annotation are refused with a reason, or still say the same', async () => {
    const sigstore = new PrivateSigstore();
    const [, checker] = await checkers(sigstore, makeKey('P-256').publicKeyPem);
    const { annotations, payload } = signClassicKeyless({ sigstore, ...identity }, classicPayload(digest));
    const signature = Buffer.from(annotations['dev.cosignproject.cosign/signature'] ?? '', 'base64');
    const found = { where: 'here', payload, signature, annotations };
    assert.equal((await checkClassic(found, digest, checker)).kind, 'good');
    const entry: unknown = JSON.parse(annotations['dev.sigstore.cosign/bundle'] ?? '');
    const changedEntry = fc
      .tuple(fc.constantFrom(...pathsOf(entry)), fc.oneof(fc.jsonValue(), fc.base64String()))
      .map(([path, value]) => JSON.stringify(replaceAt(entry, path, value)));
    const changed = fc.oneof(
      fc.tuple(fc.constantFrom(...Object.keys(annotations)), fc.oneof(fc.string(), fc.json())),
      fc.tuple(fc.constant('dev.sigstore.cosign/bundle'), changedEntry),
    );
    const harmless: readonly string[] = ['dev.sigstore.cosign/chain', 'dev.cosignproject.cosign/signature'];
    await fc.assert(
      fc.asyncProperty(changed, async ([name, value]) => {
        const check = await checkClassic(
          { ...found, annotations: { ...annotations, [name]: value } },
          digest,
          checker,
        );
        if (harmless.includes(name)) assert.equal(check.kind, 'good');
        else if (check.kind === 'good') assert.deepEqual(JSON.parse(value), entry);
        else assert.ok(check.reason.seen !== '' && check.reason.advice !== '');
      }),
      seeded,
    );
  });
});
