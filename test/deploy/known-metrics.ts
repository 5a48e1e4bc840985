import assert from 'node:assert/strict';
import type { DefinedMetric } from '../metrics/metric-catalogue.ts';
import { promqlNames } from './promql-names.ts';

/** Labels that Prometheus gives to what it scrapes; the comment in the rules asks for them. */
const targetLabels = ['namespace', 'pod'];

/** Checks that the agent has every metric an expression names, with every label. Returns their names. */
export function assertKnown(
  expression: string,
  catalogue: ReadonlyMap<string, DefinedMetric>,
  where: string,
): readonly string[] {
  const { metrics, labels } = promqlNames(expression);
  assert.ok(metrics.size > 0, `${where} names no metric`);
  const allowed = new Set(targetLabels);
  const names = [...metrics].map((name) => {
    const metric = catalogue.get(name) ?? histogramOf(name, catalogue);
    assert.ok(metric, `${where} names ${name}, which the agent does not have`);
    for (const label of metric.labelNames) allowed.add(label);
    if (metric.type === 'histogram') allowed.add('le');
    return metric.name;
  });
  for (const label of labels)
    assert.ok(allowed.has(label), `${where} names the label ${label} of ${names.join(', ')}`);
  return names;
}

function histogramOf(name: string, catalogue: ReadonlyMap<string, DefinedMetric>): DefinedMetric | undefined {
  const metric = catalogue.get(name.replace(/_(?:bucket|sum|count)$/, ''));
  return metric?.type === 'histogram' ? metric : undefined;
}
