import type { ServerResponse } from 'node:http';
import { sha256 } from './module-bytes.ts';
import { answer, type Handler, type SeenRequest } from './web-server.ts';

export const ociManifest = 'application/vnd.oci.image.manifest.v1+json';
export const ociIndex = 'application/vnd.oci.image.index.v1+json';
export const dockerManifest = 'application/vnd.docker.distribution.manifest.v2+json';
export const ociTarGzip = 'application/vnd.oci.image.layer.v1.tar+gzip';
export const dockerTarGzip = 'application/vnd.docker.image.rootfs.diff.tar.gzip';
export const wasmConfig = 'application/vnd.module.wasm.config.v1+json';
export const wasmContent = 'application/vnd.module.wasm.content.layer.v1+wasm';

export interface Layer {
  readonly mediaType: string;
  readonly bytes: Uint8Array;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface StoredManifest {
  readonly digest: string;
  readonly mediaType: string;
  readonly bytes: Buffer;
}

export type RegistryAuth =
  | { readonly kind: 'none' }
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  /** `users`: user to password; anonymous tokens read nothing. The realm is a function of the registry's own URL. */
  | {
      readonly kind: 'bearer';
      readonly users: ReadonlyMap<string, string>;
      readonly realm?: string;
      /** False: the token server knows no POST. */
      readonly isPostKnown?: boolean;
    };

/** What a fault does with a request; true when it has answered. */
export type Fault = (request: SeenRequest, response: ServerResponse) => boolean | Promise<boolean>;

/** The pull side of the distribution API over images kept in memory. */
export class ImageRegistry {
  readonly #blobs = new Map<string, Uint8Array>();
  readonly #manifests = new Map<string, StoredManifest>();
  readonly #faults: { readonly start: string; readonly fault: Fault; timesLeft: number }[] = [];
  auth: RegistryAuth = { kind: 'none' };

  /** Puts an image in; it is found by its digest and by the tags. */
  image(
    layers: readonly Layer[],
    options: {
      tags?: readonly string[];
      mediaType?: string;
      size?: number;
      configType?: string;
      artifactType?: string;
      subject?: object;
    } = {},
  ): StoredManifest {
    const config = Buffer.from('{}');
    const configType = options.configType ?? 'application/vnd.oci.image.config.v1+json';
    const descriptor = ({ mediaType, bytes, annotations }: Layer): object => {
      const digest = sha256(bytes);
      this.#blobs.set(digest, bytes);
      return { mediaType, digest: `sha256:${digest}`, size: options.size ?? bytes.byteLength, annotations };
    };
    return this.manifest(
      {
        schemaVersion: 2,
        mediaType: options.mediaType ?? ociManifest,
        artifactType: options.artifactType,
        config: descriptor({ mediaType: configType, bytes: config }),
        layers: layers.map(descriptor),
        subject: options.subject,
      },
      options.mediaType ?? ociManifest,
      options.tags,
    );
  }

  /** Puts an index over images in. */
  index(
    children: readonly {
      readonly image: StoredManifest;
      readonly platform?: { os: string; architecture: string };
    }[],
    options: { tags?: readonly string[] } = {},
  ): StoredManifest {
    const manifests = children.map(({ image, platform }) => ({
      mediaType: image.mediaType,
      digest: `sha256:${image.digest}`,
      size: image.bytes.byteLength,
      ...(platform === undefined ? {} : { platform }),
    }));
    return this.manifest({ schemaVersion: 2, mediaType: ociIndex, manifests }, ociIndex, options.tags);
  }

  /** Puts any document in as a manifest. */
  manifest(document: object, mediaType: string, tags: readonly string[] = []): StoredManifest {
    const bytes = Buffer.from(JSON.stringify(document));
    const stored = { digest: sha256(bytes), mediaType, bytes };
    for (const name of [`sha256:${stored.digest}`, ...tags]) this.#manifests.set(name, stored);
    return stored;
  }

