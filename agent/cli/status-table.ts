import {
  byUrgency,
  connectionWords,
  countWords,
  inForceWords,
  nextTryWords,
  sizeWords,
  spanWords,
} from '../status/plugin-words.ts';
import { otherVms, vmOf, vmWords } from '../status/vm-words.ts';
import type { ReportedPlugin, ReportedVm, WasmReport } from '../status/wasm-report.ts';
import { shortPluginName } from '../wasm/plugin-name.ts';
import { visible, wrap } from './terminal-text.ts';

/** No line is longer, colours not counted. */
const maxWidth = 100;

/** A longer name has a line of its own; so wide that with the widest of all other cells a line fits. */
const maxNameWidth = 26;

const gap = '  ';

/** `cache`, `http` or `oci`; nothing for what needs no download. */
const maxSourceWidth = 6;

export interface StatusTableOptions {
  /** Epoch ms. */
  readonly nowMs: number;
  readonly isColoured: boolean;
}

type Colour = 'red' | 'green' | 'yellow' | 'dim' | undefined;

interface Cell {
  readonly text: string;
  readonly colour?: Colour;
}

/** The report as an aligned table, those that need a look first; each failure has its reason below. Pure. */
export function formatStatusTable(report: WasmReport, options: StatusTableOptions): string {
  const { nowMs, isColoured } = options;
  const plugins = byUrgency(report.plugins);
  const head = [
    ...field('node', report.nodeId),
    ...field('istiod', connectionWords(report, nowMs)),
    ...policyLines(report),
    ...vmFields(report),
    ...field(
      'plugins',
      report.isConversionEnabled ? countWords(plugins) : 'relayed untouched, by configuration',
    ),
  ];
  if (plugins.length === 0) return `${head.join('\n')}\n`;
  const titles = ['PLUGIN', 'STATE', 'IN FORCE', 'SOURCE', 'SIZE', 'RUNNING', 'SINCE', 'NEXT TRY'];
  const rows = plugins.map((plugin) => cellsOf(plugin, nowMs));
  const widths = titles.map((title, column) =>
    Math.max(title.length, ...rows.map((cells) => widthIn(cells[column], column))),
  );
  const line = (cells: readonly Cell[]): string => formatRow(cells, widths, isColoured);
  const body = rows.flatMap((cells, index) => {
    const plugin = plugins[index];
    return [
      ...splitName(cells).map(line),
      ...(plugin === undefined ? [] : [...reasonLines(plugin), ...vmLines(vmOf(report, plugin.name))]),
    ];
  });
  return `${[...head, '', line(titles.map((text) => ({ text }))), ...body].join('\n')}\n`;
}

function vmLines(vm: ReportedVm | undefined): readonly string[] {
  if (vm === undefined) return [];
  return wrap(`vm: ${vmWords(vm)}`, maxWidth - gap.length).map((text) => `${gap}${text}`);
}

/** Of no plugin here, and why nothing is known of any. */
function vmFields(report: WasmReport): readonly string[] {
  const problem = report.vms?.problem;
  return [
    ...otherVms(report).flatMap((vm) => field('vm', `${vm.plugin}: ${vmWords(vm)}`)),
    ...(problem === undefined ? [] : field('vms', `whether any fails is not known: ${problem}`)),
  ];
}

function policyLines({ policy }: WasmReport): readonly string[] {
  if (policy === undefined) return [];
  const { file, generation, problems } = policy;
  const name = visible(file ?? '-');
  if (problems.length === 0) return field('policy', `${name}, version ${generation} since the start`);
  const [first = ''] = problems;
  const more = problems.length === 1 ? '' : ` (and ${problems.length - 1} more faults)`;
  return field('policy', `${name} is NOT in force, the one before it is: ${visible(first)}${more}`);
}

function cellsOf(plugin: ReportedPlugin, nowMs: number): readonly Cell[] {
  const { state, stateSince, inForce, sizeBytes, runningDigest } = plugin;
  return [
    { text: visible(shortPluginName(plugin.name)) },
    { text: state, colour: stateColour(state) },
    { text: inForceWords(plugin), colour: inForce === 'fallback' ? 'red' : undefined },
    { text: visible(plugin.source ?? '-').slice(0, maxSourceWidth) },
    { text: sizeBytes === undefined ? '-' : sizeWords(sizeBytes) },
    { text: visible(runningDigest?.slice(0, 8) ?? '-') },
    { text: stateSince === undefined ? '-' : firstUnit(spanWords(nowMs - Date.parse(stateSince))) },
    { text: shortTry(nextTryWords(plugin, nowMs)) },
  ];
}

function firstUnit(span: string): string {
  return span.split(' ', 1)[0] ?? '';
}

function shortTry(words: string | undefined): string {
  if (words === undefined) return '-';
  if (words.startsWith('when the policy')) return 'new policy';
  return words.startsWith('in ') ? `in ${firstUnit(words.slice(3))}` : words.replace('with the ', '');
}

function stateColour(state: ReportedPlugin['state']): Colour {
  switch (state) {
    case 'active':
      return 'green';
    case 'failed':
      return 'red';
    case 'preparing':
    case 'offered':
      return 'yellow';
    case 'none':
      return 'dim';
    default:
      return state satisfies never;
  }
}

function widthIn(cell: Cell | undefined, column: number): number {
  const width = cell?.text.length ?? 0;
  return column === 0 && width > maxNameWidth ? 0 : width;
}

/** A long name stands above its row. */
function splitName(cells: readonly Cell[]): readonly (readonly Cell[])[] {
  const [name, ...rest] = cells;
  if (name === undefined || name.text.length <= maxNameWidth) return [cells];
  return [...wrap(name.text, maxWidth).map((text) => [{ text }]), [{ text: '' }, ...rest]];
}

function formatRow(cells: readonly Cell[], widths: readonly number[], isColoured: boolean): string {
  const texts = cells.map(({ text, colour }, column) => {
    const padding = ' '.repeat(Math.max(0, (widths[column] ?? 0) - text.length));
    return `${isColoured ? paint(text, colour) : text}${column === cells.length - 1 ? '' : padding}`;
  });
  return texts.join(gap).trimEnd();
}

const colourCodes: Readonly<Record<NonNullable<Colour>, number>> = { red: 31, green: 32, yellow: 33, dim: 2 };

function paint(text: string, colour: Colour): string {
  return colour === undefined ? text : `\u001b[${colourCodes[colour]}m${text}\u001b[0m`;
}

function reasonLines(plugin: ReportedPlugin): readonly string[] {
  const { state, lastError, failedAttemptCount, policyRefusal } = plugin;
  const tries = failedAttemptCount > 1 ? `(${failedAttemptCount} tries) ` : '';
  return [
    ...(state === 'failed' && lastError !== undefined ? [`why: ${tries}${lastError}`] : []),
    ...(policyRefusal === undefined ? [] : [`runs although it is ${policyRefusal}`]),
  ].flatMap((text) => wrap(visible(text), maxWidth - gap.length).map((line) => `${gap}${line}`));
}

function field(name: string, value: string): readonly string[] {
  const indent = 9;
  const lines = wrap(visible(value), maxWidth - indent);
  return lines.map((text, index) => `${(index === 0 ? name : '').padEnd(indent)}${text}`);
}
