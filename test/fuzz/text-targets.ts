import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { parseModuleUrl } from '../../agent/fetch/module-url.ts';
import { parseChallenges } from '../../agent/fetch/oci/challenge.ts';
import { parseOciReference, referenceText } from '../../agent/fetch/oci/reference.ts';
import { type FuzzTarget, hasCode } from './fuzz-target.ts';

/** Text of pieces that mean something to a parser, with noise between them. */
function textOf(pieces: readonly string[], maxLength: number): fc.Arbitrary<string> {
  const piece = fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(...pieces) },
    { weight: 2, arbitrary: fc.string({ maxLength: 6 }) },
    { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 3 }) },
  );
  return fc.array(piece, { maxLength }).map((parts) => parts.join(''));
}

const referencePieces = [
  [
    'reg.test',
    'docker.io',
    'index.docker.io',
    'localhost',
    '127.0.0.1',
    '[::1]',
    '[::',
    '1.2.3.256',
    '0x7f.1',
  ],
  ['/', '//', ':', '@', '.', '..', '-', '_', '__', '%2f', '%', '#', '?', '\\', '\n', ' ', 'Ä', 'xn--'],
  [':80', ':65536', ':99999', ':0', 'library', 'team', 'plugin', 'v1', 'latest', 'UPPER'],
  ['sha256:', `sha256:${'a'.repeat(64)}`, `@sha256:${'0'.repeat(64)}`, 'sha512:', 'a'.repeat(130)],
].flat();

/** References are read or refused, and what is read is safe in a URL and reads the same again. */
export const referenceTarget: FuzzTarget = {
  name: 'reference',
  property: fc.asyncProperty(textOf(referencePieces, 10), async (text) => {
    let reference: ReturnType<typeof parseOciReference>;
    try {
      reference = parseOciReference(text);
    } catch (error) {
      assert.ok(hasCode(error, ['bad_url']), String(error));
      return;
    }
    const { registry, repository, tag } = reference;
    const url = new URL(`https://${registry}/v2/${repository}/manifests/${tag}`);
    assert.equal(url.pathname, `/v2/${repository}/manifests/${tag}`);
    assert.deepEqual([url.username, url.password, url.search, url.hash], ['', '', '', '']);
    const again = parseOciReference(referenceText(reference));
    assert.deepEqual({ ...again, tag: '' }, { ...reference, tag: '' });
    // Without a path, what follows an "@" may be a digest.
    if (!/^[^@]*\//.test(text)) return;
    const module = parseModuleUrl(`oci://user:secret@${text}`);
    assert.ok(module.kind === 'oci');
    assert.ok(!module.display.includes('secret') || text.includes('secret'));
  }),
};

const challengePieces = [
  ['Bearer', 'Basic', 'basic', 'Negotiate', 'NTLM', 'realm', 'service', 'scope', 'error', 'charset'],
  ['=', ' = ', ',', ', ', ' ', '\t', '"', '\\', '\\"', '""', ';', ':', '/', '==', 'abc==', 'YWJj'],
  ['realm="https://auth.test/token"', 'scope="repository:p:pull"', 'Bearer realm="x"', ',,,'],
].flat();

const schemeOrName = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;

/** Headers are read without a throw and within bounds; what is written by the rules is read back among any noise. */
export const challengeTarget: FuzzTarget = {
  name: 'challenge',
  property: fc.asyncProperty(
    fc.array(textOf(challengePieces, 40), { maxLength: 4 }),
    fc.string({ maxLength: 40 }),
    async (headers, realm) => {
      const challenges = parseChallenges(headers);
      assert.ok(challenges.length <= 16);
      for (const { scheme, parameters } of challenges) {
        assert.match(scheme, schemeOrName);
        for (const name of parameters.keys()) assert.match(name, schemeOrName);
      }
      const written = `Bearer realm="${realm.replaceAll(/["\\]/g, '\\$&')}", service=s`;
      const [first] = parseChallenges([written, ...headers]);
      assert.deepEqual(
        [first?.scheme, ...(first?.parameters ?? [])],
        ['bearer', ['realm', realm], ['service', 's']],
      );
    },
  ),
};
