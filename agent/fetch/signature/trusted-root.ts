import { createHash, createPublicKey, X509Certificate } from 'node:crypto';
import type { Sha256 } from '../../../cache/types.ts';
import { describeError } from '../../log.ts';
import { schemaProblem } from './schema-problem.ts';
import { decodeBase64 } from './wire-text.ts';

/** Both ends inclusive; an open end is undefined. */
export interface TimeRange {
  readonly start: Date | undefined;
  readonly end: Date | undefined;
}

/** A certificate authority or timestamp authority. */
export interface TrustedAuthority {
  /** DER, the root last. */
  readonly chain: readonly Buffer[];
  readonly validFor: TimeRange;
}

/** A transparency log or certificate transparency log. */
export interface TrustedLog {
  readonly baseUrl: string;
  readonly logId: Buffer;
  /** What checkpoints call the log where that is not its id (Rekor 2). */
  readonly checkpointKeyId: Buffer | undefined;
  /** SubjectPublicKeyInfo in DER. */
  readonly publicKey: Buffer;
  readonly validFor: TimeRange;
}

/** What keyless signatures are verified against: an operator's `trusted_root.json`, checked. Nothing is fetched. */
export interface TrustedRoot {
  /** Changes with the content. */
  readonly id: Sha256;
  /** At least one. */
  readonly certificateAuthorities: readonly TrustedAuthority[];
  readonly timestampAuthorities: readonly TrustedAuthority[];
  /** When there is one, a signature must be in one. */
  readonly tlogs: readonly TrustedLog[];
  /** When there is one, a certificate must be in one. */
  readonly ctlogs: readonly TrustedLog[];
}

export type TrustedRootParse =
  | { readonly kind: 'parsed'; readonly root: TrustedRoot }
  | { readonly kind: 'rejected'; readonly problems: readonly string[] };

/** A document of this kind is a few kilobytes. */
const maxListLength = 64;

/**
 * Reads a parsed `trusted_root.json`. Every certificate and key is parsed here, so that a fault shows when the policy
 * is read and not when the first image comes.
 */
export async function parseTrustedRoot(document: unknown): Promise<TrustedRootParse> {
  const { trustedRootSchema } = await import('./signer-schema.ts');
  const parsed = trustedRootSchema.safeParse(document);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) => schemaProblem('', issue));
    return {
      kind: 'rejected',
      problems: [
        ...problems,
        'it must be the content of a trusted_root.json as "cosign trusted-root create" writes it',
      ],
    };
  }
  const problems: string[] = [];
  const authorities = (list: readonly RawAuthority[], field: string): TrustedAuthority[] =>
    collect(list, field, problems, readAuthority);
  const logs = (list: readonly RawLog[], field: string): TrustedLog[] =>
    collect(list, field, problems, readLog);
  const { data } = parsed;
  const content = {
    certificateAuthorities: authorities(data.certificateAuthorities, 'certificateAuthorities'),
    timestampAuthorities: authorities(data.timestampAuthorities, 'timestampAuthorities'),
    tlogs: logs(data.tlogs, 'tlogs'),
    ctlogs: logs(data.ctlogs, 'ctlogs'),
  };
  if (data.certificateAuthorities.length === 0)
    problems.push('certificateAuthorities: there is none, so no certificate could be trusted');
  if (data.tlogs.length === 0 && data.timestampAuthorities.length === 0) {
    problems.push(
      'tlogs, timestampAuthorities: there is neither, so nothing could prove when a signature was made',
    );
  }
  if (problems.length > 0) return { kind: 'rejected', problems };
  const id = createHash('sha256').update(JSON.stringify(data)).digest('hex');
  return { kind: 'parsed', root: { id, ...content } };
}

interface RawRange {
  readonly start?: string | null | undefined;
  readonly end?: string | null | undefined;
}
interface RawAuthority {
  readonly certChain: { readonly certificates: readonly { readonly rawBytes: string }[] };
  readonly validFor?: RawRange | null | undefined;
}
interface RawLog {
  readonly baseUrl: string;
  readonly publicKey: { readonly rawBytes: string; readonly validFor?: RawRange | null | undefined };
  readonly logId: { readonly keyId: string };
  readonly checkpointKeyId?: { readonly keyId: string } | null | undefined;
}

/** Reads every item, and adds what is wrong to `problems` under its place. */
function collect<Raw, Item>(
  list: readonly Raw[],
  field: string,
  problems: string[],
  read: (raw: Raw) => Item,
): Item[] {
  if (list.length > maxListLength) {
    problems.push(`${field}: there are ${list.length}, more than ${maxListLength}`);
    return [];
  }
  return list.flatMap((raw, index) => {
    try {
      return [read(raw)];
    } catch (error) {
      problems.push(`${field}.${index}: ${describeError(error)}`);
      return [];
    }
  });
}

function readAuthority(raw: RawAuthority): TrustedAuthority {
  const chain = raw.certChain.certificates.map(({ rawBytes }, index) => {
    const der = bytesOf(rawBytes, `certChain.certificates.${index}.rawBytes`);
    const certificate = new X509Certificate(der);
    // What was parsed is kept, not what was written: PEM is parsed as well.
    return { certificate, der: certificate.raw };
  });
  const root = chain.at(-1)?.certificate;
  if (root === undefined || !root.checkIssued(root) || !root.verify(root.publicKey)) {
    throw new TypeError('certChain does not end in a self-signed root certificate; add it as the last one');
  }
  return { chain: chain.map(({ der }) => der), validFor: readRange(raw.validFor) };
}

function readLog(raw: RawLog): TrustedLog {
  const der = bytesOf(raw.publicKey.rawBytes, 'publicKey.rawBytes');
  return {
    baseUrl: raw.baseUrl,
    logId: bytesOf(raw.logId.keyId, 'logId.keyId'),
    checkpointKeyId: raw.checkpointKeyId
      ? bytesOf(raw.checkpointKeyId.keyId, 'checkpointKeyId.keyId')
      : undefined,
    publicKey: publicKeyDer(der),
    validFor: readRange(raw.publicKey.validFor),
  };
}

/** Old RSA logs are PKCS #1; the rest is SubjectPublicKeyInfo. */
function publicKeyDer(der: Buffer): Buffer {
  const kinds = ['spki', 'pkcs1'] as const;
  for (const type of kinds) {
    try {
      return createPublicKey({ key: der, format: 'der', type }).export({ type: 'spki', format: 'der' });
    } catch {
      // The next kind, or the refusal below.
    }
  }
  throw new TypeError('publicKey.rawBytes is no public key in DER');
}

function readRange(raw: RawRange | null | undefined): TimeRange {
  return { start: readTime(raw?.start, 'start'), end: readTime(raw?.end, 'end') };
}

function readTime(text: string | null | undefined, field: string): Date | undefined {
  if (text === undefined || text === null) return undefined;
  const time = new Date(text);
  if (!/^\d{4}-\d\d-\d\dT/.test(text) || Number.isNaN(time.getTime())) {
    throw new TypeError(`validFor.${field} is no time such as "2026-01-31T00:00:00Z"`);
  }
  return time;
}

function bytesOf(text: string, field: string): Buffer {
  const bytes = decodeBase64(text);
  if (bytes === undefined) throw new TypeError(`${field} is no base64`);
  return bytes;
}
