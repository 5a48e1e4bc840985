import { createHash } from 'node:crypto';
import type { Sha256 } from '../../../cache/types.ts';
import { describeError } from '../../log.ts';
import { parsePublicKeys, type SignatureAlgorithm, type SignerKey } from './public-key.ts';
import { schemaProblem } from './schema-problem.ts';
import { parseTrustedRoot, type TrustedRoot } from './trusted-root.ts';

/** Somebody whose signature is taken: who holds one of these keys. No log and no time is asked of their signatures. */
export interface KeySigner {
  readonly kind: 'key';
  readonly name: string;
  /** At least one. */
  readonly keys: readonly SignerKey[];
}

/** Whom a certificate must be for. */
export interface SignerIdentity {
  /** The OIDC issuer, exact. */
  readonly issuer: string;
  /** The certificate's subject alternative name. A pattern matches all of it: it is anchored at both ends. */
  readonly subject:
    | { readonly kind: 'exact'; readonly text: string }
    | { readonly kind: 'pattern'; readonly pattern: RegExp };
}

/** Somebody whose signature is taken: who got a certificate for one of these identities under this root. */
export interface KeylessSigner {
  readonly kind: 'keyless';
  readonly name: string;
  readonly trustedRoot: TrustedRoot;
  /** At least one. */
  readonly identities: readonly SignerIdentity[];
}

/** Somebody whose signature on an image is taken. */
export type Signer = KeySigner | KeylessSigner;

export type SignersParse =
  | { readonly kind: 'parsed'; readonly signers: readonly Signer[] }
  | { readonly kind: 'rejected'; readonly problems: readonly string[] };

const maxSignerCount = 64;
const maxKeyCount = 64;

/**
 * Reads the signers of a policy file from plain data: a list of
 * `{ kind: 'key', name, publicKeys: [PEM], algorithms? }` and
 * `{ kind: 'keyless', name, trustedRoot: <content of trusted_root.json>, identities: [{ issuer, subject | subjectPattern }] }`.
 * All problems are reported at once, each with its place. Loads its schema library with the first call.
 */
export async function parseSigners(data: unknown): Promise<SignersParse> {
  const { signersSchema } = await import('./signer-schema.ts');
  const parsed = signersSchema.safeParse(data);
  if (!parsed.success) {
    return {
      kind: 'rejected',
      problems: parsed.error.issues.map((issue) => schemaProblem('signers', issue)),
    };
  }
  const problems: string[] = [];
  const signers: Signer[] = [];
  const names = new Set<string>();
  if (parsed.data.length > maxSignerCount)
    problems.push(`signers: there are ${parsed.data.length}, more than ${maxSignerCount}`);
  for (const [index, raw] of parsed.data.slice(0, maxSignerCount).entries()) {
    const place = `signers.${index} (${JSON.stringify(raw.name)})`;
    if (names.has(raw.name)) problems.push(`${place}: another signer has this name; names must differ`);
    names.add(raw.name);
    const { signer, faults } = raw.kind === 'key' ? readKeySigner(raw) : await readKeylessSigner(raw);
    problems.push(...faults.map((fault) => `${place}.${fault}`));
    signers.push(signer);
  }
  return problems.length > 0 ? { kind: 'rejected', problems } : { kind: 'parsed', signers };
}

interface Read {
  readonly signer: Signer;
  readonly faults: readonly string[];
}

function readKeySigner(raw: {
  readonly name: string;
  readonly publicKeys: readonly string[];
  readonly algorithms?: readonly SignatureAlgorithm[] | undefined;
}): Read {
  const faults: string[] = [];
  const keys = raw.publicKeys.flatMap((pem, index) => {
    const parsed = parsePublicKeys(pem, raw.algorithms);
    if (parsed.kind === 'parsed') return parsed.keys;
    faults.push(`publicKeys.${index}: ${parsed.problem}`);
    return [];
  });
  if (keys.length > maxKeyCount)
    faults.push(`publicKeys: there are ${keys.length} keys, more than ${maxKeyCount}`);
  return { signer: { kind: 'key', name: raw.name, keys }, faults };
}

async function readKeylessSigner(raw: {
  readonly name: string;
  readonly trustedRoot: unknown;
  readonly identities: readonly RawIdentity[];
}): Promise<Read> {
  const faults: string[] = [];
  const root = await parseTrustedRoot(raw.trustedRoot);
  if (root.kind === 'rejected') faults.push(...root.problems.map((problem) => `trustedRoot: ${problem}`));
  const identities = raw.identities.flatMap((identity, index) => {
    const subject = readSubject(identity);
    if (typeof subject !== 'string') return [{ issuer: identity.issuer, subject }];
    faults.push(`identities.${index}: ${subject}`);
    return [];
  });
  const trustedRoot = root.kind === 'parsed' ? root.root : noRoot;
  return { signer: { kind: 'keyless', name: raw.name, trustedRoot, identities }, faults };
}

/** Trusts nothing; stands in where the root is faulty, so that the other faults are found too. */
const noRoot: TrustedRoot = {
  id: '',
  certificateAuthorities: [],
  timestampAuthorities: [],
  tlogs: [],
  ctlogs: [],
};

interface RawIdentity {
  readonly issuer: string;
  readonly subject?: string | undefined;
  readonly subjectPattern?: string | undefined;
}

function readSubject({ subject, subjectPattern }: RawIdentity): SignerIdentity['subject'] | string {
  if ((subject === undefined) === (subjectPattern === undefined)) {
    return 'give either "subject" (exact) or "subjectPattern" (a regular expression for all of it)';
  }
  if (subject !== undefined) return { kind: 'exact', text: subject };
  try {
    // Alone first: a stray bracket must not end the group of the anchored one.
    const { source } = new RegExp(subjectPattern ?? '', 'u');
    return { kind: 'pattern', pattern: new RegExp(`^(?:${source})$`, 'u') };
  } catch (error) {
    return `subjectPattern is no regular expression: ${describeError(error)}`;
  }
}

/**
 * A name for what a list of signers accepts, for keeping verdicts: it changes when a key, an algorithm, an identity or
 * a trusted root does, and not with names or order.
 */
export function signerSetId(signers: readonly Signer[]): Sha256 {
  const texts = signers.map((signer) => JSON.stringify(signerFacts(signer))).sort();
  return createHash('sha256').update(JSON.stringify(texts)).digest('hex');
}

function signerFacts(signer: Signer): unknown {
  switch (signer.kind) {
    case 'key':
      return ['key', signer.keys.map(({ id, algorithms }) => JSON.stringify([id, ...algorithms])).sort()];
    case 'keyless':
      return ['keyless', signer.trustedRoot.id, signer.identities.map(identityFacts).sort()];
    default:
      return signer satisfies never;
  }
}

function identityFacts({ issuer, subject }: SignerIdentity): string {
  return JSON.stringify([
    issuer,
    subject.kind,
    subject.kind === 'exact' ? subject.text : subject.pattern.source,
  ]);
}
