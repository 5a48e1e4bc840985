import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { metricCatalogue } from '../metrics/metric-catalogue.ts';
import { createWorkspace } from '../support/workspace.ts';
import { assertKnown } from './known-metrics.ts';
import { promtoolSkip, runPromtool } from './promtool.ts';

const file = fileURLToPath(new URL('../../deploy/grafana/ferry-dashboard.json', import.meta.url));

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly datasource?: { readonly uid: string };
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly refId: string; readonly expr: string }[];
}

interface Dashboard {
  readonly title: string;
  readonly uid: string;
  readonly schemaVersion: number;
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly query: unknown }[] };
}

const dashboard = JSON.parse(readFileSync(file, 'utf8')) as Dashboard;
const panels = dashboard.panels.filter(({ type }) => type !== 'row');

test('the dashboard has what Grafana needs of one', () => {
  assert.ok(dashboard.title !== '' && dashboard.uid !== '' && dashboard.schemaVersion >= 36);
  const ids = dashboard.panels.map(({ id }) => id);
  assert.equal(new Set(ids).size, ids.length, 'ids are unique');
  for (const { title, description, datasource, targets } of panels) {
    assert.ok(title && description, `${title} has a title and says what it shows`);
    assert.equal(datasource?.uid, '${datasource}', title);
    assert.ok(targets && targets.length > 0, title);
    assert.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length, title);
  }
});

test('no panel covers another or leaves the grid', () => {
  const taken = new Map<string, string>();
  for (const { title, gridPos } of dashboard.panels) {
    assert.ok(gridPos.x >= 0 && gridPos.x + gridPos.w <= 24, title);
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        const other = taken.get(`${x},${y}`);
        assert.equal(other, undefined, `${title} covers ${other}`);
        taken.set(`${x},${y}`, title);
      }
    }
  }
});

test('every panel and variable looks at metrics the agent has, and no metric of Ferry is left out', async () => {
  const catalogue = await metricCatalogue();
  const shown = new Set<string>();
  for (const { title, targets = [] } of panels) {
    for (const { expr } of targets) {
      for (const name of assertKnown(expr, catalogue, title)) shown.add(name);
    }
  }
  for (const { name, query } of dashboard.templating.list) {
    const text = (query as { readonly query?: string }).query;
    const metric = text === undefined ? undefined : /^label_values\((\w+)/.exec(text)?.[1];
    assert.ok(name === 'datasource' || (metric !== undefined && catalogue.has(metric)), `variable ${name}`);
  }
  const own = [...catalogue.keys()].filter((name) => name.startsWith('istio_agent_ferry_'));
  assert.deepEqual(
    own.filter((name) => !shown.has(name)),
    [],
  );
});

test('every variable that a panel names is there', () => {
  const known = new Set([...dashboard.templating.list.map(({ name }) => name), '__rate_interval']);
  for (const { title, targets = [] } of panels) {
    for (const [, name = ''] of targets
      .map(({ expr }) => expr)
      .join('\n')
      .matchAll(/\$(\w+)/g))
      assert.ok(known.has(name), `${title} names $${name}`);
  }
});

test('Prometheus accepts every expression', { skip: promtoolSkip }, async () => {
  const expressions = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
  const rules = expressions.map((expr, index) => ({
    record: `panel:expression:${index}`,
    expr: expr.replaceAll('$__rate_interval', '5m').replaceAll(/\$\w+/g, '.*'),
  }));
  await using workspace = await createWorkspace();
  const path = await workspace.write('panels.json', JSON.stringify({ groups: [{ name: 'panels', rules }] }));
  assert.match(
    runPromtool(['check', 'rules', path]),
    new RegExp(`SUCCESS: ${expressions.length} rules found`),
  );
});
