/** Why the fixture failed. */
export type ControlPlaneErrorCode =
  /** What a test waited for did not come in time. */
  | 'deadline'
  /** The control plane was closed, or stopped, while something needed it. */
  | 'not_running'
  /** A wait was given up by its signal. */
  | 'aborted'
  /** The port cannot be listened on, or the key pair is unusable. */
  | 'listen'
  /** No open stream has the number that was asked for. */
  | 'no_stream'
  /** A builder was given values from which no resource can be made. */
  | 'bad_resource';

/** A failure of the control plane fixture. The message says what was tried, what was seen and what to do. */
export class ControlPlaneError extends Error {
  override readonly name = 'ControlPlaneError';
  readonly code: ControlPlaneErrorCode;

  constructor(code: ControlPlaneErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
