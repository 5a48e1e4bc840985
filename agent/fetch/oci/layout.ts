import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Sha256 } from '../../../cache/types.ts';
import { describeError } from '../../log.ts';
import { readBounded } from '../bounded-body.ts';
import type { ByteStream } from '../byte-stream.ts';
import { abortFailure } from '../network-failure.ts';
import type { FetchLimits } from '../retry.ts';
import { FetchError } from '../types.ts';
import type { ImageSession, ManifestAnswer, ManifestTarget } from './image-session.ts';
import {
  asReferrer,
  isBesideImage,
  isDigestTag,
  isSavedSignatures,
  isSignatureTag,
} from './layout-referrers.ts';
import {
  type Descriptor,
  descriptorSha256,
  maxManifestBytes,
  ociIndexType,
  ociManifestType,
  parseManifest,
} from './manifest.ts';
import { dockerHub, type OciReference, parseOciReference, referenceText, sha256Of } from './reference.ts';

/** What is read at a time. */
const chunkBytes = 64 * 1024;
/** Names of an image, best first: a whole reference, or in a folder of one repository a tag alone. */
const nameAnnotations = ['io.containerd.image.name', 'org.opencontainers.image.ref.name'];

/**
 * Images of one OCI layout folder (image specification, image-layout.md), which is only read. The folder is not
 * trusted: whoever reads a blob verifies it. Bytes are copied while they are hashed, so the folder may change or
 * vanish at any time.
 */
export class LayoutSession implements ImageSession {
  readonly origin = 'layout';
  /** Whoever may use the folder may read all of it. */
  readonly isCredentialUsed = false;
  readonly #folder: string;
  readonly #reference: OciReference;
  /** True when the whole folder is of the one repository, so that a tag alone is a name. */
  readonly #isOfRepository: boolean;

  private constructor(folder: string, reference: OciReference, isOfRepository: boolean) {
    this.#folder = folder;
    this.#reference = reference;
    this.#isOfRepository = isOfRepository;
  }

  /**
   * Opens the layout at `folder/<registry>/<repository>` when there is one, else that at `folder` itself. Throws
   * FetchError `not_found` when neither is there.
   */
  static async open(
    folder: string,
    reference: OciReference,
    options: { readonly limits: FetchLimits },
  ): Promise<LayoutSession> {
    for (const registry of registryNames(reference.registry)) {
      // A parsed reference has no "..": this stays in the folder.
      const own = join(folder, registry, reference.repository);
      if (await hasLayout(own, options.limits)) return new LayoutSession(own, reference, true);
    }
    if (await hasLayout(folder, options.limits)) return new LayoutSession(folder, reference, false);
    throw new FetchError(
      'not_found',
      `there is no OCI image layout in ${folder}: neither it nor ${join(folder, reference.registry, reference.repository)} has a file "oci-layout"`,
    );
  }

  async manifest(target: ManifestTarget, options: { readonly limits: FetchLimits }): Promise<ManifestAnswer> {
    const named = target.kind === 'tag' ? await this.#named(target.tag, options.limits) : undefined;
    const digest = target.kind === 'digest' ? target.digest : named?.digest;
    if (digest === undefined) throw new RangeError('a tag was looked up without a result');
    const bytes = await readBounded(this.blob(digest, options), {
      maxSizeBytes: maxManifestBytes,
      what: `manifest sha256:${digest} of the layout ${this.#folder}`,
    });
    const actual = sha256Of(bytes);
    if (actual !== digest) {
      throw new FetchError(
        'digest_mismatch',
        `the layout ${this.#folder} holds bytes of sha256:${actual} under the name of manifest sha256:${digest}; copy the image again`,
      );
    }
    return { bytes, digest, mediaType: named?.mediaType };
  }

