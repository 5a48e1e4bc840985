import { createHash } from 'node:crypto';
import { EgressGuard } from '../../../../agent/fetch/egress-guard.ts';
import { HttpClient } from '../../../../agent/fetch/http-client.ts';
import { InsecureHosts } from '../../../../agent/fetch/insecure-hosts.ts';
import { parseOciReference } from '../../../../agent/fetch/oci/reference.ts';
import { RegistryClient } from '../../../../agent/fetch/oci/registry.ts';
import { type FetchLimits, StatusFailure } from '../../../../agent/fetch/retry.ts';
import { referrersTag } from '../../../../agent/fetch/signature/bundle.ts';
import { type SignatureSession, sessionAccess } from '../../../../agent/fetch/signature/registry-access.ts';
import { parseSigners, type Signer } from '../../../../agent/fetch/signature/signer.ts';
import { signatureTag } from '../../../../agent/fetch/signature/simple-signing.ts';
import type { SignatureVerdict } from '../../../../agent/fetch/signature/verdict.ts';
import { type ImageChain, verifyImage } from '../../../../agent/fetch/signature/verify-image.ts';
import { ociIndexType, ociManifestType } from '../../../support/image-layout.ts';
import { type Descriptor, Registry } from '../../../support/registry.ts';
import type { ClassicLayer } from './cosign-signer.ts';

const bundleType = 'application/vnd.dev.sigstore.bundle.v0.3+json';

export interface VerifyOptions {
  /** False: the session knows no referrers API. Default: it asks the registry, which has one where `listBundles` says so. */
  readonly isApiAsked?: boolean;
  readonly signal?: AbortSignal;
}

/** A real registry on loopback with signed images, and the agent's own client for it. */
export class SignedRegistry implements AsyncDisposable {
  readonly registry: Registry;
  readonly #client: HttpClient;
  readonly #registries: RegistryClient;
  #imageCount = 0;

  private constructor(registry: Registry) {
    this.registry = registry;
    const insecureHosts = new InsecureHosts(['*']);
    const proxies = { http: undefined, https: undefined, noProxy: '' };
    this.#client = new HttpClient({ guard: new EgressGuard({ blockedCidrs: [] }), insecureHosts, proxies });
    const clock = { nowMs: () => performance.now(), random: Math.random };
    this.#registries = new RegistryClient({ client: this.#client, insecureHosts, clock, firstWaitMs: 1 });
  }

  static async start(): Promise<SignedRegistry> {
    return new SignedRegistry(await Registry.start());
  }

  /** A digest that no other image has, as of an image in a repository of its own. */
  image(): SignedImage {
    this.#imageCount += 1;
    const digest = createHash('sha256').update(`image ${this.#imageCount}`).digest('hex');
    return new SignedImage(this, `team/plugin-${this.#imageCount}`, digest);
  }

  async verify(
    repository: string,
    chain: ImageChain,
    signers: readonly Signer[],
    options: VerifyOptions = {},
  ): Promise<SignatureVerdict> {
    const reference = parseOciReference(`${this.registry.host}/${repository}:v1`);
    const signal = options.signal ?? new AbortController().signal;
    const limits: FetchLimits = { signal, deadlineAtMs: () => Number.POSITIVE_INFINITY };
    const credential = { credential: { kind: 'anonymous' }, origin: 'no docker config was found' } as const;
    const session = await this.#registries.open(reference, credential, {
      limits: { ...limits, signal: new AbortController().signal },
    });
    const asked: SignatureSession = {
      manifest: (target, each) => session.manifest(target, each),
      blob: (digest, each) => session.blob(digest, each),
      referrers: (digest, each) => this.#referrers(repository, digest, each),
    };
    const access = sessionAccess((options.isApiAsked ?? true) ? asked : session, limits);
    return verifyImage({ access, reference, chain, signers, signal });
  }

  /** What a session that knows the referrers API does, by the platform's own client. */
  async *#referrers(
    repository: string,
    digest: string,
    { artifactType, limits }: Parameters<NonNullable<SignatureSession['referrers']>>[1],
  ): AsyncGenerator<Uint8Array> {
    const base = this.registry.http.url;
    const query = `artifactType=${encodeURIComponent(artifactType)}`;
    let next: string | undefined = `${base}/v2/${repository}/referrers/sha256:${digest}?${query}`;
    while (next !== undefined) {
      const response: Response = await fetch(next, { signal: limits.signal });
      const bytes = new Uint8Array(await response.arrayBuffer());
      if (response.status !== 200)
        throw new StatusFailure(response.status, `referrers: ${response.status}`, undefined);
      yield bytes;
      const [, link] = /^<([^>]+)>/.exec(response.headers.get('link') ?? '') ?? [];
      next = link === undefined ? undefined : new URL(link, next).href;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.close();
    await this.registry.close();
  }
}

