import { CodedError } from '../coded-error.ts';

export type DnsErrorCode =
  /** A listener cannot be opened. */
  | 'bind'
  /** The address to listen on, or resolv.conf, cannot be used. */
  | 'settings'
  /** A name table that is too large to hold. */
  | 'table';

/** The DNS proxy cannot do what it was asked. The message says what to do. */
export class DnsError extends CodedError<DnsErrorCode> {
  override readonly name = 'DnsError';
}
