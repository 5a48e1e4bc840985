/** The time a scrape may take, all in milliseconds from its start. */
export interface ScrapeDeadline {
  /** Parts that have not answered by then no longer hold back the others, nor choose the format of the page. */
  readonly headersMs: number;
  /** When Envoy's part ends if an application's part is still to be written. */
  readonly envoyMs: number;
  /** When everything ends. */
  readonly totalMs: number;
  /** False when the header is there but is no time; worth a warning. */
  readonly isHeaderUsable: boolean;
}

/** Prometheus' own default. */
const defaultTimeoutMs = 10_000;

/** A scraper may ask for more, but then it holds memory of the pod for that long. */
const maxTimeoutMs = 120_000;

/** Kept back for the way to the scraper: a tenth, half a second at most. */
const maxMarginMs = 500;

/**
 * From `X-Prometheus-Scrape-Timeout-Seconds`, less a margin: an answer that is complete but late is worth nothing.
 * One deadline for all parts, because they run in parallel.
 */
export function scrapeDeadline(header: string | undefined): ScrapeDeadline {
  const seconds = header !== undefined && /^\d+(?:\.\d+)?(?:e[+-]?\d+)?$/i.test(header) ? Number(header) : 0;
  const isUsable = seconds > 0 && Number.isFinite(seconds);
  const askedMs = Math.min(maxTimeoutMs, isUsable ? seconds * 1000 : defaultTimeoutMs);
  const totalMs = Math.ceil(askedMs - Math.min(maxMarginMs, askedMs / 10));
  return {
    headersMs: Math.ceil(totalMs / 2),
    envoyMs: Math.ceil((totalMs * 3) / 4),
    totalMs,
    isHeaderUsable: header === undefined || isUsable,
  };
}
