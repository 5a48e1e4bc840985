/** Rules of OpenMetrics 1.0 (Text Format, Overall Structure, Counter) that a line by line look can hold a page to. */

const types = new Set([
  'counter',
  'gauge',
  'histogram',
  'gaugehistogram',
  'summary',
  'stateset',
  'info',
  'unknown',
]);
const number = String.raw`(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|NaN|[+-]?Inf)`;
const labels = String.raw`\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\.)*"(?:,[a-zA-Z_]\w*="(?:[^"\\\n]|\\.)*")*)?\}`;
const sample = new RegExp(
  `^([a-zA-Z_:][\\w:]*)(?:${labels})? ${number}(?: ${number})?(?: # ${labels} ${number}(?: ${number})?)?$`,
);
const suffixes: Readonly<Record<string, readonly string[]>> = {
  counter: ['_total', '_created'],
  histogram: ['_bucket', '_count', '_sum', '_created'],
  gaugehistogram: ['_bucket', '_gcount', '_gsum'],
  summary: ['', '_count', '_sum', '_created'],
  info: ['_info'],
};

/** What is wrong with a page; empty when it is valid. */
export function findOpenMetricsFaults(page: string): readonly string[] {
  const faults: string[] = [];
  const lines = page.split('\n');
  if (lines.pop() !== '') faults.push('the last line has no end');
  if (lines.pop() !== '# EOF') faults.push('the last line is not # EOF');
  let family = '';
  let type = 'unknown';
  const closedFamilies = new Set<string>();
  const open = (name: string) => {
    if (name === family) return;
    closedFamilies.add(family);
    family = name;
    type = 'unknown';
    if (closedFamilies.has(name)) faults.push(`family ${name} comes twice`);
  };
  for (const line of lines) {
    const [, keyword, name = '', text = ''] = /^# (HELP|TYPE|UNIT) (\S+)(?: (.*))?$/.exec(line) ?? [];
    const sampleName = sample.exec(line)?.[1];
    if (keyword !== undefined) {
      open(name);
      if (keyword === 'TYPE') type = text;
      if (keyword === 'TYPE' && !types.has(text)) faults.push(`bad type: ${line}`);
      if (keyword === 'TYPE' && text === 'counter' && name.endsWith('_total'))
        faults.push(`counter family: ${line}`);
      if (keyword === 'HELP' && /(?<!\\)"/.test(text)) faults.push(`unescaped quotation mark: ${line}`);
    } else if (sampleName === undefined) faults.push(`bad line: ${line}`);
    else {
      const isOfFamily = (suffixes[type] ?? ['']).some((suffix) => sampleName === `${family}${suffix}`);
      if (isOfFamily) continue;
      open(sampleName);
      if (type !== 'unknown') faults.push(`sample outside of its family: ${line}`);
    }
  }
  return faults;
}
