import type { OutgoingHttpHeaders } from 'node:http2';
import type { Socket } from 'node:net';
import type { IdentityMetrics } from '../../metrics/identity-metrics.ts';
import { type Clock, wait } from '../clock.ts';
import type { CaConfig } from '../config/identity-config.ts';
import { describeError, type Logger } from '../log.ts';
import { dial } from '../xds/dial.ts';
import { DialError } from '../xds/dial-error.ts';
import { type GrpcStatus, grpcCode } from '../xds/grpc-status.ts';
import { isLoopback, readToken } from '../xds/request-metadata.ts';
import { readRoots } from '../xds/tls-material.ts';
import { describeRefusal, describeUnreachable } from './ca-failure.ts';
import { decodeSigningAnswer, encodeSigningRequest, type SigningRequest } from './ca-messages.ts';
import { IdentityError } from './identity-error.ts';
import { callUnary } from './unary-call.ts';

/** The one provider of the open source agent. */
const supportedProvider = 'Citadel';
const methodPath = '/istio.v1.auth.IstioCertificateService/CreateCertificate';

/** Attempts for one request, the first included (`pkg/security/retry.go`). */
const maxAttemptCount = 5;
const firstWaitMs = 100;
/** Each wait is moved up or down by up to this part of it. */
const waitSpread = 0.1;
/** For look-up, TCP and TLS together. */
const dialTimeoutMs = 10_000;
/** istiod itself waits up to 60 s for a signer of Kubernetes (`security/pkg/k8s/chiron/utils.go`). */
const callTimeoutMs = 90_000;
/** A chain is a few kilobytes. */
const maxAnswerBytes = 1024 * 1024;

/** Those that may pass: the stock agent's list (`pkg/security/retry.go`). */
const retryableCodes: ReadonlySet<number> = new Set([
  grpcCode.cancelled,
  grpcCode.deadlineExceeded,
  grpcCode.resourceExhausted,
  10, // ABORTED
  grpcCode.internal,
  grpcCode.unavailable,
]);

/** Has certificates signed. */
export interface CertificateSigner {
  /** The chain as PEM texts, leaf first, root last. Throws IdentityError; rejects with the signal's reason when aborted. */
  sign(request: SigningRequest, options: { readonly signal: AbortSignal }): Promise<readonly string[]>;
}

export interface CaClientOptions {
  readonly config: CaConfig;
  readonly metrics: IdentityMetrics;
  readonly log: Logger;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
}

type Attempt =
  | { readonly kind: 'signed'; readonly chain: readonly string[] }
  | { readonly kind: 'failed'; readonly error: IdentityError; readonly isRetryable: boolean };

/**
 * Asks istiod, or another CA with its API, to sign (`security/pkg/nodeagent/caclient/providers/citadel/client.go`).
 * Each attempt has a connection of its own, with roots, token and client certificate read anew: requests are hours
 * apart, and a rotated root counts at once.
 */
export class CaClient implements CertificateSigner {
  readonly #options: CaClientOptions;

  constructor(options: CaClientOptions) {
    this.#options = options;
  }

  /**
   * Whether the settings can work at all: to be asked before anything is started, because a pod without its root file
   * is better restarted. Throws IdentityError `bad_config` or `bad_root`.
   */
  async check(): Promise<void> {
    const { config } = this.#options;
    if (config.provider !== supportedProvider) {
      throw new IdentityError(
        'bad_config',
        `CA provider "${config.provider}" (CA_PROVIDER, or from CA_ADDR ${config.address}) is not registered: use ${supportedProvider}`,
      );
    }
    if (config.tls === undefined) return;
    const { root } = config.tls;
    if (root.kind === 'none') throw noRootError();
    try {
      await readRoots(root);
    } catch (error) {
      throw new IdentityError('bad_root', describeUnreachable(config, error), causeOf(error));
    }
  }

  async sign(request: SigningRequest, options: { readonly signal: AbortSignal }): Promise<readonly string[]> {
    const { clock, random, metrics, log } = this.#options;
    const message = encodeSigningRequest(request);
    for (let attemptCount = 1; ; attemptCount += 1) {
      const attempt = await this.#attempt(message, options.signal);
      if (attempt.kind === 'signed') return attempt.chain;
      if (!attempt.isRetryable || attemptCount >= maxAttemptCount) throw attempt.error;
      const waitMs = firstWaitMs * 2 ** (attemptCount - 1) * (1 + waitSpread * (2 * random() - 1));
      log.warn('ca request failed, starting another attempt', {
        attempt: attemptCount,
        waitMs: Math.round(waitMs),
        reason: attempt.error.message,
      });
      metrics.csrRetried();
      await wait(clock, waitMs, options);
    }
  }

