import type { IdentityMetrics } from '../../metrics/identity-metrics.ts';
import type { Clock } from '../clock.ts';
import type { CsrConfig } from '../config/identity-config.ts';
import { describeError, type Logger } from '../log.ts';
import type { CertificateSigner } from './ca-client.ts';
import { type CertificateRequest, createCertificateRequest } from './csr.ts';
import { IdentityError } from './identity-error.ts';
import { certificateBlocks, joinCertificates, parseCertificate } from './pem.ts';

/** A certificate of the workload with all that goes with it. */
export interface IssuedCertificate {
  /** Leaf, intermediates and root; PEM. */
  readonly certificateChain: Buffer;
  /** PEM. A secret. */
  readonly privateKey: Buffer;
  /** Last entry of the chain; PEM. */
  readonly root: string;
  /** Epoch ms. */
  readonly issuedAtMs: number;
  /** Of the leaf, epoch ms. */
  readonly notAfterMs: number;
}

export interface CertificateIssuerOptions {
  readonly csr: CsrConfig;
  readonly certificateTtlMs: number;
  readonly certSigner: string;
  readonly signer: CertificateSigner;
  readonly metrics: IdentityMetrics;
  readonly log: Logger;
  readonly clock: Clock;
}

/**
 * Gets a certificate for a new key each time it is asked (`secretcache.go`, generateNewSecret). A request that the CA has
 * not answered with a certificate is sent again the next time: to make an RSA key costs some 100 ms of CPU, and all pods
 * of a node would do so at each attempt while a CA is away.
 */
export class CertificateIssuer {
  readonly #options: CertificateIssuerOptions;
  #unanswered: CertificateRequest | undefined;

  constructor(options: CertificateIssuerOptions) {
    this.#options = options;
  }

  /** Throws IdentityError `ca_unavailable`, `ca_refused` or `ca_answer`; rejects with the signal's reason when aborted. */
  async issue(options: { readonly signal: AbortSignal }): Promise<IssuedCertificate> {
    const { csr, certificateTtlMs, certSigner, signer, metrics, log, clock } = this.#options;
    this.#unanswered ??= await createCertificateRequest(csr);
    const request = this.#unanswered;
    options.signal.throwIfAborted();
    metrics.csrSent();
    const startedAtMs = performance.now();
    try {
      const chain = await signer.sign(
        { csr: request.csr, validitySeconds: Math.floor(certificateTtlMs / 1000), certSigner },
        options,
      );
      this.#unanswered = undefined;
      const issued = acceptChain(chain, request, clock.now());
      log.info('generated new workload certificate', {
        resourceName: 'default',
        latencyMs: Math.round(performance.now() - startedAtMs),
        ttlSeconds: Math.round((issued.notAfterMs - issued.issuedAtMs) / 1000),
      });
      return issued;
    } catch (error) {
      metrics.csrFailed();
      if (!options.signal.aborted) {
        log.error('failed to sign the workload certificate', { reason: describeError(error) });
      }
      throw error;
    } finally {
      metrics.csrDurationMs(performance.now() - startedAtMs);
    }
  }
}

/**
 * Checks what a CA answered before Envoy sees it. Throws IdentityError `ca_answer`. An expired certificate is refused,
 * because its rotation would be due at once, for ever.
 */
export function acceptChain(
  chain: readonly string[],
  request: Pick<CertificateRequest, 'key' | 'privateKey'>,
  nowMs: number,
): IssuedCertificate {
  const [first = ''] = chain;
  const last = chain.at(-1) ?? '';
  if (chain.length < 2) {
    throw refused(`has ${chain.length} certificates instead of a leaf and its root`);
  }
  const leaf = parseCertificate(certificateBlocks(first)[0] ?? '');
  if (leaf === undefined) throw refused('does not begin with a readable PEM certificate');
  if (!certificateBlocks(last).some((block) => parseCertificate(block) !== undefined)) {
    throw refused('does not end with a readable PEM root certificate');
  }
  if (!leaf.checkPrivateKey(request.privateKey))
    throw refused('is for another key than the one that was sent');
  const notAfterMs = leaf.validToDate.getTime();
  if (notAfterMs <= nowMs) {
    const expiry = leaf.validToDate.toISOString();
    throw refused(
      `has a certificate that expired at ${expiry}; compare the clocks of the CA and this machine`,
    );
  }
  return {
    certificateChain: Buffer.from(joinCertificates(chain)),
    privateKey: request.key,
    root: last,
    issuedAtMs: nowMs,
    notAfterMs,
  };
}

function refused(what: string): IdentityError {
  return new IdentityError('ca_answer', `the chain that the CA answered ${what}`);
}
