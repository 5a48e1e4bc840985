import { describeError } from '../log.ts';
import { FetchError } from './types.ts';

/** What TLS failures are called by node and OpenSSL. */
const tlsCode =
  /^(?:ERR_TLS_|ERR_SSL_|CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|HOSTNAME_MISMATCH|CRL_|INVALID_CA|PATH_LENGTH_|EPROTO$)/;
/** TLS failures that are not about the certificate: the peer may not speak TLS at all. */
const tlsProtocolCode = /^(?:ERR_SSL_|EPROTO$)/;

/** The failure of a request or of its body as a FetchError: `timeout`, `aborted`, `tls` or `network`. */
export function networkFailure(
  error: unknown,
  options: { readonly tried: string; readonly signal: AbortSignal },
): FetchError {
  if (error instanceof FetchError) return error;
  const { signal, tried } = options;
  if (signal.aborted) return abortFailure(signal, tried);
  const inner = innermost(error);
  if (inner instanceof FetchError) return inner;
  const code = errorCode(inner);
  if (tlsCode.test(code)) {
    const advice = tlsProtocolCode.test(code)
      ? 'the server may not speak TLS at this port'
      : 'check the certificate and its authority, or list the host in WASM_INSECURE_REGISTRIES';
    return new FetchError('tls', `${tried}: ${describeError(error)} (${advice})`, { cause: error });
  }
  return new FetchError('network', `${tried}: ${describeError(error)}`, { cause: error });
}

/** The failure of work whose signal is aborted: `timeout` when a deadline did it, else `aborted`. */
export function abortFailure(signal: AbortSignal, tried: string): FetchError {
  const cause: unknown = signal.reason;
  const isTimeout = cause instanceof Error && cause.name === 'TimeoutError';
  return isTimeout
    ? new FetchError('timeout', `${tried}: no complete answer within the time limit`, { cause })
    : new FetchError('aborted', `${tried}: stopped, nobody waits for it any more`, { cause });
}

/** True for a failure that says the peer does not speak TLS or is not there, not that its certificate is wrong. */
export function isTlsAbsent(error: FetchError): boolean {
  if (error.code === 'network') return true;
  return error.code === 'tls' && tlsProtocolCode.test(errorCode(innermost(error.cause)));
}

/** True when trying again may help: the network failed, or one attempt took too long. */
export function isTransient(error: FetchError): boolean {
  if (error.code === 'network' || error.code === 'timeout') return true;
  // A connection that breaks in the handshake says nothing about the certificate.
  return error.code === 'tls' && /^EPROTO$|^ERR_SSL_SSL\/TLS_ALERT/.test(errorCode(innermost(error.cause)));
}

/** Deepest cause, or the first of several: the one that carries the system's code. */
function innermost(error: unknown): unknown {
  if (error instanceof AggregateError && error.errors.length > 0) return innermost(error.errors[0]);
  if (error instanceof Error && error.cause instanceof Error && !(error instanceof FetchError)) {
    return innermost(error.cause);
  }
  return error;
}

function errorCode(error: unknown): string {
  const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : '';
}
