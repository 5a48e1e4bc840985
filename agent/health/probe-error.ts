import { CodedError } from '../coded-error.ts';

export type ProbeErrorCode =
  /** No connection: name not found, refused, unreachable, or the source address is not there. */
  | 'connect'
  /** TLS could not be agreed on. */
  | 'tls'
  /** No full answer in the time of the probe. */
  | 'timeout'
  /** The connection broke, or what came is not the protocol. */
  | 'protocol'
  /** Too many redirects, or one that cannot be followed. */
  | 'redirect'
  /** A whole answer that says no. */
  | 'unhealthy'
  /** The command cannot be run, or ended with another code than 0. */
  | 'exec';

/** A probe that did not succeed. The message says what was asked of whom and what was seen. */
export class ProbeError extends CodedError<ProbeErrorCode> {
  override readonly name = 'ProbeError';
}
