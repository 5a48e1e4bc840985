/**
 * Prometheus text format 0.0.4 in the bytes the stock agent writes: numbers as Go prints them, label names sorted,
 * `le` last, samples sorted by label values. Source: prometheus/common `expfmt/text_create.go`, Go
 * `strconv.FormatFloat(value, 'g', -1, 64)`.
 */

export type Labels = Readonly<Record<string, string>>;

/** One line of a family. */
export interface Sample {
  readonly labels: Labels;
  readonly value: number;
  /** What follows the family's name; empty but for the lines of a histogram. */
  readonly suffix?: '' | '_bucket' | '_sum' | '_count';
}

/** All samples of one name. A family without samples is not written at all, its comments included. */
export interface MetricFamily {
  /** Whole name, prefix included. */
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly samples: readonly Sample[];
}

/** The lines of all families that have samples, sorted by name. */
export function formatFamilies(families: readonly MetricFamily[]): string {
  return families
    .filter((family) => family.samples.length > 0)
    .toSorted((left, right) => compareText(left.name, right.name))
    .map(formatFamily)
    .join('');
}

/** A number as Go's shortest `%g` prints it: an exponent from 1e+06 up and below 0.0001, with two digits at least. */
export function formatValue(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (value === Number.POSITIVE_INFINITY) return '+Inf';
  if (value === Number.NEGATIVE_INFINITY) return '-Inf';
  if (value === 0) return '0';
  const [digits = '', exponentText = '0'] = value.toExponential().split('e');
  const exponent = Number(exponentText);
  if (exponent >= -4 && exponent < 6) return String(value);
  const sign = exponent < 0 ? '-' : '+';
  return `${digits}e${sign}${String(Math.abs(exponent)).padStart(2, '0')}`;
}

function formatFamily(family: MetricFamily): string {
  const { name } = family;
  const lines = [`# HELP ${name} ${escapeHelp(family.help)}\n`, `# TYPE ${name} ${family.type}\n`];
  // The sort is stable: the buckets, sum and count of one histogram keep their order.
  const samples = family.samples.toSorted((left, right) =>
    compareText(sortKey(left.labels), sortKey(right.labels)),
  );
  for (const { suffix = '', labels, value } of samples) {
    lines.push(`${name}${suffix}${formatLabels(labels)} ${formatValue(value)}\n`);
  }
  return lines.join('');
}

function formatLabels(labels: Labels): string {
  const names = Object.keys(labels).sort(compareLabelNames);
  if (names.length === 0) return '';
  return `{${names.map((name) => `${name}="${escapeLabelValue(labels[name] ?? '')}"`).join(',')}}`;
}

/** Values in the order of their names; a byte that no value holds keeps `a,bc` and `ab,c` apart. */
function sortKey(labels: Labels): string {
  return Object.keys(labels)
    .filter((name) => name !== 'le')
    .sort(compareText)
    .map((name) => labels[name])
    .join('\u0000');
}

function compareLabelNames(left: string, right: string): number {
  if (left === 'le') return right === 'le' ? 0 : 1;
  if (right === 'le') return -1;
  return compareText(left, right);
}

function compareText(left: string, right: string): number {
  if (left === right) return 0;
  return left < right ? -1 : 1;
}

function escapeHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function escapeLabelValue(text: string): string {
  return escapeHelp(text).replaceAll('"', '\\"');
}
