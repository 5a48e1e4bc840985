import type { Sha256 } from '../../../cache/types.ts';
import { readBounded } from '../bounded-body.ts';
import type { ByteStream } from '../byte-stream.ts';
import { rangeHeader, readResumed } from '../resumed-body.ts';
import type { FetchLimits } from '../retry.ts';
import { FetchError } from '../types.ts';
import type { ImageSession, ManifestAnswer, ManifestTarget } from './image-session.ts';
import { manifestAccept, maxManifestBytes, ociIndexType } from './manifest.ts';
import { sha256Of } from './reference.ts';
import type { Question, RegistryExchange } from './registry-exchange.ts';

/** Pages of one list that are read; who needs fewer stops before. */
const maxReferrerPageCount = 64;

/** One way in to one repository with one credential. Holds no connection; each call has its own limits. */
export class RegistrySession implements ImageSession {
  readonly origin = 'oci';
  readonly #exchange: RegistryExchange;

  /** The exchange must have begun. */
  constructor(exchange: RegistryExchange) {
    this.#exchange = exchange;
  }

  /** True when the registry asked for the credential and got it: what was read is then for its holders only. */
  get isCredentialUsed(): boolean {
    return this.#exchange.isCredentialUsed;
  }

  /**
   * The digest that a tag has, as the registry claims it; undefined when it claims none, or does not answer this kind
   * of request. Only good for telling that nothing has changed: `knownDigest` is sent as the condition. Throws
   * FetchError.
   */
  async claimedDigest(
    tag: string,
    options: { readonly knownDigest: Sha256; readonly limits: FetchLimits },
  ): Promise<Sha256 | undefined> {
    const { knownDigest, limits } = options;
    const headers = { accept: manifestAccept, 'if-none-match': `"sha256:${knownDigest}"` };
    const wanted = [200, 304, 400, 404, 405, 501];
    const question: Question = { path: `manifests/${tag}`, headers, wanted, method: 'HEAD' };
    return this.#exchange.ask(question, limits, async (response) => {
      await response.discard();
      if (response.status === 304) return knownDigest;
      if (response.status !== 200) return undefined;
      return /^sha256:([0-9a-f]{64})$/.exec(response.header('docker-content-digest') ?? '')?.[1];
    });
  }

  /** Reads a manifest whole and verifies the digest that was asked for. Throws FetchError. */
  async manifest(target: ManifestTarget, options: { readonly limits: FetchLimits }): Promise<ManifestAnswer> {
    const name = target.kind === 'tag' ? target.tag : `sha256:${target.digest}`;
    const question = { path: `manifests/${name}`, headers: { accept: manifestAccept }, wanted: [200] };
    return this.#exchange.ask(question, options.limits, async (response) => {
      const bytes = await readBounded(response.body, {
        maxSizeBytes: maxManifestBytes,
        what: `manifest ${name}`,
      });
      const digest = sha256Of(bytes);
      if (target.kind === 'digest' && digest !== target.digest) {
        throw new FetchError(
          'digest_mismatch',
          `the registry answered for manifest sha256:${target.digest} with bytes of sha256:${digest}; do not trust it`,
        );
      }
      return { bytes, digest, mediaType: response.header('content-type') };
    });
  }

  /**
   * The bytes of a blob; not verified, the reader does that. When the connection breaks, the rest is asked for.
   * Throws FetchError.
   */
  blob(digest: Sha256, options: { readonly limits: FetchLimits }): ByteStream {
    const { limits } = options;
    const path = `blobs/sha256:${digest}`;
    return readResumed({
      ask: async (startBytes) => {
        // The bytes of a digest cannot change: a rest always belongs to what came before.
        const wanted = startBytes > 0 ? [200, 206] : [200];
        const question = { path, headers: rangeHeader(startBytes), wanted };
        return this.#exchange.ask(question, limits, async (answer) => answer);
      },
      mayGoOn: async (error, failedCount) => this.#exchange.mayGoOn(error, failedCount, limits),
    });
  }

  /**
   * The list of what refers to a manifest, a page at a time, each an index that is not verified (distribution spec,
   * "Listing Referrers"). Throws FetchError, a StatusFailure where the registry does not have that API.
   */
  async *listReferrers(
    digest: Sha256,
    options: { readonly artifactType: string; readonly limits: FetchLimits },
  ): AsyncGenerator<Uint8Array> {
    let path = `referrers/sha256:${digest}?artifactType=${encodeURIComponent(options.artifactType)}`;
    for (let pageCount = 0; pageCount < maxReferrerPageCount; pageCount += 1) {
      const question = { path, headers: { accept: ociIndexType }, wanted: [200] };
      const page = await this.#exchange.ask(question, options.limits, async (response) => ({
        bytes: await readBounded(response.body, {
          maxSizeBytes: maxManifestBytes,
          what: 'the list of referrers',
        }),
        next: /<([^>]*)>\s*;\s*rel="?next"?/.exec(response.header('link') ?? '')?.[1],
      }));
      yield page.bytes;
      // Only the query is taken over: the list of this manifest goes on at this registry.
      const [, query] = /\?([^#]*)/.exec(page.next ?? '') ?? [];
      if (query === undefined) return;
      path = `referrers/sha256:${digest}?${query}`;
    }
  }
}
