import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { getCACertificates } from 'node:tls';
import type { XdsTlsConfig } from '../config/agent-config.ts';
import { describeError, type Logger } from '../log.ts';
import { DialError } from './dial-error.ts';

const certificatePattern = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

/**
 * The certificates that istiod's must chain to, read anew for each connection so that a rotated root counts at once.
 * Throws DialError `bad_root`: an empty list must never reach Node, which would trust its built-in roots instead.
 */
export async function readRoots(root: XdsTlsConfig['root']): Promise<readonly string[]> {
  if (root.kind === 'system') {
    const roots = getCACertificates('system');
    if (roots.length > 0) return roots;
    throw new DialError(
      'bad_root',
      'the system has no root certificates: install a CA bundle or set XDS_ROOT_CA to a file',
    );
  }
  let text: string;
  try {
    text = await readFile(root.path, 'utf8');
  } catch (error) {
    throw new DialError(
      'bad_root',
      `failed to read the root certificate for istiod at ${root.path}: ${describeError(error)}; mount it there or set XDS_ROOT_CA`,
      { cause: error },
    );
  }
  const certificates = text.match(certificatePattern) ?? [];
  const usable = certificates.filter((certificate) => isCertificate(certificate));
  if (usable.length > 0) return usable;
  throw new DialError(
    'bad_root',
    `the root certificate file ${root.path} holds no readable PEM certificate (${certificates.length} found): write istiod's root to it`,
  );
}

/** A pair that was checked and may be presented to istiod. */
export interface ClientCertificate {
  readonly key: string;
  readonly certificate: string;
}

/**
 * The client certificate for one handshake; undefined when none is configured or the pair cannot be used now, which
 * is logged: the token may be enough for istiod (`security/pkg/nodeagent/caclient`, one rule for every defect).
 */
export async function readClientCertificate(
  paths: XdsTlsConfig['clientCertificate'],
  log: Logger,
  now: Date = new Date(),
): Promise<ClientCertificate | undefined> {
  if (paths === undefined) return undefined;
  const { keyPath, certificatePath } = paths;
  try {
    const [key, certificate] = await Promise.all([
      readFile(keyPath, 'utf8'),
      readFile(certificatePath, 'utf8'),
    ]);
    const leaf = new X509Certificate(certificate);
    if (leaf.validToDate < now)
      throw new Error(`certificate has expired at ${leaf.validToDate.toISOString()}`);
    if (leaf.validFromDate > now) {
      throw new Error(`certificate is not valid before ${leaf.validFromDate.toISOString()}`);
    }
    if (!leaf.checkPrivateKey(createPrivateKey(key)))
      throw new Error('key does not belong to the certificate');
    return { key, certificate };
  } catch (error) {
    log.warn('client certificate for istiod cannot be used: connecting without it', {
      keyPath,
      certificatePath,
      reason: describeError(error),
    });
    return undefined;
  }
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).raw.length > 0;
  } catch {
    return false;
  }
}
