import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { buildImageParts, type ImageLayout, type ImagePart } from './image-layout.ts';
import { json, type RegistryAuth, RegistryGate, refusal, tokenPath } from './registry-auth.ts';
import {
  type Answer,
  type Content,
  type RecordedRequest,
  ScriptedServer,
  type ScriptedServerOptions,
} from './scripted-server.ts';

export interface RegistryOptions {
  /** Default: anonymous. */
  readonly auth?: RegistryAuth;
  /** PEM texts; absent: plain HTTP. */
  readonly tls?: NonNullable<ScriptedServerOptions['tls']>;
}

/** What names a blob or manifest (OCI image specification, descriptor). */
export interface Descriptor {
  readonly mediaType: string;
  /** `sha256:<hex>` */
  readonly digest: string;
  readonly size: number;
}

export interface Platform {
  readonly os: string;
  readonly architecture: string;
}

export interface PushOptions {
  /** Such as `team/basic_auth`. */
  readonly repository: string;
  readonly tag: string;
  readonly layout: ImageLayout;
  /** A path of a module file (served from there: it must stay), or its bytes. */
  readonly wasm: string | Uint8Array;
  /** True: the tag names an index with this image for linux/amd64; or an entry for each of these platforms. */
  readonly index?: boolean | readonly Platform[];
}

/** All digests are lower-case hex without `sha256:`, as configs pin them. */
export interface PushedImage {
  /** `oci://host:port/repository:tag` */
  readonly url: string;
  /** What the tag names: the index's digest when there is one, else the manifest's. */
  readonly digest: string;
  readonly manifestDigest: string;
  /** Of the layer that holds the module. */
  readonly layerDigest: string;
  readonly layerSizeBytes: number;
  /** Of the module's own bytes. */
  readonly moduleDigest: string;
  readonly moduleSizeBytes: number;
}

const linuxAmd64: Platform = { os: 'linux', architecture: 'amd64' };

interface StoredManifest {
  readonly mediaType: string;
  readonly bytes: Uint8Array;
}

/**
 * An OCI distribution registry on loopback, filled by the test that owns it. It serves the pull half of the
 * distribution specification 1.1; faults, counts and the request log are those of `http`.
 */
export class Registry implements AsyncDisposable {
  /** `127.0.0.1:<port>` */
  readonly host: string;
  readonly http: ScriptedServer;
  readonly gate: RegistryGate;
  readonly #folder: string;
  readonly #store: RegistryStore;
  #layerCount = 0;

  private constructor(http: ScriptedServer, gate: RegistryGate, store: RegistryStore, folder: string) {
    this.http = http;
    this.gate = gate;
    this.#store = store;
    this.#folder = folder;
    this.host = `127.0.0.1:${http.port}`;
  }

  /** Starts an empty registry on a free port. */
  static async start(options: RegistryOptions = {}): Promise<Registry> {
    const store = new RegistryStore();
    const gate: RegistryGate = new RegistryGate(options.auth ?? { kind: 'anonymous' }, () => http.url);
    const http: ScriptedServer = await ScriptedServer.start({
      ...(options.tls === undefined ? {} : { tls: options.tls }),
      answer: (request) => answerRegistry(request, gate, store),
    });
    const folder = await mkdtemp(join(tmpdir(), 'ferry-registry-'));
    return new Registry(http, gate, store, folder);
  }

