/** One line of Envoy's `/stats`: `name: value`. */
export interface StatLine {
  readonly name: string;
  readonly value: number;
}

/** The counters and gauges of a `/stats` body; lines of another form (histograms, texts) are left out. */
export function parseStats(body: string): readonly StatLine[] {
  return body.split('\n').flatMap((line) => {
    const match = /^(.+): (\d+)\s*$/.exec(line);
    return match?.[1] === undefined ? [] : [{ name: match[1], value: Number(match[2]) }];
  });
}
