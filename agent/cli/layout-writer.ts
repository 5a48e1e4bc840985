import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, open, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Transform, type TransformCallback } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { pack } from 'tar-stream';
import type { Sha256 } from '../../cache/types.ts';

/** A descriptor of the image specification. */
interface WrittenBlob {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** One image of a layout, under one name. */
interface NamedManifest extends WrittenBlob {
  readonly annotations: Readonly<Record<string, string>>;
}

/** A module file to be put into an image. */
export interface ModuleFile {
  readonly path: string;
  readonly digest: Sha256;
  readonly sizeBytes: number;
}

const manifestType = 'application/vnd.oci.image.manifest.v1+json';
const indexType = 'application/vnd.oci.image.index.v1+json';
const configType = 'application/vnd.oci.image.config.v1+json';
/** The form that the stock agent takes as well: a layer that holds `plugin.wasm` (contract of solo-io/wasm, compat). */
const layerType = 'application/vnd.oci.image.layer.v1.tar+gzip';

/** Fixed, so that the same module gives the same image. */
const entryTime = new Date(0);

/** The bytes of a module are not those of its name. */
export class DamagedModuleError extends Error {
  override readonly name = 'DamagedModuleError';
}

/**
 * Writes a new OCI image layout folder (image specification, image-layout.md). It appears whole under its name with
 * `commit`, or not at all.
 */
export class LayoutWriter implements AsyncDisposable {
  readonly #folder: string;
  readonly #workFolder: string;
  readonly #manifests: NamedManifest[] = [];
  #isDone = false;

  private constructor(folder: string, workFolder: string) {
    this.#folder = folder;
    this.#workFolder = workFolder;
  }

  /** `folder` is absolute, and does not exist or is empty. Throws the system's error. */
  static async begin(folder: string): Promise<LayoutWriter> {
    await mkdir(dirname(folder), { recursive: true });
    // Beside it: a rename within one file system is atomic.
    const workFolder = await mkdtemp(join(dirname(folder), `.${basename(folder)}.`));
    await mkdir(join(workFolder, 'blobs', 'sha256'), { recursive: true });
    return new LayoutWriter(folder, workFolder);
  }

  /**
   * Adds an image with the module as `plugin.wasm`, once for each name (at least one). Returns the digest of its
   * manifest. Throws DamagedModuleError, the signal's reason and the system's error.
   */
  async add(
    module: ModuleFile,
    names: readonly string[],
    options: { readonly signal: AbortSignal },
  ): Promise<Sha256> {
    const layer = await this.#writeLayer(module, options.signal);
    const config = await this.#writeJson(configType, {
      architecture: 'amd64',
      os: 'linux',
      config: {},
      rootfs: { type: 'layers', diff_ids: [layer.diffId] },
    });
    const { mediaType, digest, size } = layer;
    const manifest = await this.#writeJson(manifestType, {
      schemaVersion: 2,
      mediaType: manifestType,
      config,
      layers: [{ mediaType, digest, size }],
    });
    for (const name of names) {
      this.#manifests.push({ ...manifest, annotations: { 'org.opencontainers.image.ref.name': name } });
    }
    return manifest.digest.slice('sha256:'.length);
  }

  /** Gives the folder its name. Throws the system's error. */
  async commit(): Promise<void> {
    const index = { schemaVersion: 2, mediaType: indexType, manifests: this.#manifests };
    await writeFile(join(this.#workFolder, 'index.json'), JSON.stringify(index), { flush: true });
    await writeFile(join(this.#workFolder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}', { flush: true });
    // `mkdtemp` makes it private; what is exported is to be read by others.
    const work = await open(this.#workFolder);
    try {
      await work.chmod(0o755);
    } finally {
      await work.close();
    }
    await rmdir(this.#folder).catch(() => undefined);
    await rename(this.#workFolder, this.#folder);
    this.#isDone = true;
  }

  /** Leaves nothing when there was no commit. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isDone) await rm(this.#workFolder, { recursive: true, force: true });
  }

  async #writeLayer(
    module: ModuleFile,
    signal: AbortSignal,
  ): Promise<WrittenBlob & { readonly diffId: string }> {
    const path = join(this.#workFolder, 'layer');
    const tar = pack();
    const [content, archive, served] = [new HashedBytes(), new HashedBytes(), new HashedBytes()];
    const feed = async (): Promise<void> => {
      const { sizeBytes: size } = module;
      const entry = tar.entry({ name: 'plugin.wasm', size, mtime: entryTime, mode: 0o644, uid: 0, gid: 0 });
      try {
        await pipeline(createReadStream(module.path), content, entry, { signal });
        tar.finalize();
      } catch (error) {
        tar.destroy();
        throw error;
      }
    };
    await Promise.all([
      feed(),
      pipeline(tar, archive, createGzip(), served, createWriteStream(path), { signal }),
    ]);
    if (content.digest() !== module.digest) {
      throw new DamagedModuleError(`the bytes of ${module.path} have sha256:${content.digest()}`);
    }
    const digest = served.digest();
    await rename(path, join(this.#workFolder, 'blobs', 'sha256', digest));
    return {
      mediaType: layerType,
      digest: `sha256:${digest}`,
      size: served.sizeBytes,
      diffId: `sha256:${archive.digest()}`,
    };
  }

  async #writeJson(mediaType: string, document: object): Promise<WrittenBlob> {
    const bytes = Buffer.from(JSON.stringify(document));
    const digest = createHash('sha256').update(bytes).digest('hex');
    await writeFile(join(this.#workFolder, 'blobs', 'sha256', digest), bytes);
    return { mediaType, digest: `sha256:${digest}`, size: bytes.byteLength };
  }
}

/** Passes bytes on and hashes them. */
class HashedBytes extends Transform {
  readonly #hash = createHash('sha256');
  #digest: Sha256 | undefined;
  sizeBytes = 0;

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#hash.update(chunk);
    this.sizeBytes += chunk.byteLength;
    done(null, chunk);
  }

  /** To be asked when all bytes have passed. */
  digest(): Sha256 {
    this.#digest ??= this.#hash.digest('hex');
    return this.#digest;
  }
}
