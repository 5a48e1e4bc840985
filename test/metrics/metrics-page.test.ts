import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { cataloguedFiles, metricCatalogue } from './metric-catalogue.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

test('every file that defines metrics is in the catalogue', () => {
  const files = readdirSync(`${root}metrics`).filter((file) => file.endsWith('-metrics.ts'));
  assert.deepEqual(files.toSorted(), cataloguedFiles.toSorted());
});

test('docs/metrics.md has each metric of the agent once, with its type and labels, and no other', async () => {
  const page = readFileSync(`${root}docs/metrics.md`, 'utf8');
  const documented = [...page.matchAll(/^\| `(\w+)` \| (\w+) \|([^|]*)\| (.+) \|$/gm)].map(
    ([, name = '', type, labels = '', meaning]) => {
      assert.ok(meaning, name);
      return { name, type, labelNames: [...labels.matchAll(/`(\w+)`/g)].map(([, label]) => label) };
    },
  );
  const defined = [...(await metricCatalogue()).values()];
  const byName = (left: { name: string }, right: { name: string }): number =>
    left.name < right.name ? -1 : 1;
  assert.deepEqual(documented.toSorted(byName), defined.toSorted(byName));
  assert.equal(page.match(/^\| `/gm)?.length, documented.length, 'a row has another form');
});
