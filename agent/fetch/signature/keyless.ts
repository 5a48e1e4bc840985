import { X509Certificate } from 'node:crypto';
import type { bundleFromJSON } from '@sigstore/bundle';
import type {
  SignedEntity,
  toSignedEntity,
  toTrustMaterial,
  VerificationError,
  Verifier,
} from '@sigstore/verify';
import { describeError } from '../../log.ts';
import type { KeylessSigner, SignerIdentity } from './signer.ts';
import type { TrustedAuthority, TrustedLog, TrustedRoot } from './trusted-root.ts';
import { type Fault, printable } from './verdict.ts';

type SigstoreBundle = ReturnType<typeof bundleFromJSON>;
type LibraryRoot = Parameters<typeof toTrustMaterial>[0];
type LibraryLog = LibraryRoot['tlogs'][number];

export type KeylessOutcome =
  | {
      readonly kind: 'good';
      readonly issuer: string;
      readonly subject: string;
      /** The signed DSSE payload as it was verified; undefined for a signature over an artifact. */
      readonly envelope: { readonly payloadType: string; readonly payload: Uint8Array } | undefined;
    }
  | { readonly kind: 'bad'; readonly fault: Fault };

interface Libraries {
  readonly bundleFromJSON: typeof bundleFromJSON;
  readonly toSignedEntity: typeof toSignedEntity;
  readonly VerificationError: typeof VerificationError;
  /** Undefined: the library cannot read the trusted root. */
  readonly verifier: Verifier | undefined;
}

const codeSigning = '1.3.6.1.5.5.7.3.3';
/** Longer names are not matched against patterns, whose time may grow with the text. */
const maxSubjectLength = 2048;

/**
 * Verifies signatures made with short-lived certificates, offline: against the operator's trusted root only. What the
 * root names is demanded: with a transparency log, an entry in it; with a certificate log, its promise in the
 * certificate; always one proven time at which the certificate was valid. The library is loaded with the first use.
 */
export class KeylessVerifier {
  readonly signer: KeylessSigner;
  #libraries: Promise<Libraries> | undefined;

  constructor(signer: KeylessSigner) {
    this.signer = signer;
  }

  /** `bundle` is a parsed Sigstore bundle of any version; `artifact` what it signs where that is not inside. */
  async verify(bundle: unknown, artifact: Buffer | undefined): Promise<KeylessOutcome> {
    this.#libraries ??= loadLibraries(this.signer.trustedRoot);
    const libraries = await this.#libraries;
    const { verifier } = libraries;
    if (verifier === undefined) return bad(unusableRoot);
    const read = readBundle(libraries, bundle, artifact);
    if (read.kind === 'bad') return read;
    const fault = certificateFault(read.leaf) ?? timeFault(read.entity);
    if (fault !== undefined) return bad(fault);
    let identity: Identity;
    try {
      identity = identityOf(verifier.verify(read.entity));
    } catch (error) {
      // Anything: the library meets bytes that anybody may have written, and all its failures mean "not verified".
      return bad(explain(error, read, libraries));
    }
    if (!this.signer.identities.some((wanted) => isIdentity(wanted, identity))) {
      return bad(wrongIdentity(identity, this.signer.identities));
    }
    const { content } = read.bundle;
    const envelope = content.$case === 'dsseEnvelope' ? content.dsseEnvelope : undefined;
    return { kind: 'good', ...identity, envelope };
  }
}

async function loadLibraries(root: TrustedRoot): Promise<Libraries> {
  const [{ bundleFromJSON }, { toSignedEntity, toTrustMaterial, VerificationError, Verifier }] =
    await Promise.all([import('@sigstore/bundle'), import('@sigstore/verify')]);
  const thresholds = {
    tlogThreshold: root.tlogs.length > 0 ? 1 : 0,
    ctlogThreshold: root.ctlogs.length > 0 ? 1 : 0,
    timestampThreshold: 1,
  };
  let verifier: Verifier | undefined;
  try {
    verifier = new Verifier(toTrustMaterial(libraryRoot(root)), thresholds);
  } catch {
    // Told with the first signature: see `unusableRoot`.
  }
  return { bundleFromJSON, toSignedEntity, VerificationError, verifier };
}

const unusableRoot: Fault = {
  code: 'wrong_certificate',
  seen: 'the trusted root of the signer cannot be used: a certificate in it is of a form that the verifier does not read',
  advice: 'make the trusted root again with "cosign trusted-root create"',
};

/** The trusted root in the library's form; what is only for display is left empty. */
function libraryRoot(root: TrustedRoot): LibraryRoot {
  const authority = ({
    chain,
    validFor,
  }: TrustedAuthority): LibraryRoot['certificateAuthorities'][number] => ({
    subject: undefined,
    uri: '',
    operator: '',
    certChain: { certificates: chain.map((rawBytes) => ({ rawBytes })) },
    validFor,
  });
  const log = ({ baseUrl, logId, checkpointKeyId, publicKey, validFor }: TrustedLog): LibraryLog =>
    ({
      baseUrl,
      operator: '',
      publicKey: { rawBytes: publicKey, validFor },
      logId: { keyId: logId },
      checkpointKeyId: checkpointKeyId === undefined ? undefined : { keyId: checkpointKeyId },
      // Without the kinds of hash and key: the library takes a key of no kind as SPKI, and asks for no hash.
    }) as LibraryLog;
  return {
    mediaType: '',
    certificateAuthorities: root.certificateAuthorities.map(authority),
    timestampAuthorities: root.timestampAuthorities.map(authority),
    tlogs: root.tlogs.map(log),
    ctlogs: root.ctlogs.map(log),
  };
}