  /** Puts an image under a tag, in place of what the tag named before. */
  async pushImage(options: PushOptions): Promise<PushedImage> {
    const { repository, tag } = options;
    const module = await contentOf(options.wasm);
    this.#layerCount += 1;
    const layerPath = join(this.#folder, `layer-${this.#layerCount}.tar.gz`);
    const parts = await buildImageParts(options.layout, module, layerPath);
    const config = await this.putBlob(repository, parts.config);
    const layers: Descriptor[] = [];
    for (const layer of parts.layers) layers.push(await this.putBlob(repository, layer));
    const manifest = this.putManifest(repository, parts.manifestMediaType, {
      schemaVersion: 2,
      mediaType: parts.manifestMediaType,
      config,
      layers,
    });
    const platforms = options.index === true ? [linuxAmd64] : options.index;
    const top = platforms
      ? this.putManifest(repository, parts.indexMediaType, {
          schemaVersion: 2,
          mediaType: parts.indexMediaType,
          manifests: platforms.map((platform) => ({ ...manifest, platform })),
        })
      : manifest;
    this.setTag(repository, tag, top.digest);
    const layer = layers.at(-1);
    if (layer === undefined) throw new Error(`The layout ${options.layout} has no layer.`);
    return {
      url: `oci://${this.host}/${repository}:${tag}`,
      digest: hexOf(top.digest),
      manifestDigest: hexOf(manifest.digest),
      layerDigest: hexOf(layer.digest),
      layerSizeBytes: layer.size,
      moduleDigest: hexOf(await digestOf(module)),
      moduleSizeBytes: sizeOf(module),
    };
  }

  /** Stores one blob. */
  async putBlob(repository: string, part: ImagePart): Promise<Descriptor> {
    const digest = await digestOf(part.content);
    this.#store.blobs.set(`${repository}@${digest}`, part.content);
    return { mediaType: part.mediaType, digest, size: sizeOf(part.content) };
  }

  /** Stores a manifest or index as it is, right or wrong. */
  putManifest(repository: string, mediaType: string, document: unknown): Descriptor {
    const bytes = Buffer.from(JSON.stringify(document));
    const digest = sha256(bytes);
    this.#store.manifests.set(`${repository}@${digest}`, { mediaType, bytes });
    return { mediaType, digest, size: bytes.byteLength };
  }

  /** Lets a tag name a manifest that is stored; `digest` has the `sha256:` form. */
  setTag(repository: string, tag: string, digest: string): void {
    this.#store.tags.set(`${repository}:${tag}`, digest);
  }

  /** Makes the tag unknown. Manifests and blobs stay. */
  deleteTag(repository: string, tag: string): void {
    this.#store.tags.delete(`${repository}:${tag}`);
  }

  /** Ends all connections and removes the layers. */
  async close(): Promise<void> {
    await this.http.close();
    await rm(this.#folder, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Everything the registry holds, by `repository@digest` and `repository:tag`. */
class RegistryStore {
  readonly blobs = new Map<string, Content>();
  readonly manifests = new Map<string, StoredManifest>();
  readonly tags = new Map<string, string>();

  manifest(repository: string, reference: string): (StoredManifest & { digest: string }) | undefined {
    const digest = reference.startsWith('sha256:') ? reference : this.tags.get(`${repository}:${reference}`);
    const found = digest === undefined ? undefined : this.manifests.get(`${repository}@${digest}`);
    return found === undefined || digest === undefined ? undefined : { ...found, digest };
  }
}

/** Distribution specification: end-1 (ping), end-2 (blobs), end-3 (manifests). */
function answerRegistry(request: RecordedRequest, gate: RegistryGate, store: RegistryStore): Answer {
  if (request.path === tokenPath) return gate.answerToken(request);
  const [, repository, kind, reference] = /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(request.path) ?? [];
  if (repository === undefined && request.path !== '/v2/')
    return refusal(404, 'NAME_UNKNOWN', 'no such path');
  const refused = gate.refuse(request, repository);
  if (refused !== undefined) return refused;
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return refusal(405, 'UNSUPPORTED', 'this registry is read-only');
  }
  if (repository === undefined || reference === undefined) return json(200, {});
  if (kind === 'blobs') {
    const content = store.blobs.get(`${repository}@${reference}`);
    if (content === undefined) return refusal(404, 'BLOB_UNKNOWN', 'blob unknown to registry');
    const headers = { 'content-type': 'application/octet-stream', 'docker-content-digest': reference };
    return { status: 200, headers, content };
  }
  const manifest = store.manifest(repository, reference);
  if (manifest === undefined || !isAccepted(request.headers['accept'], manifest.mediaType)) {
    return refusal(404, 'MANIFEST_UNKNOWN', 'manifest unknown');
  }
  const headers = { 'content-type': manifest.mediaType, 'docker-content-digest': manifest.digest };
  return { status: 200, headers, content: { kind: 'bytes', bytes: manifest.bytes } };
}

/** Registries give a manifest only to clients that name its type. */
function isAccepted(accept: string | undefined, mediaType: string): boolean {
  if (accept === undefined) return true;
  return accept
    .split(',')
    .map((item) => item.split(';')[0]?.trim())
    .some((item) => item === mediaType || item === '*/*');
}

async function contentOf(wasm: string | Uint8Array): Promise<Content> {
  if (typeof wasm !== 'string') return { kind: 'bytes', bytes: wasm };
  return { kind: 'file', path: wasm, sizeBytes: (await stat(wasm)).size };
}

async function digestOf(content: Content): Promise<string> {
  if (content.kind === 'bytes') return sha256(content.bytes);
  const hash = createHash('sha256');
  await pipeline(createReadStream(content.path), hash);
  return `sha256:${hash.digest('hex')}`;
}

function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

function sizeOf(content: Content): number {
  return content.kind === 'bytes' ? content.bytes.byteLength : content.sizeBytes;
}

function hexOf(digest: string): string {
  return digest.slice('sha256:'.length);
}
