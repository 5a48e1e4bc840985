/** Rewrites one part of the page on its way. It is given whole lines only; what it returns is valid until the next call. */
export interface PageFilter {
  push(lines: Buffer): Buffer;
  /** What was held back, at the end of the part, broken or not. */
  end(): Buffer;
  /** True when the rest of the part is not to be written. */
  readonly isDone: boolean;
}

const nothing = Buffer.alloc(0);

/** For a part that has the format of the page. */
export class PassFilter implements PageFilter {
  readonly isDone = false;

  push(lines: Buffer): Buffer {
    return lines;
  }

  end(): Buffer {
    return nothing;
  }
}

/** Ends an OpenMetrics part before its `# EOF` line: the page has one, at its own end. */
export class EndMarkerFilter implements PageFilter {
  #isDone = false;

  get isDone(): boolean {
    return this.#isDone;
  }

  push(lines: Buffer): Buffer {
    if (this.#isDone) return nothing;
    const marker = findEndMarker(lines);
    if (marker === undefined) return lines;
    this.#isDone = true;
    return lines.subarray(0, marker);
  }

  end(): Buffer {
    return nothing;
  }
}

/** Takes `# EOF` lines out of a text part, where they are comments: nothing behind them is lost. */
export class TextMarkerFilter implements PageFilter {
  readonly isDone = false;

  push(lines: Buffer): Buffer {
    const marker = findEndMarker(lines);
    if (marker === undefined) return lines;
    const after = lines.indexOf(10, marker) + 1;
    return Buffer.concat([lines.subarray(0, marker), this.push(lines.subarray(after))]);
  }

  end(): Buffer {
    return nothing;
  }
}

/** Where a line begins that is `# EOF` and white space. */
function findEndMarker(lines: Buffer): number | undefined {
  for (let at = lines.indexOf('# EOF'); at !== -1; at = lines.indexOf('# EOF', at + 1)) {
    const isLineStart = at === 0 || lines[at - 1] === 10;
    const line = lines.toString('latin1', at, lines.indexOf(10, at));
    if (isLineStart && line.trim() === '# EOF') return at;
  }
  return undefined;
}
