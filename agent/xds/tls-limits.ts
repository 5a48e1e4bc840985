import { getFips } from 'node:crypto';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import type { CompliancePolicy } from '../config/compliance-policy.ts';
import { describeError, type Logger } from '../log.ts';

/** The part of the options of a TLS connection that a policy decides. */
type TlsLimits = Pick<SecureContextOptions, 'minVersion' | 'maxVersion' | 'ciphers' | 'ecdhCurve'>;

const suitesOfTls12 = [
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
];
const suitesOfTls13 = ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384'];

/** Versions, suites and key exchange groups (istio/istio `pkg/model/fips.go`, EnforceGoCompliance). */
const limitsByPolicy: Readonly<Record<CompliancePolicy, TlsLimits>> = {
  'fips-140-2': {
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.2',
    ciphers: suitesOfTls12.join(':'),
    ecdhCurve: 'P-256',
  },
  'fips-140-3': {
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
    ciphers: [...suitesOfTls13, ...suitesOfTls12].join(':'),
    ecdhCurve: 'P-256:P-384',
  },
  pqc: {
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    ciphers: suitesOfTls13.join(':'),
    ecdhCurve: 'X25519MLKEM768',
  },
};

/** How far a connection to istiod or to the CA is limited; without a policy only by the oldest version, TLS 1.2. */
export function tlsLimits(policy: CompliancePolicy | undefined): TlsLimits {
  return policy === undefined ? { minVersion: 'TLSv1.2' } : limitsByPolicy[policy];
}

/**
 * To be asked once at start. Throws Error when the TLS library of this process cannot do what the policy asks for: no
 * connection could be made then, or one outside of the policy. `limits` are given by tests alone.
 */
export function checkCompliance(
  policy: CompliancePolicy,
  log: Logger,
  limits: TlsLimits = tlsLimits(policy),
): void {
  try {
    createSecureContext(limits);
  } catch (error) {
    const library = `Node.js ${process.versions.node} with OpenSSL ${process.versions.openssl}`;
    const remedy = 'run the agent with a newer Node.js, or set another policy';
    const message = `COMPLIANCE_POLICY ${policy} cannot be kept: ${library} cannot do ${limits.ecdhCurve} with its cipher suites (${describeError(error)}); ${remedy}`;
    throw new Error(message, { cause: error });
  }
  if (policy !== 'pqc' && getFips() !== 1) {
    log.warn('COMPLIANCE_POLICY limits TLS to the algorithms of FIPS, but OpenSSL is not in FIPS mode', {
      policy,
    });
  }
}