  /** From now on, requests with this start line go through the fault, the newest first. */
  fail(start: string, fault: Fault, times = Number.POSITIVE_INFINITY): void {
    this.#faults.unshift({ start, fault, timesLeft: times });
  }

  readonly handle: Handler = async (request, response) => {
    const startLine = `${request.method} ${request.target}`;
    for (const each of this.#faults) {
      if (each.timesLeft === 0 || !startLine.startsWith(each.start)) continue;
      each.timesLeft -= 1;
      if (await each.fault(request, response)) return;
    }
    if (request.target.startsWith('/token')) this.#token(request, response);
    else if (!this.#isAllowed(request)) this.#challenge(request, response);
    else this.#read(request, response);
  };

  #read(request: SeenRequest, response: ServerResponse): void {
    if (request.target === '/v2/') {
      answer(response, 200, '{}');
      return;
    }
    const [, kind, name = ''] = /^\/v2\/.+\/(manifests|blobs)\/([^/?]+)(?:\?.*)?$/.exec(request.target) ?? [];
    const manifest = kind === 'manifests' ? this.#manifests.get(name) : undefined;
    if (manifest !== undefined) {
      const etag = `"sha256:${manifest.digest}"`;
      const isKnown = request.headers['if-none-match'] === etag;
      const body = isKnown ? '' : manifest.bytes;
      answer(response, isKnown ? 304 : 200, body, {
        'content-type': manifest.mediaType,
        'docker-content-digest': `sha256:${manifest.digest}`,
        etag,
      });
      return;
    }
    const blob = kind === 'blobs' ? this.#blobs.get(name.replace('sha256:', '')) : undefined;
    if (blob === undefined) {
      answer(response, 404, '{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}');
      return;
    }
    const [, first] = /^bytes=(\d+)-$/.exec(request.headers.range ?? '') ?? [];
    if (first === undefined) answer(response, 200, blob);
    else {
      const range = `bytes ${first}-${blob.byteLength - 1}/${blob.byteLength}`;
      answer(response, 206, blob.subarray(Number(first)), { 'content-range': range });
    }
  }

  #isAllowed(request: SeenRequest): boolean {
    const { authorization } = request.headers;
    switch (this.auth.kind) {
      case 'none':
        return true;
      case 'basic':
        return authorization === basic(this.auth.username, this.auth.password);
      case 'bearer': {
        const [, user] = /^Bearer token-of-(.+)$/.exec(authorization ?? '') ?? [];
        return user !== undefined && this.auth.users.has(user);
      }
      default:
        return this.auth satisfies never;
    }
  }

  #challenge(request: SeenRequest, response: ServerResponse): void {
    const realm = this.auth.kind === 'bearer' ? this.auth.realm : undefined;
    const header =
      this.auth.kind === 'basic'
        ? 'Basic realm="fixture"'
        : `Bearer realm="${realm ?? `http://${request.headers.host}/token`}",service="fixture"`;
    answer(response, 401, '{"errors":[{"code":"UNAUTHORIZED"}]}', { 'www-authenticate': header });
  }

  #token(request: SeenRequest, response: ServerResponse): void {
    const users = this.auth.kind === 'bearer' ? this.auth.users : new Map<string, string>();
    if (this.auth.kind === 'bearer' && this.auth.isPostKnown === false && request.method === 'POST') {
      answer(response, 404);
      return;
    }
    const form = new URLSearchParams(request.body);
    for (const [user, password] of users) {
      const isRefresh = request.method === 'POST' && form.get('refresh_token') === password;
      if (isRefresh || request.headers.authorization === basic(user, password)) {
        answer(response, 200, JSON.stringify({ token: `token-of-${user}`, expires_in: 300 }));
        return;
      }
    }
    answer(response, request.headers.authorization === undefined ? 200 : 401, '{"token":"token-of-nobody"}');
  }
}

export function basic(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

/** A docker config JSON with one user for one registry. */
export function pullSecret(registry: string, username: string, password: string): string {
  const auth = Buffer.from(`${username}:${password}`).toString('base64');
  return JSON.stringify({ auths: { [registry]: { auth } } });
}
