import type { Sha256 } from '../../cache/types.ts';
import {
  anonymousReader,
  type CredentialRequest,
  type CredentialResolver,
  credentialFingerprint,
  type ResolvedCredential,
} from './credentials.ts';
import type { FetchSettings, MirrorPlace, ModuleTerms, SignerDemand } from './fetch-settings.ts';
import { unsignable } from './image-signatures.ts';
import { displayUrl, hostTextOf, type ModuleUrl, parseModuleUrl } from './module-url.ts';
import { type OciReference, repositoryName } from './oci/reference.ts';
import { isSha256 } from './pin.ts';
import type { Signer } from './signature/signer.ts';
import type { Rung } from './source-ladder.ts';
import { FetchError, type ModuleRequest } from './types.ts';

/** Where the bytes of a wanted module are. */
export type ModuleOrigin =
  | { readonly kind: 'http'; readonly url: string }
  | { readonly kind: 'oci'; readonly reference: OciReference; readonly credential: ResolvedCredential };

/** Who must have signed, as it was when the request came. */
export interface WantedSigners {
  readonly signers: readonly Signer[];
  /** Changes with whom and what they accept. */
  readonly setId: Sha256;
}

/** A request with everything that is decided before the cache or the network is asked. */
export interface WantedModule {
  readonly request: ModuleRequest;
  /** For messages and logs. */
  readonly display: string;
  readonly origin: ModuleOrigin;
  /** Where it is looked for, in order; the last is the origin. */
  readonly rungs: readonly Rung[];
  readonly terms: ModuleTerms;
  /** What modules of the same place share in the cache: the repository, or the whole URL. May hold secrets. */
  readonly name: string;
  /** The config's sha256, else the digest in the reference. */
  readonly pin: Sha256 | undefined;
  /** False: what the URL meant last time is good enough, whatever the config's version. */
  readonly isVersionHeeded: boolean;
  /** Fingerprint of the credentials that may be used. */
  readonly reader: string;
  /** Undefined: no signature is asked for. */
  readonly signers: WantedSigners | undefined;
}

export interface WantOptions {
  readonly credentials: CredentialResolver;
  readonly fingerprintKey: () => Uint8Array;
  readonly settings: FetchSettings;
}

/** A request as far as it is read without looking anything up. */
interface Asked<Url extends ModuleUrl = ModuleUrl> {
  readonly request: ModuleRequest;
  readonly url: Url;
  readonly terms: ModuleTerms;
  readonly sha256: Sha256 | undefined;
}

/** What was looked up for a request. */
interface Found {
  readonly mirrors: readonly Rung[];
  readonly signers: WantedSigners | undefined;
}

type FileUrl = Extract<ModuleUrl, { readonly kind: 'http' }>;
type ImageUrl = Extract<ModuleUrl, { readonly kind: 'oci' }>;

/**
 * Decides what a request wants. Throws FetchError `bad_url`, `unsupported_scheme`, `bad_checksum`, `bad_pull_secret`,
 * `unsigned` for what can have no signature; the result, where there is one, is what the stock agent counts.
 */
export async function wantModule(request: ModuleRequest, options: WantOptions): Promise<WantedModule> {
  const asked = readRequest(request, options);
  const { url, terms } = asked;
  const signers = await wantedSigners(options.settings.signersFor(request.url));
  const mirrors = await Promise.all(
    terms.mirrors.map(async (mirror) => mirrorRung(mirror, request, options)),
  );
  const found = { mirrors, signers };
  switch (url.kind) {
    case 'http':
      return wantFile({ ...asked, url }, found);
    case 'oci': {
      const credential = await options.credentials.resolve(credentialRequest(url, request));
      return wantImage({ ...asked, url }, found, credential, options);
    }
    default:
      return url satisfies never;
  }
}

/**
 * The same for a request for which nothing has to be looked up that takes time; undefined for all others. Throws as
 * `wantModule` does.
 */
export function wantAtHand(request: ModuleRequest, options: WantOptions): WantedModule | undefined {
  const asked = readRequest(request, options);
  const { url, terms } = asked;
  if (terms.mirrors.length > 0 || options.settings.signersFor(request.url) !== undefined) return undefined;
  const found = { mirrors: [], signers: undefined };
  switch (url.kind) {
    case 'http':
      return wantFile({ ...asked, url }, found);
    case 'oci': {
      const credential = options.credentials.atHand(credentialRequest(url, request));
      return credential && wantImage({ ...asked, url }, found, credential, options);
    }
    default:
      return url satisfies never;
  }
}

function readRequest(request: ModuleRequest, { settings }: WantOptions): Asked {
  const url = parseModuleUrl(request.url);
  // An empty field is how protobuf writes "none".
  const sha256 = request.sha256 === '' ? undefined : request.sha256;
  if (sha256 !== undefined && !isSha256(sha256)) throw badChecksum(sha256);
  return { request, url, terms: settings.module(request.url), sha256 };
}

