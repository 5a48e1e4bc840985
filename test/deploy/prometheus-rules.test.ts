import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { metricCatalogue } from '../metrics/metric-catalogue.ts';
import { assertKnown } from './known-metrics.ts';
import { promqlNames } from './promql-names.ts';
import { promtoolSkip, runPromtool } from './promtool.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const rulesFile = `${root}deploy/prometheus/ferry-alerts.yaml`;
const testsFile = `${root}deploy/prometheus/ferry-alerts.test.yaml`;

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

interface RuleTests {
  readonly tests: readonly {
    readonly alert_rule_test: readonly {
      readonly alertname: string;
      readonly exp_alerts: readonly unknown[];
    }[];
  }[];
}

const { groups } = parse(readFileSync(rulesFile, 'utf8')) as {
  readonly groups: readonly { readonly rules: readonly Rule[] }[];
};
const rules = groups.flatMap((group) => group.rules);

test('names are read out of an expression', () => {
  const rows: readonly (readonly [string, readonly string[], readonly string[]])[] = [
    ['up', ['up'], []],
    ['count by (a, b) (x{c="d e",f=~"g{h}"} > 0)', ['x'], ['a', 'b', 'c', 'f']],
    ['(x unless x offset 10m) > 1e3 or increase(y_total[5m]) > 0.5', ['x', 'y_total'], []],
    [
      'histogram_quantile(0.5, sum by (le) (rate(x_bucket[$__rate_interval]))) and on (pod) z',
      ['x_bucket', 'z'],
      ['le', 'pod'],
    ],
  ];
  for (const [expression, metrics, labels] of rows) {
    const names = promqlNames(expression);
    assert.deepEqual([...names.metrics].toSorted(), metrics, expression);
    assert.deepEqual([...names.labels].toSorted(), labels, expression);
  }
});

test('every alert looks at metrics that the agent has', async () => {
  const catalogue = await metricCatalogue();
  for (const { alert, expr } of rules) assertKnown(expr, catalogue, alert);
  assert.throws(
    () => assertKnown('istio_agent_no_such_metric > 0', catalogue, 'x'),
    /which the agent does not have/,
  );
  assert.throws(
    () => assertKnown('istio_agent_scrapes_total{plugin="a"}', catalogue, 'x'),
    /the label plugin/,
  );
});

test('every alert says how bad it is, what it means, and what to do', () => {
  const operations = readFileSync(`${root}docs/operations.md`, 'utf8');
  for (const { alert, labels, annotations } of rules) {
    assert.match(labels['severity'] ?? '', /^(?:warning|critical)$/, alert);
    assert.ok(annotations['summary'] && annotations['description'], alert);
    assert.match(
      operations,
      new RegExp(`^### .*\\b${alert}\\b`, 'm'),
      `docs/operations.md has no heading for ${alert}`,
    );
  }
  const headings = [...operations.matchAll(/\bFerry[A-Z]\w+/g)].map(([name]) => name);
  for (const name of headings)
    assert.ok(
      rules.some(({ alert }) => alert === name),
      `there is no alert ${name}`,
    );
});

test('every alert is tested where it fires and where it does not', () => {
  const { tests } = parse(readFileSync(testsFile, 'utf8')) as RuleTests;
  const cases = tests.flatMap((one) => one.alert_rule_test);
  for (const { alert } of rules) {
    const own = cases.filter(({ alertname }) => alertname === alert);
    assert.ok(
      own.some(({ exp_alerts: expected }) => expected.length > 0),
      `${alert} never fires in a test`,
    );
    assert.ok(
      own.some(({ exp_alerts: expected }) => expected.length === 0),
      `${alert} is never quiet in a test`,
    );
  }
});

test('Prometheus accepts the rules, and they fire as their tests say', { skip: promtoolSkip }, () => {
  assert.match(
    runPromtool(['check', 'rules', rulesFile]),
    new RegExp(`SUCCESS: ${rules.length} rules found`),
  );
  assert.match(runPromtool(['test', 'rules', testsFile]), /SUCCESS/);
});
