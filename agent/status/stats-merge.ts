import type { MetricRegistry } from '../../metrics/registry.ts';
import type { ScrapePart, StatusMetrics } from '../../metrics/status-metrics.ts';
import type { ScrapeTarget, StatusConfig } from '../config/agent-config.ts';
import { describeError, type Logger } from '../log.ts';
import { acceptFor, type ScrapedPeer } from './accept-header.ts';
import { type Answer, ClientGoneError } from './answer.ts';
import { OpenMetricsFromText } from './openmetrics-from-text.ts';
import { EndMarkerFilter, type PageFilter, PassFilter, TextMarkerFilter } from './page-filter.ts';
import {
  type ApplicationFormat,
  contentTypeOf,
  formatOfContentType,
  type PageFormat,
  pageFormatOf,
} from './page-format.ts';
import { scrapePart } from './part-scrape.ts';
import type { Exchange } from './route.ts';
import { ScrapeClock } from './scrape-clock.ts';
import { scrapeDeadline } from './scrape-deadline.ts';
import { ScrapeError } from './scrape-error.ts';
import { TextFromOpenMetrics } from './text-from-openmetrics.ts';
import { WholeLines } from './whole-lines.ts';

/** What StatsMerge is built from. */
export interface StatsMergeOptions {
  /** `isEnvoyStatsMerged` must be false where there is no Envoy. */
  readonly config: Pick<StatusConfig, 'envoyPrometheusPort' | 'isEnvoyStatsMerged' | 'applicationTargets'>;
  readonly registry: MetricRegistry;
  readonly metrics: StatusMetrics;
  readonly log: Logger;
}

/** Cap for each of several application bodies, which are held in memory; a single one is streamed without a cap. */
const maxHeldBodyBytes = 10 * 1024 * 1024;

/** Scrapers come in pairs; more than this at once is a flood, and each may hold bodies of applications. */
const maxParallelScrapes = 8;

/** A header from the network goes into the log only in part. */
const maxLoggedHeaderLength = 200;

/** Held bodies pass the filters in pieces, as streamed ones do. */
const sliceBytes = 64 * 1024;

/** A part that has answered. */
interface OpenPart {
  readonly format: ApplicationFormat;
  readonly body: AsyncIterable<Buffer> | Iterable<Buffer>;
}

/** A part on its way. */
interface PendingPart {
  readonly peer: ScrapedPeer;
  /** For log lines; without a query. */
  readonly url: string;
  /** Undefined when the part failed, which is logged and counted by then. Never rejects. */
  readonly opened: Promise<OpenPart | undefined>;
  /** What `opened` has resolved to so far. */
  outcome: 'pending' | 'failed' | OpenPart;
}

/**
 * The merged page of `/stats/prometheus`: the agent's metrics, Envoy's, then the application's, in this order.
 * Source: istio/istio `pilot/cmd/pilot-agent/status/server.go`, handleStats. As there, a part that cannot be had is
 * left out and counted, never an error of the page. Other than there, parts are fetched in parallel under one
 * deadline, broken parts end at a line end, and the page is valid in the format it claims: where the application
 * sends OpenMetrics the other parts are converted to it, and where applications differ theirs is converted to text.
 */
export class StatsMerge {
  readonly #options: StatsMergeOptions;
  #runningCount = 0;

  constructor(options: StatsMergeOptions) {
    this.#options = options;
  }

  /** Answers one scrape; 200 whatever parts are missing, 503 when too many scrapes run. Throws ClientGoneError. */
  async answer(exchange: Exchange): Promise<void> {
    if (this.#runningCount >= maxParallelScrapes) {
      this.#options.log.warn('scrape refused, too many at once', { limit: maxParallelScrapes });
      const text = `${maxParallelScrapes} scrapes are under way, which is the limit; try again later\n`;
      return exchange.answer.endWithText(503, text);
    }
    this.#runningCount += 1;
    try {
      await this.#merge(exchange);
    } finally {
      this.#runningCount -= 1;
    }
  }