function credentialRequest({ reference }: ImageUrl, { pullSecret }: ModuleRequest): CredentialRequest {
  const { registry, repository } = reference;
  return { registry, repository, pullSecret };
}

function wantFile({ request, url, terms, sha256 }: Asked<FileUrl>, found: Found): WantedModule {
  const { display } = url;
  if (found.signers !== undefined) throw unsignable(display);
  const origin: ModuleOrigin = { kind: 'http', url: url.url };
  return {
    request,
    display,
    origin,
    rungs: ladder(terms, found.mirrors, origin, hostTextOf(url.url)),
    terms,
    name: url.url,
    pin: sha256,
    isVersionHeeded: (terms.pullPolicy ?? request.pullPolicy) === 'always',
    reader: anonymousReader,
    signers: undefined,
  };
}

function wantImage(
  { request, url, terms, sha256 }: Asked<ImageUrl>,
  found: Found,
  credential: ResolvedCredential,
  { fingerprintKey }: WantOptions,
): WantedModule {
  const { reference, display } = url;
  const origin: ModuleOrigin = { kind: 'oci', reference, credential };
  const rungs = ladder(terms, found.mirrors, origin, reference.registry);
  return {
    request,
    display,
    origin,
    rungs,
    terms,
    name: repositoryName(reference),
    pin: sha256 ?? reference.digest,
    isVersionHeeded: isVersionHeeded({ pullPolicy: terms.pullPolicy ?? request.pullPolicy }, reference),
    reader: readerOf(rungs, fingerprintKey),
    signers: found.signers,
  };
}

function ladder(
  { layouts, originTimeoutMs }: ModuleTerms,
  mirrors: readonly Rung[],
  origin: ModuleOrigin,
  host: string,
): readonly Rung[] {
  return [
    ...layouts.map((layout): Rung => {
      const { path, timeoutMs } = layout;
      return { kind: 'layout', name: `layout ${path}`, layout, timeoutMs };
    }),
    ...mirrors,
    { kind: 'origin', name: `origin ${host}`, origin, timeoutMs: originTimeoutMs },
  ];
}

/**
 * Whether a changed resource version asks for a new pull: `Always`, and by default `:latest`, written or implied
 * (the stock agent forgets the implied one). Pure.
 */
export function isVersionHeeded(
  request: Pick<ModuleRequest, 'pullPolicy'>,
  reference: Pick<OciReference, 'tag' | 'digest'>,
): boolean {
  switch (request.pullPolicy) {
    case 'always':
      return true;
    case 'if-not-present':
      return false;
    case 'unspecified':
      return reference.digest === undefined && reference.tag === 'latest';
    default:
      return request.pullPolicy satisfies never;
  }
}

async function mirrorRung(mirror: MirrorPlace, request: ModuleRequest, options: WantOptions): Promise<Rung> {
  const { timeoutMs, namespace } = mirror;
  const name = `mirror ${displayUrl(mirror.url)}`;
  try {
    const url = parseModuleUrl(mirror.url);
    if (url.kind === 'http') return { kind: 'mirror', name, origin: url, namespace, timeoutMs };
    const { reference } = url;
    const { registry, repository } = reference;
    const { pullSecret } = request;
    const credential = await options.credentials.resolveMirror({ registry, repository, pullSecret });
    return { kind: 'mirror', name, origin: { kind: 'oci', reference, credential }, namespace, timeoutMs };
  } catch (error) {
    // A pull secret that cannot be read is told by the origin.
    if (error instanceof FetchError) return { kind: 'unusable', name, error };
    throw error;
  }
}

/** A name for all credentials that may be used on the way: who has the same ones may share what was read. */
function readerOf(rungs: readonly Rung[], fingerprintKey: () => Uint8Array): string {
  const readers = rungs.flatMap((rung) => {
    if ((rung.kind !== 'mirror' && rung.kind !== 'origin') || rung.origin.kind !== 'oci') return [];
    const { reference, credential } = rung.origin;
    if (credential.credential.kind === 'anonymous') return [];
    return [credentialFingerprint(fingerprintKey(), reference.registry, credential.credential)];
  });
  const named = [...new Set(readers)];
  return named.length === 0 ? anonymousReader : named.join('+');
}

async function wantedSigners(demand: SignerDemand | undefined): Promise<WantedSigners | undefined> {
  if (demand === undefined) return undefined;
  const { signerSetId } = await import('./signature/signer.ts');
  return { signers: demand.signers, setId: signerSetId(demand.signers) };
}

function badChecksum(sha256: string): FetchError {
  return new FetchError(
    'bad_checksum',
    `the sha256 ${JSON.stringify(sha256.slice(0, 80))} is not 64 lower-case hex digits without a prefix`,
    { result: 'checksum_mismatched' },
  );
}
