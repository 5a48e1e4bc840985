import { ByteSink } from './byte-sink.ts';
import type { PageFilter } from './page-filter.ts';

const newline = 10;

/** The type whose samples may have any name. */
const unknown = 'unknown';

/** Envoy has some hundred; beyond this a name is taken for one that was there before. */
const maxFamilyCount = 20_000;

/**
 * Makes valid OpenMetrics of the text format 0.0.4 that the agent and Envoy write; sample lines, and so the names and
 * values of all series, stay as they are. Source: OpenMetrics 1.0, "Text Format" and "Counter".
 *
 * A counter's samples must end in `_total` and its family must not: `# TYPE a_total counter` becomes
 * `# TYPE a counter`, and a counter of another name becomes `unknown`, which may have any. `untyped` is called
 * `unknown`. Blank lines and other comments are not allowed and left out. Timestamps do not occur in these two parts.
 *
 * A family may come only once, but Envoy has both `a` and `a_total` (`envoy_cluster_upstream_rq`): the second one is
 * then `# TYPE a_total unknown`.
 */
export class OpenMetricsFromText implements PageFilter {
  readonly isDone = false;
  readonly #out = new ByteSink();
  readonly #families = new Set<string>();
  /** A HELP line whose family's name depends on the TYPE line behind it. */
  #help: { readonly name: string; readonly text: string } | undefined;

  push(lines: Buffer): Buffer {
    let copiedTo = 0;
    let lineStart = 0;
    while (lineStart < lines.length) {
      const next = lines.indexOf(newline, lineStart) + 1;
      const lineEnd = next === 0 ? lines.length : next;
      const isSample = !isCommentOrBlank(lines[lineStart]);
      if (isSample && this.#help !== undefined) this.#flushHelp(this.#help.name);
      if (!isSample) {
        this.#out.append(lines.subarray(copiedTo, lineStart));
        this.#convertComment(lines.toString('latin1', lineStart, lineEnd).trim());
        copiedTo = lineEnd;
      }
      lineStart = lineEnd;
    }
    this.#out.append(lines.subarray(copiedTo));
    return this.#out.take();
  }

  end(): Buffer {
    if (this.#help !== undefined) this.#flushHelp(this.#help.name);
    return this.#out.take();
  }

  #convertComment(line: string): void {
    const [, keyword, name = '', text = ''] =
      /^#[ \t]+(HELP|TYPE)[ \t]+(\S+)(?:[ \t]+(.*))?$/.exec(line) ?? [];
    if (keyword === 'HELP') {
      if (this.#help !== undefined) this.#flushHelp(this.#help.name);
      this.#help = { name, text };
      return;
    }
    if (keyword !== 'TYPE') return;
    const { family, type } = this.#chooseFamily(name, text);
    if (this.#help !== undefined) this.#flushHelp(this.#help.name === name ? family : this.#help.name);
    this.#out.appendLatin1(`# TYPE ${family} ${type}\n`);
  }

  #chooseFamily(name: string, type: string): { family: string; type: string } {
    const chosen = openMetricsType(name, type);
    const isFull = this.#families.size >= maxFamilyCount;
    const isTaken = chosen.type === 'counter' && (isFull || this.#families.has(chosen.family));
    if (!isFull) this.#families.add(chosen.family);
    return isTaken ? { family: name, type: unknown } : chosen;
  }

  #flushHelp(family: string): void {
    // A quotation mark is escaped in OpenMetrics and not in text 0.0.4.
    this.#out.appendLatin1(`# HELP ${family} ${(this.#help?.text ?? '').replaceAll('"', '\\"')}\n`);
    this.#help = undefined;
  }
}

function openMetricsType(name: string, type: string): { family: string; type: string } {
  switch (type) {
    case 'counter':
      return name.endsWith('_total')
        ? { family: name.slice(0, -'_total'.length), type }
        : { family: name, type: unknown };
    case 'gauge':
    case 'histogram':
    case 'summary':
      return { family: name, type };
    default:
      return { family: name, type: unknown };
  }
}

/** `#`, white space or the line end: a sample begins with a name. */
function isCommentOrBlank(first: number | undefined): boolean {
  return first === 35 || first === newline || first === 13 || first === 32 || first === 9;
}
