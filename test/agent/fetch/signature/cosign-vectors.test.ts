import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { codesOf, SignedRegistry, signersOf } from './signed-registry.ts';

/** What cosign itself put into a registry: see `madeBy` in the file. */
interface Vector {
  readonly name: string;
  readonly publicKey: string;
  readonly digest: string;
  /** Text by tag or digest. */
  readonly manifests: Readonly<Record<string, string>>;
  readonly blobs: Readonly<Record<string, string>>;
}

const file = new URL('vectors/cosign-3.1.3.json', import.meta.url);
const vectors = (JSON.parse(readFileSync(file, 'utf8')) as { signatures: readonly Vector[] }).signatures;

describe('a signature that cosign made', () => {
  let server: SignedRegistry;
  before(async () => {
    server = await SignedRegistry.start();
  });
  after(async () => server[Symbol.asyncDispose]());

  async function verify(vector: Vector, publicKey: string): Promise<readonly string[]> {
    const { repository } = server.image();
    for (const [name, text] of Object.entries(vector.manifests)) {
      const { mediaType, ...document } = JSON.parse(text) as { mediaType: string };
      const stored = server.registry.putManifest(repository, mediaType, JSON.parse(text));
      // Otherwise the bytes are not those that cosign wrote.
      if (name.startsWith('sha256:')) assert.equal(stored.digest, name, JSON.stringify(document));
      else server.registry.setTag(repository, name, stored.digest);
    }
    for (const [digest, text] of Object.entries(vector.blobs)) {
      const content = { kind: 'bytes', bytes: Buffer.from(text) } as const;
      assert.equal((await server.registry.putBlob(repository, { mediaType: '', content })).digest, digest);
    }
    const signers = await signersOf([{ kind: 'key', name: 'release', publicKeys: [publicKey] }]);
    return codesOf(
      await server.verify(repository, { indexDigests: [], manifestDigest: vector.digest }, signers),
    );
  }

  for (const vector of vectors.filter(({ name }) => !name.startsWith('Ed25519ph'))) {
    it(`(${vector.name}) is verified, and not by another key`, async () => {
      assert.deepEqual(await verify(vector, vector.publicKey), ['verified']);
      const other = vectors.find(({ publicKey }) => publicKey !== vector.publicKey)?.publicKey ?? '';
      assert.ok((await verify(vector, other)).includes('wrong_signature'));
    });
  }

  for (const vector of vectors.filter(({ name }) => name.startsWith('Ed25519ph'))) {
    it(`(${vector.name}) is refused: node cannot verify the pre-hashed kind`, async () => {
      assert.ok((await verify(vector, vector.publicKey)).includes('wrong_signature'));
    });
  }
});
