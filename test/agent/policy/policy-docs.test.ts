import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { decideModule } from '../../../agent/policy/policy.ts';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { policyOf, problemsOf } from './policy-fixture.ts';
import { publicKeyPem, trustedRootJson } from './signer-fixture.ts';

const fromRoot = (path: string): string => fileURLToPath(new URL(`../../../${path}`, import.meta.url));

const page = await readFile(fromRoot('docs/policy.md'), 'utf8');
const examples = [...page.matchAll(/```yaml\n([^]*?)```/g)].map(([, text = '']) => text);

const authority = Authority.createRoot();
const client = authority.issue(['client.test']);
/** The files that the examples name. */
const others = {
  'release.pub': publicKeyPem,
  'trusted_root.json': trustedRootJson(),
  'corp-ca.pem': authority.certificate,
  'client.pem': client.certificate,
  'client.key': client.key,
  'auth.json': '{"auths":{}}',
  'preloaded/oci-layout': '{"imageLayoutVersion":"1.0.0"}',
};

/** The parts of a JSON schema that say which keys there are. */
interface SchemaPart {
  readonly properties?: Readonly<Record<string, SchemaPart>>;
  readonly items?: SchemaPart;
  readonly additionalProperties?: SchemaPart | false;
}

function keysOf({ properties = {}, items, additionalProperties }: SchemaPart): string[] {
  const inner = [...Object.values(properties), items, additionalProperties];
  return [...Object.keys(properties), ...inner.flatMap((part) => (part ? keysOf(part) : []))];
}

describe('the page on the policy file', () => {
  test('has examples', () => assert.ok(examples.length >= 5));

  for (const [index, text] of examples.entries()) {
    test(`has a good example ${index + 1}`, async () => {
      await policyOf(text, others);
    });
  }

  test('points to a sample that is good as it is', async () => {
    assert.ok(page.includes('](../deploy/policy.sample.yaml)'));
    const policy = await policyOf(await readFile(fromRoot('deploy/policy.sample.yaml'), 'utf8'));
    const decision = decideModule(policy, {
      kind: 'remote',
      url: 'oci://registry.example.com/plugins/auth:1',
    });
    assert.ok(decision.allowed);
    assert.deepEqual(decision.signers, ['release']);
  });

  test('names every key of the schema', async () => {
    const schema = JSON.parse(await readFile(fromRoot('deploy/policy.schema.json'), 'utf8')) as SchemaPart;
    const keys = new Set(keysOf(schema));
    assert.ok(keys.size > 30);
    const missing = [...keys].filter((key) => !new RegExp(`\\b${key}\\b`).test(page));
    assert.deepEqual(missing, []);
  });

  test('shows a message as it is', async () => {
    const shown = 'is unknown; did you mean mirrors? (the keys here are';
    assert.ok(page.includes(shown));
    const [real] = await problemsOf('version: 1\ndefaultAction: deny\n\nmirors: []\n');
    assert.ok(real?.message.startsWith(shown), real?.message);
    assert.equal(real?.line, 4);
  });
});

describe('the published schema', () => {
  test('is the one that reads policy files', async () => {
    await promisify(execFile)(process.execPath, [fromRoot('agent/policy/generate-schema.ts'), '--check']);
  });
});