  async #merge({ request, rawQuery, answer }: Exchange): Promise<void> {
    const { config, metrics, log } = this.#options;
    metrics.scraped();
    const timeoutHeader = request.headers['x-prometheus-scrape-timeout-seconds']?.toString();
    const deadline = scrapeDeadline(timeoutHeader);
    if (!deadline.isHeaderUsable) {
      log.warn('scrape timeout header is not a number of seconds', { header: shorten(timeoutHeader) });
    }
    const hasApplication = config.applicationTargets.length > 0;
    const clock = new ScrapeClock(deadline, { hasApplication, clientGone: answer.clientGone });
    const forwarded = new Map<string, string>();
    const userAgent = request.headers['user-agent'];
    if (userAgent !== undefined) forwarded.set('user-agent', userAgent);
    if (timeoutHeader !== undefined && deadline.isHeaderUsable) {
      forwarded.set('x-prometheus-scrape-timeout-seconds', String(deadline.totalMs / 1000));
    }
    const accept = request.headers.accept;
    const envoy = config.isEnvoyStatsMerged
      ? this.#openEnvoy(rawQuery, this.#withAccept(forwarded, 'envoy', accept), clock.envoy)
      : undefined;
    const applicationHeaders = hasApplication
      ? this.#withAccept(forwarded, 'application', accept)
      : forwarded;
    const applications = this.#openApplications(applicationHeaders, clock.total);
    const parts = [...(envoy === undefined ? [] : [envoy]), ...applications];
    try {
      await Promise.race([Promise.all(parts.map((part) => part.opened)), clock.headersOver]);
      answer.clientGone.throwIfAborted();
      const page = choosePage(applications);
      answer.setHeader('Content-Type', contentTypeOf(page));
      await this.#writeAgent(answer, page);
      for (const part of parts) await this.#writePart(answer, page, part);
      await answer.end(page === 'text-0.0.4' ? undefined : Buffer.from('# EOF\n'));
    } finally {
      // This frees the connections of parts that were not read to their end, too.
      clock.close();
    }
  }

  #withAccept(
    forwarded: ReadonlyMap<string, string>,
    peer: ScrapedPeer,
    header: string | undefined,
  ): ReadonlyMap<string, string> {
    const { accept, warning } = acceptFor(peer, header);
    if (warning !== undefined) {
      this.#options.log.warn('Accept header cannot be used, asking for text', {
        peer,
        header: shorten(header),
        warning: shorten(warning),
      });
    }
    return new Map([...forwarded, ['accept', accept]]);
  }

  #openEnvoy(rawQuery: string, headers: ReadonlyMap<string, string>, signal: AbortSignal): PendingPart {
    const port = this.#options.config.envoyPrometheusPort;
    const path = '/stats/prometheus';
    const target = rawQuery === '' ? path : `${path}?${rawQuery}`;
    return this.#track('envoy', `http://localhost:${port}${path}`, async () => {
      const { body } = await scrapePart({ port, target, headers, signal });
      return { format: formatOfContentType(undefined), body };
    });
  }

  /** A single application is streamed; several are held, because all their formats decide on the page's. */
  #openApplications(headers: ReadonlyMap<string, string>, signal: AbortSignal): readonly PendingPart[] {
    const targets = this.#options.config.applicationTargets;
    return targets.map((scraped) => {
      const { port } = scraped;
      const target = targetOf(scraped);
      return this.#track('application', `http://localhost:${port}${withoutQuery(target)}`, async () => {
        const { contentType, body } = await scrapePart({ port, target, headers, signal });
        const format = formatOfContentType(contentType);
        if (targets.length === 1) return { format, body };
        return { format, body: await readWhole(body) };
      });
    });
  }

  #track(peer: ScrapedPeer, url: string, open: () => Promise<OpenPart>): PendingPart {
    const opened = open().catch((error: unknown) => {
      this.#fail(peer, url, error);
      return undefined;
    });
    const part: PendingPart = { peer, url, opened, outcome: 'pending' };
    void noteOutcome(part);
    return part;
  }

  async #writeAgent(answer: Answer, page: PageFormat): Promise<void> {
    const { registry, metrics, log } = this.#options;
    let hasFailed = false;
    const text = await registry.exposition((error) => {
      hasFailed = true;
      log.error('failed scraping and writing agent metrics', { error: describeError(error) });
    });
    if (hasFailed) metrics.scrapeFailed('agent');
    const filter = filterFor('agent', { page: 'text-0.0.4', grammar: 'text' }, page);
    await answer.write(filter.push(Buffer.from(text)));
    await answer.write(filter.end());
  }

  async #writePart(answer: Answer, page: PageFormat, part: PendingPart): Promise<void> {
    const open = await part.opened;
    if (open === undefined) return;
    const filter = filterFor(part.peer, open.format, page);
    try {
      await copyLines(open.body, filter, answer);
      if (open.format.grammar === 'openmetrics' && !filter.isDone) {
        throw new ScrapeError('cut', 'the OpenMetrics body has no # EOF at its end');
      }
    } catch (error) {
      this.#fail(part.peer, part.url, error);
    }
    await answer.write(filter.end());
  }

  /** Logs and counts; the loss of the client is nobody's failure and is thrown on by the next write. */
  #fail(part: ScrapePart, url: string, error: unknown): void {
    if (error instanceof ClientGoneError) return;
    const { metrics, log } = this.#options;
    const code = error instanceof ScrapeError ? error.code : undefined;
    log.error(`failed scraping ${part} metrics`, { url, code, error: describeError(error) });
    metrics.scrapeFailed(part);
  }
}

