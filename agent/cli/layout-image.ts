import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Sha256 } from '../../cache/types.ts';
import { descriptorSha256, parseManifest } from '../fetch/oci/manifest.ts';
import { repositoryName } from '../fetch/oci/reference.ts';
import { describeError } from '../log.ts';
import { readReference } from './cache-content.ts';
import { refusal, usageError } from './operator-run.ts';

/** One image of a layout folder. */
export interface LayoutImage {
  /** Absolute. */
  readonly folder: string;
  /** As the folder names it; undefined: it does not. */
  readonly name: string | undefined;
  readonly digest: Sha256;
  /** What the name is as a URL; undefined where it is not a whole one. */
  readonly url: string | undefined;
  /** A URL under which the agent's fetchers find it in the folder. */
  readonly digestUrl: string;
}

/** Larger ones are of no use to anybody. */
const maxIndexBytes = 4 * 1024 * 1024;
const maxToldCount = 10;

/** Annotations that name an image, best first (containerd, image specification). */
const nameAnnotations = ['io.containerd.image.name', 'org.opencontainers.image.ref.name'];

/**
 * The image of a layout folder with this name or digest; with an empty text the only one there is. Throws CommandError.
 */
export async function readLayoutImage(folder: string, wanted: string): Promise<LayoutImage> {
  const images = await readImages(folder);
  const hex = /^(?:sha256:)?([0-9a-f]{64})$/.exec(wanted)?.[1];
  const found = images.filter(({ name, digest }) => wanted === '' || name === wanted || digest === hex);
  const [first] = found;
  const names = images.slice(0, maxToldCount).map(({ name, digest }) => name ?? `sha256:${digest}`);
  const more = images.length > maxToldCount ? `, and ${images.length - maxToldCount} more` : '';
  if (images.length === 0) throw refusal(`${join(folder, 'index.json')} names no image`);
  if (first === undefined) {
    throw usageError(
      `--image: ${JSON.stringify(wanted.slice(0, 200))} is none of the images: ${names.join(', ')}${more}`,
    );
  }
  if (new Set(found.map(({ digest }) => digest)).size > 1) {
    throw usageError(`${folder} holds several images; choose one with --image: ${names.join(', ')}${more}`);
  }
  return first;
}

async function readImages(folder: string): Promise<readonly LayoutImage[]> {
  const path = join(folder, 'index.json');
  try {
    const index = await parseManifest(await readBytes(path), undefined);
    if (index.kind !== 'index') throw new Error('it is no index');
    return index.manifests.flatMap((descriptor) => {
      const digest = descriptorSha256(descriptor);
      const name = nameAnnotations
        .map((key) => descriptor.annotations[key])
        .find((text) => text !== undefined);
      return digest === undefined ? [] : [describeImage(folder, name, digest)];
    });
  } catch (error) {
    throw refusal(`cannot read ${path}: ${describeError(error)}; copy the images again`, { cause: error });
  }
}

function describeImage(folder: string, name: string | undefined, digest: Sha256): LayoutImage {
  // A name without a place in it says nothing of whose image it is.
  const url =
    name?.includes('/') === true && readReference(`oci://${name}`) !== undefined
      ? `oci://${name}`
      : undefined;
  const reference = url === undefined ? undefined : readReference(url);
  const repository = reference === undefined ? 'oci://layout.invalid/image' : repositoryName(reference);
  return { folder, name, digest, url, digestUrl: `${repository}@sha256:${digest}` };
}

async function readBytes(path: string): Promise<Buffer> {
  // A pipe in its place must not hold up anybody.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stats = await file.stat();
    if (!stats.isFile()) throw new Error('it is not a regular file');
    const { size } = stats;
    if (size > maxIndexBytes) throw new Error(`it has ${size} bytes, more than ${maxIndexBytes}`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}
