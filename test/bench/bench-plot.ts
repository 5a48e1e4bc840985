import type { BenchDocument, Series } from './bench-result.ts';
import { formatSize } from './byte-size.ts';
import type { MetricName } from './metric-catalog.ts';

/** One small chart: a metric over the size of a push. */
interface Panel {
  readonly metric: MetricName;
  readonly title: string;
  readonly isMoreBetter: boolean;
}

const panels: readonly Panel[] = [
  { metric: 'added-latency-p50', title: 'added latency, p50 (ms)', isMoreBetter: false },
  { metric: 'throughput', title: 'throughput (MB/s)', isMoreBetter: true },
  { metric: 'cpu-per-gb', title: 'CPU (s per GB)', isMoreBetter: false },
  { metric: 'peak-rss', title: 'peak memory, RSS (MiB)', isMoreBetter: false },
];

const panelWidth = 400;
const panelHeight = 250;
const margin = { top: 44, right: 18, bottom: 34, left: 52 };
const columnCount = 2;
const headHeight = 58;
const plotWidth = panelWidth - margin.left - margin.right;
const plotHeight = panelHeight - margin.top - margin.bottom;

/** Colour, dash and marker together tell lines apart, so that none of them has to. */
const markers = ['circle', 'square', 'diamond', 'triangle'] as const;
type Marker = (typeof markers)[number];
const dashes = ['', '6 3', '2 3', '8 3 2 3'];

/** Both themes are in the file: viewers that know which one is on choose, all others take the light one. */
const style = `
  text { font: 12px system-ui, sans-serif; fill: #3d4450; }
  .title { font-weight: 600; }
  .grid { stroke: #d5d9de; stroke-width: 1; }
  .line { fill: none; stroke-width: 2; }
  .s0 { stroke: #1264c8; fill: #1264c8; } .s1 { stroke: #b25000; fill: #b25000; }
  .s2 { stroke: #6b7280; fill: #6b7280; } .s3 { stroke: #8a3ab9; fill: #8a3ab9; }
  .line.s0, .line.s1, .line.s2, .line.s3 { fill: none; }
  @media (prefers-color-scheme: dark) {
    text { fill: #c3c9d1; }
    .grid { stroke: #3a404a; }
    .s0 { stroke: #6cb0ff; fill: #6cb0ff; } .s1 { stroke: #ffa657; fill: #ffa657; }
    .s2 { stroke: #9aa4b0; fill: #9aa4b0; } .s3 { stroke: #d2a8ff; fill: #d2a8ff; }
    .line.s0, .line.s1, .line.s2, .line.s3 { fill: none; }
  }`;

/**
 * The relay's figures of a run as an SVG image: four charts over the size of a push, both axes logarithmic. Drawn from
 * the document alone, so the same document gives the same bytes. Throws RangeError when it has no such figures.
 */
