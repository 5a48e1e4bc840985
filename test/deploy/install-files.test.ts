import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { environmentTable } from '../../agent/config/environment-table.ts';
import { policyOf } from '../agent/policy/policy-fixture.ts';
import { injectedSidecar } from './injected-container.ts';

const folder = new URL('../../deploy/install/', import.meta.url);
const names = readdirSync(folder).filter((name) => name.endsWith('.yaml'));
const page = readFileSync(new URL('../../docs/install.md', import.meta.url), 'utf8');

type Loose = Readonly<Record<string, unknown>>;

/** All documents of a text; a fault in one fails the test. */
function documentsOf(text: string): readonly Loose[] {
  return parseAllDocuments(text, { strict: true, uniqueKeys: true }).map((document) => {
    assert.deepEqual(document.errors, []);
    return document.toJS() as Loose;
  });
}

function fileDocuments(name: string): readonly Loose[] {
  return documentsOf(readFileSync(new URL(name, folder), 'utf8'));
}

/** What is at `a.b.0.c`, undefined when there is nothing. */
function at(value: unknown, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>(
      (part, name) => (typeof part === 'object' && part !== null ? (part as Loose)[name] : undefined),
      value,
    );
}

/** An injection template with its one condition decided: `{{ if $native }} a {{ else }} b {{ end }}`. */
function render(template: string, isNative: boolean): readonly Loose[] {
  const chosen = template
    .replaceAll(/\{\{ \$native := .*\}\}\n/g, '')
    .replaceAll(
      /\s*\{\{ if \$native \}\}([^]*?)\{\{ else \}\}([^]*?)\{\{ end \}\}/g,
      (_, yes: string, no: string) => (isNative ? yes : no).trimEnd(),
    );
  assert.doesNotMatch(chosen, /\{\{/);
  return documentsOf(chosen);
}

describe('the files an operator applies', () => {
  test('are named on the page that tells how, and are plain YAML', () => {
    assert.ok(names.length >= 5);
    for (const name of names) {
      assert.ok(page.includes(`deploy/install/${name}`), `docs/install.md does not name ${name}`);
      assert.ok(fileDocuments(name).length > 0);
    }
  });

  test('ask for no rights: no roles, no bindings, no privileged containers', () => {
    for (const name of names) {
      const text = readFileSync(new URL(name, folder), 'utf8');
      assert.doesNotMatch(
        text,
        /kind: .*(Role|Binding|PodSecurity|Webhook)|privileged: true|hostPath|add:/,
        name,
      );
    }
  });

  test('name one image of Ferry', () => {
    const images = names.flatMap((name) => [
      ...readFileSync(new URL(name, folder), 'utf8').matchAll(/\S+\/ferry\/proxyv2\S+/g),
    ]);
    assert.deepEqual(
      [...new Set(images.map(([image]) => image))],
      ['registry.example.com/ferry/proxyv2:1.27.0'],
    );
  });

  test('annotate pods with keys that injection knows', () => {
    const annotations = ['pod.yaml', 'gateway.yaml'].flatMap((name) =>
      fileDocuments(name).flatMap((document) =>
        Object.entries((at(document, 'spec.template.metadata.annotations') ?? {}) as Loose),
      ),
    );
    assert.deepEqual(Object.fromEntries(annotations), {
      'sidecar.istio.io/proxyImage': 'registry.example.com/ferry/proxyv2:1.27.0',
      'inject.istio.io/templates': 'gateway,ferry-gateway',
    });
  });

  test('hold a policy that the agent accepts', async () => {
    const [configMap] = fileDocuments('policy.yaml');
    await policyOf(String(at(configMap, 'data') && (at(configMap, 'data') as Loose)['policy.yaml']), {});
  });
});

describe('the injection templates', () => {
  const [values] = fileDocuments('values-template.yaml');
  const templates = at(values, 'sidecarInjectorWebhook.templates') as Readonly<Record<string, string>>;
  const forms: readonly (readonly [string, boolean, string])[] = [
    ['ferry', false, 'containers'],
    ['ferry', true, 'initContainers'],
    ['ferry-gateway', false, 'containers'],
  ];

  test('are for sidecars and gateways', () => {
    assert.deepEqual(Object.keys(templates), ['ferry', 'ferry-gateway']);
  });

  for (const [name, isNative, list] of forms) {
    test(`${name} changes the proxy under ${list} alone, and its mounts have volumes`, () => {
      const [pod] = render(templates[name] ?? '', isNative);
      assert.deepEqual(Object.keys(at(pod, 'spec') as Loose), [list, 'volumes']);
      const containers = at(pod, `spec.${list}`) as readonly Loose[];
      assert.deepEqual(
        containers.map((container) => container['name']),
        ['istio-proxy'],
      );
      const volumes = (at(pod, 'spec.volumes') as readonly Loose[]).map((volume) => volume['name']);
      const mounts = at(containers[0], 'volumeMounts') as readonly Loose[];
      for (const mount of mounts) {
        assert.ok(volumes.includes(mount['name']), String(mount['name']));
        assert.equal(mount['readOnly'], true);
      }
      // The volume of the module cache is the stock one, with a limit.
      assert.ok(volumes.includes('istio-data'));
      const stock = injectedSidecar({ discoveryAddress: '', rootCertificate: '', token: '', instanceIp: '' });
      assert.ok(stock.mounts.some(({ path }) => path === environmentTable.WASM_DATA_DIR.default));
      const paths = stock.mounts.map(({ path }) => path);
      for (const mount of mounts) assert.ok(!paths.includes(String(mount['mountPath'])));
    });
  }
});
