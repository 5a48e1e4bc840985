import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { parseOciReference, referenceText, repositoryName } from '../../../../agent/fetch/oci/reference.ts';

const hex = '0123456789abcdef'.repeat(4);

describe('an OCI reference', () => {
  const good: readonly (readonly [string, string, string, string, string | undefined])[] = [
    ['foo', 'index.docker.io', 'library/foo', 'latest', undefined],
    ['foo:v1', 'index.docker.io', 'library/foo', 'v1', undefined],
    ['foo:5000', 'index.docker.io', 'library/foo', '5000', undefined],
    ['team/foo:v1', 'index.docker.io', 'team/foo', 'v1', undefined],
    ['docker.io/foo', 'index.docker.io', 'library/foo', 'latest', undefined],
    ['index.docker.io/a/b/c', 'index.docker.io', 'a/b/c', 'latest', undefined],
    ['localhost/foo', 'index.docker.io', 'localhost/foo', 'latest', undefined],
    ['localhost:5000/foo', 'localhost:5000', 'foo', 'latest', undefined],
    ['reg.test/foo', 'reg.test', 'foo', 'latest', undefined],
    ['Reg.Test:443/a/foo:V_1.0-x', 'Reg.Test:443', 'a/foo', 'V_1.0-x', undefined],
    ['[::1]:5000/foo', '[::1]:5000', 'foo', 'latest', undefined],
    [`reg.test/foo@sha256:${hex}`, 'reg.test', 'foo', 'latest', hex],
    [`reg.test:5000/foo:v1@sha256:${hex}`, 'reg.test:5000', 'foo', 'v1', hex],
  ];
  for (const [text, registry, repository, tag, digest] of good) {
    it(`${text} is read`, () => {
      assert.deepEqual(parseOciReference(text), { registry, repository, tag, digest });
    });
  }

  const bad: readonly (readonly [string, RegExp])[] = [
    ['', /repository/],
    ['reg.test/', /repository/],
    ['reg.test/Foo', /lower-case/],
    ['reg.test/a//b', /repository/],
    ['reg.test/../etc', /repository/],
    ['reg.test/a/./b', /repository/],
    ['reg.test/foo:', /tag/],
    [`reg.test/foo:${'x'.repeat(129)}`, /tag/],
    [`reg.test/${'x'.repeat(256)}`, /repository/],
    ['reg.test/foo@sha256:abc', /digest/],
    [`reg.test/foo@sha256:${hex.toUpperCase()}`, /digest/],
    [`reg.test/foo@sha512:${hex}${hex}`, /digest/],
    ['reg_.test:x/foo', /registry host/],
    ['reg.test:port/foo', /registry host/],
    ['re g.test/foo', /registry host/],
    ['reg.test/foo%2f', /repository/],
    ['reg.test:99999/foo', /registry host/],
    ['1.2.3.256/foo', /registry host/],
    ['[::::]/foo', /registry host/],
  ];
  for (const [text, reason] of bad) {
    it(`${JSON.stringify(text.slice(0, 40))} is refused with a reason`, () => {
      assert.throws(() => parseOciReference(text), {
        name: 'FetchError',
        code: 'bad_url',
        result: 'manifest_failure',
        message: reason,
      });
    });
  }

  it('is written so that reading it again gives the same', () => {
    const part = fc.stringMatching(/^[a-z0-9][a-z0-9_.-]{0,8}$/);
    const arbitrary = fc.record({
      registry: fc.option(fc.constantFrom('reg.test', 'localhost:5000', '10.0.0.1:80', 'docker.io'), {
        nil: undefined,
      }),
      // A first part with a dot would be a registry.
      path: fc
        .tuple(fc.stringMatching(/^[a-z0-9][a-z0-9_-]{0,8}$/), fc.array(part, { maxLength: 3 }))
        .map(([first, rest]) => [first, ...rest]),
      tag: fc.option(fc.stringMatching(/^\w[\w.-]{0,20}$/), { nil: undefined }),
      digest: fc.option(fc.stringMatching(/^[0-9a-f]{64}$/), { nil: undefined }),
    });
    fc.assert(
      fc.property(arbitrary, ({ registry, path, tag, digest }) => {
        const name = [...(registry === undefined ? [] : [registry]), ...path].join('/');
        const text = `${name}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@sha256:${digest}`}`;
        const reference = parseOciReference(text);
        assert.equal(reference.tag, tag ?? 'latest');
        assert.equal(reference.digest, digest);
        const again = parseOciReference(referenceText(reference));
        assert.deepEqual({ ...again, tag: '' }, { ...reference, tag: '' });
        assert.equal(repositoryName(again), repositoryName(reference));
        assert.doesNotMatch(repositoryName(reference), /@|\/\.\.?(?:\/|$)|:\/\/.*\/.*:/);
      }),
      { seed: 7, numRuns: 300 },
    );
  });

  it('of any text is read or refused, and what is read is safe in a URL path', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 60 }), (text) => {
        let reference: ReturnType<typeof parseOciReference>;
        try {
          reference = parseOciReference(text);
        } catch (error) {
          assert.equal((error as { code: string }).code, 'bad_url');
          return;
        }
        const url = new URL(`https://reg.test/v2/${reference.repository}/manifests/${reference.tag}`);
        assert.equal(url.pathname, `/v2/${reference.repository}/manifests/${reference.tag}`);
      }),
      { seed: 7, numRuns: 1000 },
    );
  });
});
