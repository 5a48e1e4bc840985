import { CodedError } from '../coded-error.ts';

/** Which step of reaching istiod failed. */
export type DialErrorCode =
  /** The discovery address is not `host:port`. */
  | 'bad_address'
  /** The root certificate file cannot be used. */
  | 'bad_root'
  /** Name look-up or TCP. */
  | 'connect'
  /** TLS handshake, or verification of istiod's certificate. */
  | 'tls'
  /** The deadline for the whole of it, HTTP/2 settings included, has passed. */
  | 'timeout'
  /** The connection ended before istiod's HTTP/2 settings came. */
  | 'preface';

/** istiod could not be reached. The message says what was tried, where, what was seen and what to do. */
export class DialError extends CodedError<DialErrorCode> {
  override readonly name = 'DialError';
}