/** An image and what is beside it in the registry. The image itself is only a digest: verification never reads it. */
export class SignedImage {
  readonly #server: SignedRegistry;
  readonly repository: string;
  readonly digest: string;

  constructor(server: SignedRegistry, repository: string, digest: string) {
    this.#server = server;
    this.repository = repository;
    this.digest = digest;
  }

  /** Puts signatures under the `.sig` tag, oldest first, in place of those before. */
  async signClassic(...layers: readonly ClassicLayer[]): Promise<void> {
    const { registry } = this.#server;
    const stored = await Promise.all(
      layers.map(async ({ payload, annotations }) => ({
        ...(await this.blob(simpleSigningType, payload)),
        annotations,
      })),
    );
    const config = await this.blob('application/vnd.oci.image.config.v1+json', Buffer.from('{}'));
    const manifest = { schemaVersion: 2, mediaType: ociManifestType, config, layers: stored };
    this.tag(signatureTag(this.digest), registry.putManifest(this.repository, ociManifestType, manifest));
  }

  /** Puts a bundle and its manifest in; nothing lists them yet. */
  async putBundle(bundle: unknown): Promise<Descriptor & { readonly artifactType: string }> {
    const layer = await this.blob(
      bundleType,
      Buffer.from(typeof bundle === 'string' ? bundle : JSON.stringify(bundle)),
    );
    const config = await this.blob('application/vnd.oci.empty.v1+json', Buffer.from('{}'));
    const manifest = this.#server.registry.putManifest(this.repository, ociManifestType, {
      schemaVersion: 2,
      mediaType: ociManifestType,
      config,
      layers: [layer],
      subject: { mediaType: ociManifestType, digest: `sha256:${this.digest}`, size: 1 },
      artifactType: bundleType,
    });
    return { ...manifest, artifactType: bundleType };
  }

  /** Lists artifacts under the fallback tag, or by the referrers API. */
  list(by: 'tag' | 'api', ...manifests: readonly unknown[]): void {
    const { registry } = this.#server;
    const index = { schemaVersion: 2, mediaType: ociIndexType, manifests };
    if (by === 'tag')
      this.tag(referrersTag(this.digest), registry.putManifest(this.repository, ociIndexType, index));
    else this.answerReferrers(200, JSON.stringify(index));
  }

  async signBundle(bundle: unknown, by: 'tag' | 'api' = 'tag'): Promise<void> {
    this.list(by, await this.putBundle(bundle));
  }

  /** What the referrers API answers from now on. */
  answerReferrers(status: number, body: string, headers: Readonly<Record<string, string>> = {}): void {
    const path = `/v2/${this.repository}/referrers/sha256:${this.digest}`;
    const all = { 'content-type': ociIndexType, ...headers };
    this.#server.registry.http.script({ path }, { kind: 'status', status, headers: all, body });
  }

  async blob(mediaType: string, bytes: Uint8Array): Promise<Descriptor> {
    return this.#server.registry.putBlob(this.repository, { mediaType, content: { kind: 'bytes', bytes } });
  }

  tag(tag: string, manifest: Descriptor): void {
    this.#server.registry.setTag(this.repository, tag, manifest.digest);
  }

  async verify(signers: readonly Signer[], options?: VerifyOptions): Promise<SignatureVerdict> {
    return this.#server.verify(
      this.repository,
      { indexDigests: [], manifestDigest: this.digest },
      signers,
      options,
    );
  }
}

const simpleSigningType = 'application/vnd.dev.cosign.simplesigning.v1+json';

/** Signers of a policy. Throws Error with the problems. */
export async function signersOf(data: readonly unknown[]): Promise<readonly Signer[]> {
  const parsed = await parseSigners(data);
  if (parsed.kind === 'rejected') throw new Error(parsed.problems.join('; '));
  return parsed.signers;
}

/** The codes of a refusal; of a verified image, none. */
export function codesOf(verdict: SignatureVerdict): readonly string[] {
  return verdict.kind === 'refused' ? verdict.reasons.map(({ code }) => code) : ['verified'];
}
