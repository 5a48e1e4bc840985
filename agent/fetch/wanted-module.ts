import type { Sha256 } from '../../cache/types.ts';
import {
  anonymousReader,
  type CredentialResolver,
  credentialFingerprint,
  type ResolvedCredential,
} from './credentials.ts';
import { parseModuleUrl } from './module-url.ts';
import { type OciReference, repositoryName } from './oci/reference.ts';
import { isSha256 } from './pin.ts';
import { FetchError, type ModuleRequest } from './types.ts';

/** Where the bytes of a wanted module are. */
export type ModuleOrigin =
  | { readonly kind: 'http'; readonly url: string }
  | { readonly kind: 'oci'; readonly reference: OciReference; readonly credential: ResolvedCredential };

/** A request with everything that is decided before the cache or the network is asked. */
export interface WantedModule {
  readonly request: ModuleRequest;
  /** For messages and logs. */
  readonly display: string;
  readonly origin: ModuleOrigin;
  /** What modules of the same place share in the cache: the repository, or the whole URL. May hold secrets. */
  readonly name: string;
  /** The config's sha256, else the digest in the reference. */
  readonly pin: Sha256 | undefined;
  /** False: what the URL meant last time is good enough, whatever the config's version. */
  readonly isVersionHeeded: boolean;
  /** Fingerprint of the credential. */
  readonly reader: string;
}

/**
 * Decides what a request wants. Throws FetchError `bad_url`, `unsupported_scheme`, `bad_checksum`, `bad_pull_secret`;
 * the result, where there is one, is what the stock agent counts.
 */
export async function wantModule(
  request: ModuleRequest,
  options: { readonly credentials: CredentialResolver; readonly fingerprintKey: () => Uint8Array },
): Promise<WantedModule> {
  const url = parseModuleUrl(request.url);
  const { display } = url;
  // An empty field is how protobuf writes "none".
  const sha256 = request.sha256 === '' ? undefined : request.sha256;
  if (sha256 !== undefined && !isSha256(sha256)) throw badChecksum(sha256);
  switch (url.kind) {
    case 'http':
      return {
        request,
        display,
        origin: { kind: 'http', url: url.url },
        name: url.url,
        pin: sha256,
        isVersionHeeded: request.pullPolicy === 'always',
        reader: anonymousReader,
      };
    case 'oci': {
      const { reference } = url;
      const { registry, repository } = reference;
      const { pullSecret } = request;
      const credential = await options.credentials.resolve({ registry, repository, pullSecret });
      return {
        request,
        display,
        origin: { kind: 'oci', reference, credential },
        name: repositoryName(reference),
        pin: sha256 ?? reference.digest,
        isVersionHeeded: isVersionHeeded(request, reference),
        reader: credentialFingerprint(options.fingerprintKey(), registry, credential.credential),
      };
    }
    default:
      return url satisfies never;
  }
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

function badChecksum(sha256: string): FetchError {
  return new FetchError(
    'bad_checksum',
    `the sha256 ${JSON.stringify(sha256.slice(0, 80))} is not 64 lower-case hex digits without a prefix`,
    { result: 'checksum_mismatched' },
  );
}