export function renderPlot(document: BenchDocument): string {
  const shown = panels.map((panel) => ({ panel, series: seriesOf(document, panel.metric) }));
  const sizes = [
    ...new Set(shown.flatMap(({ series }) => series.map(({ sizeBytes }) => sizeBytes ?? 0))),
  ].sort((a, b) => a - b);
  if (sizes.length === 0)
    throw new RangeError('This run has no figures of the relay: there is nothing to draw.');
  const names = orderedNames(document).filter((name) =>
    shown.some(({ series }) => series.some(({ subject }) => subject === name)),
  );
  const rowCount = Math.ceil(panels.length / columnCount);
  const width = columnCount * panelWidth;
  const height = headHeight + rowCount * panelHeight;
  const { machine, startedAt, settings } = document;
  const caption = `${startedAt.slice(0, 10)}, ${machine.cpuModel}, ${machine.coreCount} cores, Node ${machine.nodeVersion}, ${settings['mode']}, ${settings['upstream']}; rounds ${settings['rounds']}, others used ${Math.round(machine.othersCpuShare * 100)} % of the CPUs`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="plot-title plot-text">
<title id="plot-title">Relay, by size of a push: ${escape(names.join(', '))}</title>
<desc id="plot-text">${escape(descriptionOf(shown.flatMap(({ series }) => series)))}</desc>
<style>${style}
</style>
<text x="14" y="20">${escape(caption)}</text>
${legend(names)}
${shown.map(({ panel, series }, index) => renderPanel(panel, series, { sizes, names, index })).join('\n')}
</svg>
`;
}

/** Ferry first: the others are what it is compared with. */
function orderedNames(document: BenchDocument): readonly string[] {
  const names = document.subjects.map(({ name }) => name);
  return [...names.filter((name) => name === 'ferry'), ...names.filter((name) => name !== 'ferry')];
}

/** Of a logarithmic scale: a value that is not above zero has no place on it. */
function seriesOf(document: BenchDocument, metric: MetricName): readonly Series[] {
  return document.series.filter((series) => series.metric === metric && series.median > 0);
}

function descriptionOf(series: readonly Series[]): string {
  return series
    .map(
      ({ metric, subject, sizeBytes, median, unit }) =>
        `${metric} of ${subject} at ${formatSize(sizeBytes ?? 0)}: ${formatValue(median)} ${unit}`,
    )
    .join('; ');
}

function legend(names: readonly string[]): string {
  return names
    .map((name, index) => {
      const x = 14 + index * 130;
      return `<g><line class="line s${index % 4}" stroke-dasharray="${dashes[index % 4]}" x1="${x}" y1="38" x2="${x + 26}" y2="38"/>${markerAt(x + 13, 38, index)}<text x="${x + 32}" y="42">${escape(name)}</text></g>`;
    })
    .join('\n');
}

function renderPanel(
  panel: Panel,
  series: readonly Series[],
  frame: { readonly sizes: readonly number[]; readonly names: readonly string[]; readonly index: number },
): string {
  const { sizes, names, index } = frame;
  const left = (index % columnCount) * panelWidth + margin.left;
  const top = headHeight + Math.floor(index / columnCount) * panelHeight + margin.top;
  const x = (sizeBytes: number): number =>
    left + (sizes.indexOf(sizeBytes) + 0.5) * (plotWidth / sizes.length);
  const title = `<text class="title" x="${left}" y="${top - 18}">${escape(panel.title)}, ${panel.isMoreBetter ? 'more' : 'less'} is better</text>`;
  const sizeLabels = sizes.map(
    (size) =>
      `<text x="${round(x(size))}" y="${top + plotHeight + 18}" text-anchor="middle">${formatSize(size)}</text>`,
  );
  if (series.length === 0) return [title, ...sizeLabels].join('\n');
  const values = series.map(({ median }) => median);
  const ticks = ticksFor(Math.min(...values), Math.max(...values));
  const low = Math.log10(ticks[0] ?? 1);
  const high = Math.log10(ticks.at(-1) ?? 10);
  const y = (value: number): number => top + plotHeight * (1 - (Math.log10(value) - low) / (high - low));
  const grid = ticks.map(
    (tick) =>
      `<line class="grid" x1="${left}" x2="${left + plotWidth}" y1="${round(y(tick))}" y2="${round(y(tick))}"/><text x="${left - 6}" y="${round(y(tick) + 4)}" text-anchor="end">${formatValue(tick)}</text>`,
  );
  const lines = names.map((name, nameIndex) => {
    const points = series
      .filter(({ subject }) => subject === name)
      .map(({ sizeBytes, median }) => ({ x: round(x(sizeBytes ?? 0)), y: round(y(median)) }));
    if (points.length === 0) return '';
    const path = points.map((point) => `${point.x},${point.y}`).join(' ');
    return `<polyline class="line s${nameIndex % 4}" stroke-dasharray="${dashes[nameIndex % 4]}" points="${path}"/>${points.map((point) => markerAt(point.x, point.y, nameIndex)).join('')}`;
  });
  return [title, ...grid, ...sizeLabels, ...lines.filter((line) => line !== '')].join('\n');
}

/** 1, 2 and 5 of each decade, from just below the smallest value to just above the largest; never fewer than two. */
function ticksFor(smallest: number, largest: number): readonly number[] {
  const first = Math.floor(Math.log10(smallest));
  const last = Math.ceil(Math.log10(largest));
  const decades = Array.from({ length: last - first + 1 }, (_, index) => first + index);
  const steps = decades.length > 3 ? [1] : [1, 2, 5];
  const all = decades.flatMap((decade) => steps.map((digit) => Number(`${digit}e${decade}`)));
  const start = all.findLastIndex((tick) => tick <= smallest);
  const end = all.findIndex((tick) => tick >= largest);
  return all.slice(start, Math.max(end, start + 1) + 1);
}

function markerAt(x: number, y: number, index: number): string {
  const marker: Marker = markers[index % markers.length] ?? 'circle';
  const cssClass = `s${index % 4}`;
  switch (marker) {
    case 'circle':
      return `<circle class="${cssClass}" cx="${x}" cy="${y}" r="3.5"/>`;
    case 'square':
      return `<rect class="${cssClass}" x="${round(x - 3.5)}" y="${round(y - 3.5)}" width="7" height="7"/>`;
    case 'diamond':
      return `<path class="${cssClass}" d="M${x} ${round(y - 5)}l5 5-5 5-5-5z"/>`;
    case 'triangle':
      return `<path class="${cssClass}" d="M${x} ${round(y - 5)}l5 9h-10z"/>`;
    default:
      return marker satisfies never;
  }
}

function formatValue(value: number): string {
  return String(Number(value.toPrecision(3)));
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escape(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