async function noteOutcome(part: PendingPart): Promise<void> {
  part.outcome = (await part.opened) ?? 'failed';
}

/** A part that has not answered by now will be converted to text if it must. */
function choosePage(applications: readonly PendingPart[]): PageFormat {
  const formats = applications.flatMap(({ outcome }) =>
    typeof outcome === 'object' ? [outcome.format] : [],
  );
  return applications.some(({ outcome }) => outcome === 'pending') ? 'text-0.0.4' : pageFormatOf(formats);
}

function filterFor(part: ScrapePart, format: ApplicationFormat, page: PageFormat): PageFilter {
  if (format.grammar === 'openmetrics') {
    return page === 'text-0.0.4' ? new TextFromOpenMetrics() : new EndMarkerFilter();
  }
  if (page !== 'text-0.0.4') return new OpenMetricsFromText();
  return part === 'application' ? new TextMarkerFilter() : new PassFilter();
}

async function copyLines(
  body: AsyncIterable<Buffer> | Iterable<Buffer>,
  filter: PageFilter,
  answer: Answer,
): Promise<void> {
  const lines = new WholeLines();
  for await (const chunk of body) {
    await answer.write(filter.push(lines.push(chunk)));
    if (filter.isDone) return;
  }
  await answer.write(filter.push(lines.end()));
}

/** Throws ScrapeError `too_large`: half a body of one target is worth less than the memory of the pod. */
async function readWhole(body: AsyncIterable<Buffer>): Promise<Iterable<Buffer>> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of body) {
    sizeBytes += chunk.length;
    if (sizeBytes > maxHeldBodyBytes) {
      throw new ScrapeError('too_large', `response exceeds ${maxHeldBodyBytes} bytes; dropping target`);
    }
    for (let at = 0; at < chunk.length; at += sliceBytes) {
      chunks.push(Buffer.from(chunk.subarray(at, at + sliceBytes)));
    }
  }
  return takeAll(chunks);
}

/** Lets go of each chunk as it is written. */
function* takeAll(chunks: Buffer[]): Generator<Buffer, void, undefined> {
  for (const [index, chunk] of chunks.entries()) {
    yield chunk;
    chunks.splice(index, 1, Buffer.alloc(0));
  }
}

function shorten(text: string | undefined): string | undefined {
  return text?.slice(0, maxLoggedHeaderLength);
}

function targetOf({ path }: ScrapeTarget): string {
  return path.startsWith('/') ? path : `/${path}`;
}

function withoutQuery(target: string): string {
  return target.split('?', 1)[0] ?? target;
}