  blob(digest: Sha256, options: { readonly limits: FetchLimits }): ByteStream {
    return readLayoutBlob(this.#folder, digest, options);
  }

  /** All manifests of the index that refer to this one, on one page: a folder answers at once. */
  async *listReferrers(
    digest: Sha256,
    options: { readonly artifactType: string; readonly limits: FetchLimits },
  ): AsyncGenerator<Uint8Array> {
    const { artifactType, limits } = options;
    const manifests: unknown[] = [];
    for (const descriptor of await this.#index(limits)) {
      const own = descriptorSha256(descriptor);
      if (own === undefined || own === digest || descriptor.mediaType !== ociManifestType) continue;
      const bytes = await this.#readable(own, limits);
      const referrer = bytes === undefined ? undefined : await asReferrer(descriptor, bytes, digest);
      if (referrer !== undefined && isOfType(referrer, artifactType)) manifests.push(referrer);
    }
    yield Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: ociIndexType, manifests }));
  }

  /** Undefined for a manifest that is damaged or gone: what it refers to cannot be known. */
  async #readable(digest: Sha256, limits: FetchLimits): Promise<Uint8Array | undefined> {
    try {
      return (await this.manifest({ kind: 'digest', digest }, { limits })).bytes;
    } catch (error) {
      if (!(error instanceof FetchError) || limits.signal.aborted) throw error;
      return undefined;
    }
  }

  async #index(limits: FetchLimits): Promise<readonly Descriptor[]> {
    const path = join(this.#folder, 'index.json');
    const text = await readBounded(readChunks(path, limits), { maxSizeBytes: maxManifestBytes, what: path });
    const index = await parseManifest(text, undefined);
    if (index.kind === 'index') return index.manifests;
    throw new FetchError('bad_manifest', `${path} is no index; copy the images again`);
  }

  async #named(
    tag: string,
    limits: FetchLimits,
  ): Promise<{ readonly digest: Sha256; readonly mediaType: string }> {
    const all = await this.#index(limits);
    const wanted = { ...this.#reference, tag, digest: undefined };
    const named = all.filter((each) => !isBesideImage(each) && this.#isNamed(each, wanted));
    // `cosign save` keeps one image and gives its signatures no tag; whose they are, they say themselves.
    const found = named.length === 0 && isSignatureTag(tag) ? all.filter(isSavedSignatures) : named;
    const digests = new Set(found.map((each) => each.digest));
    const [first] = found;
    if (first === undefined) {
      throw new FetchError('not_found', `the layout ${this.#folder} holds no ${referenceText(wanted)}`);
    }
    if (digests.size > 1) {
      const reason = `holds ${digests.size} images of the name ${referenceText(wanted)}; copy one, or pin one by its digest`;
      throw new FetchError('bad_manifest', `the layout ${this.#folder} ${reason}`);
    }
    const digest = descriptorSha256(first);
    if (digest === undefined) {
      throw new FetchError(
        'bad_manifest',
        `the layout ${this.#folder} names an image without a SHA-256 digest`,
      );
    }
    return { digest, mediaType: first.mediaType };
  }

  #isNamed(descriptor: Descriptor, wanted: OciReference): boolean {
    const names = nameAnnotations
      .map((key) => descriptor.annotations[key])
      .filter((name) => name !== undefined);
    return names.some((name) => {
      if ((this.#isOfRepository || isDigestTag(wanted.tag)) && name === wanted.tag) return true;
      // A name without a place in it says nothing of whose image it is.
      return name.includes('/') && canonicalName(name) === referenceText(wanted);
    });
  }
}

/** Some writers give the config's type, or none, for the artifact's: who asks looks at those. */
function isOfType(referrer: Readonly<Record<string, unknown>>, artifactType: string): boolean {
  const type = referrer['artifactType'];
  return type === artifactType || type === undefined || type === 'application/vnd.oci.empty.v1+json';
}

/** The bytes of a blob of a layout, not verified. Throws FetchError `not_found`, `store`, `aborted`, `timeout`. */
export function readLayoutBlob(
  folder: string,
  digest: Sha256,
  options: { readonly limits: FetchLimits },
): ByteStream {
  return readChunks(join(folder, 'blobs', 'sha256', digest), options.limits);
}

/** Docker Hub has a name for people and one for programs. */
function registryNames(registry: string): readonly string[] {
  return registry === dockerHub ? [registry, 'docker.io'] : [registry];
}

async function hasLayout(folder: string, limits: FetchLimits): Promise<boolean> {
  const file = await openFile(join(folder, 'oci-layout'), limits);
  await file?.close();
  return file !== undefined;
}

async function* readChunks(path: string, limits: FetchLimits): AsyncGenerator<Uint8Array> {
  const file = await openFile(path, limits);
  if (file === undefined) throw new FetchError('not_found', `${path} is not there`);
  try {
    for (;;) {
      limits.signal.throwIfAborted();
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(chunkBytes), 0, chunkBytes);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } catch (error) {
    throw unreadable(path, error, limits);
  } finally {
    await file.close();
  }
}

/** Undefined when it is not there. A pipe in place of a file must not hold up anybody. */
async function openFile(path: string, limits: FetchLimits): Promise<FileHandle | undefined> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (!(await file.stat()).isFile()) throw new RangeError('it is not a regular file');
    return file;
  } catch (error) {
    await file?.close();
    const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw unreadable(path, error, limits);
  }
}

function unreadable(path: string, error: unknown, limits: FetchLimits): unknown {
  if (error instanceof FetchError) return error;
  if (limits.signal.aborted) return abortFailure(limits.signal, `reading ${path}`);
  return new FetchError('network', `${path} cannot be read: ${describeError(error)}`, { cause: error });
}

function canonicalName(name: string): string | undefined {
  try {
    return referenceText({ ...parseOciReference(name), digest: undefined });
  } catch {
    return undefined;
  }
}
