import { ByteSink } from './byte-sink.ts';
import type { PageFilter } from './page-filter.ts';

/** What the comment lines in front of a family's samples have said. */
interface Descriptor {
  readonly name: string;
  help: string | undefined;
  type: string | undefined;
}

/**
 * Makes text format 0.0.4 of OpenMetrics, for an application whose format is not the page's: samples keep their names
 * and values; units, exemplars and the end marker are left out, timestamps become milliseconds, and the families of
 * types that text does not know become gauges or untyped. Source: OpenMetrics 1.0 "Text Format"; Prometheus
 * "Exposition formats".
 */
export class TextFromOpenMetrics implements PageFilter {
  readonly #out = new ByteSink();
  #descriptor: Descriptor | undefined;
  #isDone = false;

  get isDone(): boolean {
    return this.#isDone;
  }

  push(lines: Buffer): Buffer {
    for (const line of lines.toString('latin1').split('\n')) {
      if (this.#isDone) break;
      if (line.startsWith('#')) this.#readComment(line.trimEnd());
      else if (line.trim() !== '') {
        this.#flushDescriptor();
        this.#out.appendLatin1(`${convertSample(line.trimEnd())}\n`);
      }
    }
    return this.#out.take();
  }

  end(): Buffer {
    this.#flushDescriptor();
    return this.#out.take();
  }

  #readComment(line: string): void {
    if (line === '# EOF') {
      this.#isDone = true;
      return;
    }
    const [, keyword, name = '', text = ''] = /^# (HELP|TYPE|UNIT) (\S+)(?: (.*))?$/.exec(line) ?? [];
    if (keyword === undefined || keyword === 'UNIT') return;
    if (this.#descriptor?.name !== name) {
      this.#flushDescriptor();
      this.#descriptor = { name, help: undefined, type: undefined };
    }
    if (keyword === 'HELP') this.#descriptor.help = text.replaceAll('\\"', '"');
    else this.#descriptor.type = text;
  }

  /** Held back until the first sample, because the name in HELP depends on the type and either may come first. */
  #flushDescriptor(): void {
    if (this.#descriptor === undefined) return;
    const { name, help, type } = this.#descriptor;
    this.#descriptor = undefined;
    const converted = textType(name, type);
    if (help !== undefined) this.#out.appendLatin1(`# HELP ${converted.family} ${help}\n`);
    if (type !== undefined) this.#out.appendLatin1(`# TYPE ${converted.family} ${converted.type}\n`);
  }
}

function textType(name: string, type: string | undefined): { family: string; type: string } {
  switch (type) {
    case 'counter':
      return { family: `${name}_total`, type };
    case 'info':
      return { family: `${name}_info`, type: 'gauge' };
    case 'stateset':
      return { family: name, type: 'gauge' };
    case 'gauge':
    case 'histogram':
    case 'summary':
      return { family: name, type };
    default:
      return { family: name, type: 'untyped' };
  }
}

/** `name{labels} value [seconds] [# exemplar]` without the exemplar, the time in milliseconds. */
function convertSample(line: string): string {
  const labelsEnd = findLabelsEnd(line);
  const [value = '', time] = (line.slice(labelsEnd).split(' #', 1)[0] ?? '').trim().split(/ +/);
  const seconds = time === undefined || time === '' ? Number.NaN : Number(time);
  const milliseconds = Number.isFinite(seconds) ? ` ${Math.round(seconds * 1000)}` : '';
  return `${line.slice(0, labelsEnd).trimEnd()} ${value}${milliseconds}`;
}

/** Where the value may begin: behind the label set, or behind the name. Braces in label values do not count. */
function findLabelsEnd(line: string): number {
  const open = line.search(/[{ ]/);
  if (open === -1) return line.length;
  if (line[open] === ' ') return open;
  let isQuoted = false;
  for (let at = open; at < line.length; at += 1) {
    const character = line[at];
    if (isQuoted && character === '\\') at += 1;
    else if (character === '"') isQuoted = !isQuoted;
    else if (character === '}' && !isQuoted) return at + 1;
  }
  return line.length;
}
