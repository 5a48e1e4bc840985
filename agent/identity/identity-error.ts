import { CodedError } from '../coded-error.ts';

/** What went wrong on the certificate side. */
export type IdentityErrorCode =
  /** The settings ask for something this agent cannot do. */
  | 'bad_config'
  /** The roots that the CA is to be trusted by cannot be used. */
  | 'bad_root'
  /** A stale socket could not be removed, or the one that is asked for is not there. */
  | 'socket'
  /** The CA could not be reached, or could not serve now. */
  | 'ca_unavailable'
  /** The CA said no: another try with the same token will not help. */
  | 'ca_refused'
  /** What the CA answered cannot be used. */
  | 'ca_answer'
  /** A file is missing, unreadable or no regular file. */
  | 'file'
  /** A file is there, but what it holds cannot be used. */
  | 'file_content'
  /** Nothing serves the secret: no file, and no CA in this mode. */
  | 'no_source'
  /** A resource name that means nothing. */
  | 'bad_name'
  /** The agent is ending. */
  | 'closed';

/**
 * A certificate, key or root could not be had. The message says what was tried, on what, what was seen and what to do;
 * it never holds a key or a token.
 */
export class IdentityError extends CodedError<IdentityErrorCode> {
  override readonly name = 'IdentityError';
}
