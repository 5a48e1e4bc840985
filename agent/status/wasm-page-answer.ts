import { describeError, type Logger } from '../log.ts';
import { formatDebugPage } from './debug-page.ts';
import type { Exchange } from './route.ts';
import { formatBrokenPage, formatWasmPage } from './wasm-page.ts';
import { pagePolicy } from './wasm-page-assets.ts';
import { readWasmReport } from './wasm-report.ts';

/** Answers `/debug/wasm` as HTML; with 500 and the reason where the provider gives something else or throws. */
export async function answerWasmPage(
  { answer }: Exchange,
  provide: () => unknown,
  log: Logger,
): Promise<void> {
  answer.setHeader('Content-Type', 'text/html; charset=utf-8');
  answer.setHeader('Content-Security-Policy', pagePolicy);
  answer.setHeader('X-Content-Type-Options', 'nosniff');
  answer.setHeader('Referrer-Policy', 'no-referrer');
  let text: string;
  try {
    text = render(await provide());
  } catch (error) {
    log.error('debug page cannot be made', { error: describeError(error) });
    answer.setStatus(500);
    text = formatBrokenPage(`the page cannot be made: ${describeError(error)}`);
  }
  await answer.end(Buffer.from(text));
}

/** Goes through the JSON text: what is kept out of that as a secret is not on the page either. */
function render(page: unknown): string {
  const reading = readWasmReport(JSON.parse(formatDebugPage(page)));
  if (reading.kind === 'other')
    throw new TypeError(`it is not what the page is made for: ${reading.problem}`);
  return formatWasmPage(reading.report, Date.now());
}