  async #attempt(message: Buffer, signal: AbortSignal): Promise<Attempt> {
    const { config, log } = this.#options;
    const token = await readToken(config.tokenPath, log);
    let socket: Socket;
    try {
      socket = await this.#dial(signal);
    } catch (error) {
      signal.throwIfAborted();
      const text = describeUnreachable(config, error);
      return {
        kind: 'failed',
        error: new IdentityError('ca_unavailable', text, causeOf(error)),
        isRetryable: !(error instanceof DialError && error.code === 'bad_address'),
      };
    }
    const outcome = await callUnary(socket, {
      headers: this.#headers(token, socket.remoteAddress),
      message,
      maxAnswerBytes,
      timeoutMs: callTimeoutMs,
      keepaliveIntervalMs: config.keepaliveIntervalMs,
      keepaliveTimeoutMs: config.keepaliveTimeoutMs,
      signal,
    });
    if (outcome.kind === 'failed') return this.#failed(outcome.status, token);
    try {
      return { kind: 'signed', chain: decodeSigningAnswer(outcome.message) };
    } catch (error) {
      const text = `the answer of the CA at ${config.address} cannot be read: ${describeError(error)}`;
      return { kind: 'failed', error: new IdentityError('ca_answer', text), isRetryable: false };
    }
  }

  async #dial(signal: AbortSignal): Promise<Socket> {
    const { config, log } = this.#options;
    const { address, tls, keepaliveIntervalMs } = config;
    const limits = { timeoutMs: dialTimeoutMs, signal };
    const plain = { discoveryAddress: address, tls: undefined, keepaliveIntervalMs };
    if (tls === undefined) return await dial(plain, log, limits);
    const { root } = tls;
    if (root.kind === 'none') throw noRootError();
    return await dial({ ...plain, tls: { ...tls, root } }, log, limits);
  }

  #headers(token: string | undefined, remoteAddress: string | undefined): OutgoingHttpHeaders {
    const { config, log } = this.#options;
    const isTokenSafe = config.tls !== undefined || isLoopback(remoteAddress);
    if (token !== undefined && !isTokenSafe) {
      log.warn('the token is not sent to the CA over plaintext: use TLS, or a CA on this machine', {
        path: config.tokenPath,
      });
    }
    return {
      ':method': 'POST',
      ':scheme': config.tls === undefined ? 'http' : 'https',
      ':authority': config.tls?.serverName ?? config.address,
      ':path': methodPath,
      te: 'trailers',
      'content-type': 'application/grpc',
      'user-agent': 'ferry-agent',
      clusterid: config.clusterId,
      ...config.headers,
      ...(token !== undefined && isTokenSafe ? { authorization: `Bearer ${token}` } : {}),
    };
  }

  #failed(status: GrpcStatus, token: string | undefined): Attempt {
    const { config } = this.#options;
    const isRetryable = retryableCodes.has(status.code);
    // A server that quotes the request must not bring its credentials into a log line.
    const secrets = [token, ...Object.values(config.headers)].filter((text) => text !== undefined);
    const text = describeRefusal(config, { ...status, message: redact(status.message, secrets) });
    return {
      kind: 'failed',
      error: new IdentityError(isRetryable ? 'ca_unavailable' : 'ca_refused', text),
      isRetryable,
    };
  }
}

function noRootError(): IdentityError {
  return new IdentityError(
    'bad_config',
    'root CA file for CA required but configured provider as none: set CA_ROOT_CA to a file or SYSTEM, or another PILOT_CERT_PROVIDER',
  );
}

/** A DialError speaks of istiod and its settings, so its own cause takes its place. */
function causeOf(error: unknown): ErrorOptions {
  return { cause: error instanceof DialError ? error.cause : error };
}

function redact(text: string, secrets: readonly string[]): string {
  return secrets
    .filter((secret) => secret !== '')
    .reduce((redacted, secret) => redacted.replaceAll(secret, '[redacted]'), text);
}
