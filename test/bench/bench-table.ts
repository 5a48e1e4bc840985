import type { BenchDocument, Series } from './bench-result.ts';
import { formatSize } from './byte-size.ts';
import { type MetricName, metricCatalog, type Scenario, scenarios } from './metric-catalog.ts';
import { relativeSpread } from './statistics.ts';
import { alignColumns } from './text-columns.ts';

/** From this spread on, (largest - smallest) / median, a median says little and carries a mark. */
const wideSpread = 0.5;

const scenarioTitles: Readonly<Record<Scenario, string>> = {
  start: 'Start',
  ready: 'Start with Envoy and a warm cache',
  idle: 'Idle',
  'ten-agents': 'Ten agents, quiet or after pushes of a size',
  settled: 'After pushes and a rest, by size of a push',
  relay: 'Relay, by size of a push',
  'first-pushes': 'The first pushes of a process, 1 KB each',
  stall: 'Client stands still amid outstanding pushes, by size of a push',
  'ack-storm': 'ACKs without pause',
  ecds: 'Extension configs, by size of the module',
  'ecds-oci': 'Extension configs from a registry, by size of the module',
  'ecds-count': 'Extension configs in one push, module cached',
  'many-modules': 'One push of many plugins with a module each, by size of a module',
  'shared-url': 'One push of many plugins with one URL, by size of the module',
  fetch: 'Cold fetch of a module, by its size',
};

/** The medians of a run as text: one block a scenario, one line a metric and subject, one column a size. */
export function renderTable(document: BenchDocument): string {
  const blocks = scenarios.flatMap((scenario) => {
    const series = document.series.filter((each) => each.scenario === scenario);
    return series.length === 0 ? [] : [renderScenario(scenario, series, document)];
  });
  const { machine } = document;
  const settings = Object.entries(document.settings).map(([name, value]) => `${name}=${value}`);
  const head =
    `${machine.cpuModel}, ${machine.coreCount} cores, Linux ${machine.kernel} ${machine.architecture}, ` +
    `Node ${machine.nodeVersion}, load average ${machine.loadBefore.toFixed(2)}, others used ${(machine.othersCpuShare * 100).toFixed(0)} % of the CPUs\n` +
    settings.join(' ');
  const warnings = document.warnings.map((warning) => `WARNING: ${warning}`);
  const legend = `Medians; ~ marks those whose samples spread over more than ${wideSpread * 100} % of the median.`;
  return `${[head, ...blocks, [legend, ...warnings].join('\n')].join('\n\n')}\n`;
}

function renderScenario(scenario: Scenario, series: readonly Series[], document: BenchDocument): string {
  const sizes = [...new Set(series.map((each) => each.sizeBytes))];
  const rows: string[][] = [
    [scenarioTitles[scenario], '', ...sizes.map((size) => (size === null ? '' : formatSize(size)))],
  ];
  for (const metric of Object.keys(metricCatalog) as MetricName[]) {
    for (const { name } of document.subjects) {
      const own = series.filter((each) => each.metric === metric && each.subject === name);
      if (own.length === 0) continue;
      const cells = sizes.map((size) => formatCell(own.find((each) => each.sizeBytes === size)));
      rows.push([`${metric} ${metricCatalog[metric].unit}`, name, ...cells]);
    }
  }
  return alignColumns(rows, 2);
}

function formatCell(series: Series | undefined): string {
  if (series === undefined) return '-';
  const mark = relativeSpread(series.samples) > wideSpread ? '~' : '';
  return `${mark}${formatNumber(series.median)}`;
}

/** Three significant digits, but never fewer than all digits before the point. */
function formatNumber(value: number): string {
  const magnitude = Math.abs(value);
  if (Number.isInteger(value) || magnitude >= 100) return value.toFixed(0);
  if (magnitude >= 10) return value.toFixed(1);
  return value.toFixed(magnitude >= 1 ? 2 : 3);
}
