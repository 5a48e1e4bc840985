export type DnsErrorCode =
  /** A listener cannot be opened. */
  | 'bind'
  /** The address to listen on, or resolv.conf, cannot be used. */
  | 'settings'
  /** A name table that is too large to hold. */
  | 'table';

/** The DNS proxy cannot do what it was asked. The message says what to do. */
export class DnsError extends Error {
  override readonly name = 'DnsError';
  readonly code: DnsErrorCode;

  constructor(code: DnsErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
