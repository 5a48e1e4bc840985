import { parseMediaType } from './media-type.ts';

/** In which form a debug page is given; `bad` is a query that asks for neither. */
export type PageChoice = 'json' | 'html' | 'bad';

/**
 * HTML for who names it, as browsers do, and prefers it to JSON; JSON for everybody else, an absent header and one that
 * takes anything included. `?format=json` and `?format=html` win.
 */
export function choosePage(rawQuery: string, accept: string | undefined): PageChoice {
  const format = new URLSearchParams(rawQuery).get('format');
  if (format !== null) return format === 'json' || format === 'html' ? format : 'bad';
  const weights = { 'text/html': 0, 'application/json': 0 };
  for (const item of (accept ?? '').split(',')) {
    const range = parseMediaType(item);
    if (range?.type === 'text/html' || range?.type === 'application/json') {
      weights[range.type] = weightOf(range.parameters.get('q'));
    }
  }
  return weights['text/html'] > weights['application/json'] ? 'html' : 'json';
}

/** RFC 9110 12.4.2; text that is no weight makes the item unacceptable. */
function weightOf(text: string | undefined): number {
  if (text === undefined) return 1;
  return /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/.test(text) ? Number(text) : 0;
}
