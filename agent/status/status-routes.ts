import { describeError, type Logger } from '../log.ts';
import { formatDebugPage } from './debug-page.ts';
import { choosePage } from './page-choice.ts';
import type { Readiness } from './readiness.ts';
import type { Exchange, Route } from './route.ts';
import type { StatsMerge } from './stats-merge.ts';

/** What the routes of the agent itself are made from. */
export interface StatusRouteOptions {
  readonly readiness: Readiness;
  readonly stats: StatsMerge;
  /** `METRICS_LOCALHOST_ACCESS_ONLY`. */
  readonly isMetricsLocalOnly: boolean;
  /** What `/debug/wasm` shows: JSON values, Maps and Sets, without secrets; as HTML what `wasm-report.ts` reads. */
  readonly debugPage: () => unknown;
  /** What `/debug/ndsz` shows: the DNS table as JSON values; undefined while there is none. */
  readonly nameTable: () => unknown;
  /** Ends the agent at once, without drain. Called after the answer. */
  readonly quit: () => void;
  /** Drains Envoy's listeners within a time of its own. The answer waits for it; it goes on when the client leaves. */
  readonly drain: () => Promise<void>;
  readonly log: Logger;
}

/**
 * The endpoint table of the agent. Application probes are routes of their own (`/app-health/`, `/app-lifecycle/`),
 * to be put beside these.
 */
export function statusRoutes(options: StatusRouteOptions): readonly Route[] {
  const { readiness, stats, isMetricsLocalOnly, log } = options;
  const scrape = {
    localOnly: isMetricsLocalOnly,
    method: undefined,
    handle: (exchange: Exchange) => stats.answer(exchange),
  };
  return [
    {
      path: '/healthz/ready',
      localOnly: false,
      method: undefined,
      handle: async ({ answer }) => {
        answer.setStatus((await readiness.probe()) ? 200 : 503);
        await answer.end();
      },
    },
    { path: '/stats/prometheus', ...scrape },
    { path: '/metrics', ...scrape },
    {
      path: '/debug/wasm',
      localOnly: true,
      method: undefined,
      handle: (exchange) => answerDebugPage(exchange, options.debugPage, log),
    },
    {
      path: '/debug/ndsz',
      localOnly: true,
      method: undefined,
      handle: (exchange) => answerJson(exchange, options.nameTable, log),
    },
    {
      path: '/quitquitquit',
      localOnly: true,
      method: 'POST',
      handle: async ({ answer }) => {
        log.info('handling /quitquitquit, notifying pilot-agent to exit');
        try {
          await answer.endWithText(200, 'OK');
        } finally {
          // The order was given even when nobody waits for the answer.
          options.quit();
        }
      },
    },
    {
      path: '/drain',
      localOnly: true,
      method: 'POST',
      handle: async ({ answer }) => {
        log.info('handling /drain, starting drain');
        try {
          await options.drain();
        } catch (error) {
          log.error('drain failed', { error: describeError(error) });
        }
        await answer.endWithText(200, 'OK');
      },
    },
  ];
}

/** JSON, or the same as a page for people. It changes all the time: nobody is to keep it. */
async function answerDebugPage(exchange: Exchange, provide: () => unknown, log: Logger): Promise<void> {
  const { request, rawQuery, answer } = exchange;
  answer.setHeader('Cache-Control', 'no-store');
  const choice = choosePage(rawQuery, request.headers.accept);
  switch (choice) {
    case 'json':
      return answerJson(exchange, provide, log);
    case 'html': {
      // Loaded for the first reader: most pods have none.
      const { answerWasmPage } = await import('./wasm-page-answer.ts');
      return answerWasmPage(exchange, provide, log);
    }
    case 'bad':
      return answer.endWithText(400, 'format is json or html\n');
    default:
      return choice satisfies never;
  }
}

/** 404 `{}` when there is nothing to show, 500 with the reason when it cannot be shown; JSON always. */
async function answerJson({ answer }: Exchange, provide: () => unknown, log: Logger): Promise<void> {
  answer.setHeader('Content-Type', 'application/json');
  let text: string;
  try {
    const page = await provide();
    if (page === undefined) answer.setStatus(404);
    text = page === undefined ? '{}' : formatDebugPage(page);
  } catch (error) {
    log.error('debug page cannot be made', { error: describeError(error) });
    answer.setStatus(500);
    text = formatDebugPage({ error: `the page cannot be made: ${describeError(error)}` });
  }
  await answer.end(Buffer.from(text));
}