interface ReadBundle {
  readonly kind: 'read';
  readonly bundle: SigstoreBundle;
  readonly entity: SignedEntity;
  readonly leaf: X509Certificate;
}

function readBundle(
  libraries: Libraries,
  json: unknown,
  artifact: Buffer | undefined,
): ReadBundle | Extract<KeylessOutcome, { kind: 'bad' }> {
  try {
    const bundle = libraries.bundleFromJSON(json);
    const { content } = bundle.verificationMaterial;
    if (content.$case === 'publicKey') {
      const seen = 'it was made with a bare key, without a certificate';
      return bad({
        code: 'wrong_signature',
        seen,
        advice: 'sign with an identity, or name the key as a signer',
      });
    }
    const certificate =
      content.$case === 'certificate' ? content.certificate : content.x509CertificateChain.certificates[0];
    const leaf = new X509Certificate(certificate?.rawBytes ?? Buffer.alloc(0));
    return { kind: 'read', bundle, leaf, entity: libraries.toSignedEntity(bundle, artifact) };
  } catch (error) {
    const seen = `it is no usable Sigstore bundle: ${printable(describeError(error))}`;
    return bad({ code: 'malformed', seen, advice: 'sign the image again with cosign' });
  }
}

function bad(fault: Fault): Extract<KeylessOutcome, { kind: 'bad' }> {
  return { kind: 'bad', fault };
}

/** The library checks the way up to the root, not what the certificate is for. */
function certificateFault(leaf: X509Certificate): Fault | undefined {
  // `keyUsage` of node is the extended key usage; it is undefined where there is none.
  const usages: readonly string[] | undefined = leaf.keyUsage;
  if (!leaf.ca && (usages ?? []).includes(codeSigning)) return undefined;
  const seen = leaf.ca ? "its certificate is an authority's" : 'its certificate is not for code signing';
  return {
    code: 'wrong_certificate',
    seen,
    advice: 'sign with a certificate from the Fulcio of the trusted root',
  };
}

function timeFault(entity: SignedEntity): Fault | undefined {
  // As the library counts: an entry without an inclusion promise proves no time.
  const isProving = (timestamp: SignedEntity['timestamps'][number]): boolean =>
    timestamp.$case === 'timestamp-authority' || timestamp.tlogEntry.inclusionPromise !== undefined;
  if (entity.timestamps.some(isProving)) return undefined;
  return {
    code: 'unproven_time',
    seen: 'it holds neither a signed log entry nor a timestamp, so nothing proves that its certificate was valid then',
    advice: 'sign with a transparency log or a timestamp authority, and let cosign attach the proof',
  };
}

interface Identity {
  readonly issuer: string;
  readonly subject: string;
}

function identityOf({ identity }: ReturnType<Verifier['verify']>): Identity {
  return { issuer: identity?.extensions?.issuer ?? '', subject: identity?.subjectAlternativeName ?? '' };
}

function isIdentity(wanted: SignerIdentity, { issuer, subject }: Identity): boolean {
  if (wanted.issuer !== issuer || subject.length > maxSubjectLength) return false;
  switch (wanted.subject.kind) {
    case 'exact':
      return wanted.subject.text === subject;
    case 'pattern':
      return wanted.subject.pattern.test(subject);
    default:
      return wanted.subject satisfies never;
  }
}

function wrongIdentity(identity: Identity, wanted: readonly SignerIdentity[]): Fault {
  const isIssuerKnown = wanted.some((each) => each.issuer === identity.issuer);
  const part = isIssuerKnown ? 'the subject is not one of the signer' : 'the issuer is not one of the signer';
  return {
    code: 'wrong_identity',
    seen: `it is of ${printable(identity.subject) || '(no subject)'}, by issuer ${printable(identity.issuer) || '(none)'}: ${part}`,
    advice: 'sign with the right identity, or add this one to the signer if it may sign',
  };
}

/** Why the library refused. Only the explanation is made here, from claims that may be false; the refusal stands. */
function explain(error: unknown, { leaf, entity }: ReadBundle, libraries: Libraries): Fault {
  const code: unknown = error instanceof libraries.VerificationError ? error.code : undefined;
  const text = printable(describeError(error));
  if (code === 'SIGNATURE_ERROR') {
    const seen = `the signature is not over these bytes: ${text}`;
    return {
      code: 'wrong_signature',
      seen,
      advice: 'the signature or what it signs was altered; sign the image again',
    };
  }
  const outside = claimedTimes(entity).find((time) => time < leaf.validFromDate || time > leaf.validToDate);
  if (code === 'CERTIFICATE_ERROR' && outside !== undefined) {
    const range = `${leaf.validFromDate.toISOString()} to ${leaf.validToDate.toISOString()}`;
    return {
      code: 'expired',
      seen: `it was made at ${outside.toISOString()}, its certificate was valid from ${range}`,
      advice: 'sign the image again with a new certificate',
    };
  }
  return {
    code: 'wrong_certificate',
    seen: `it does not hold under the trusted root: ${text}`,
    advice: 'check that the trusted root is that of the Sigstore it was signed with, and current',
  };
}

function claimedTimes(entity: SignedEntity): readonly Date[] {
  try {
    return entity.timestamps.map((timestamp) =>
      timestamp.$case === 'timestamp-authority'
        ? timestamp.timestamp.signingTime
        : new Date(Number(timestamp.tlogEntry.integratedTime) * 1000),
    );
  } catch {
    // A timestamp whose inside cannot be read claims nothing.
    return [];
  }
}
