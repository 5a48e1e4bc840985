import { CodedError } from '../coded-error.ts';

/** Why a part of the merged page could not be had. */
export type ScrapeErrorCode =
  /** No connection on any loopback address. */
  | 'connect'
  /** The connection broke, or ended before the announced end of the body. */
  | 'cut'
  /** The peer does not speak HTTP/1.1 as expected. */
  | 'protocol'
  /** An answer other than 200. */
  | 'status'
  /** A redirect away from this machine, or too many. */
  | 'redirect'
  /** A `Content-Encoding` that was not asked for and is not gzip. */
  | 'encoding'
  /** More than the cap for a body that is held in memory. */
  | 'too_large'
  /** The time of the scrape is over. */
  | 'timeout';

/** A part of the merged page is missing or cut. The message says what was seen; the log line adds the URL. */
export class ScrapeError extends CodedError<ScrapeErrorCode> {
  override readonly name = 'ScrapeError';
}
