import {
  type Descriptor,
  descriptorSha256,
  dockerListType,
  dockerManifestType,
  type Manifest,
  ociIndexType,
  ociManifestType,
  type Platform,
} from './manifest.ts';

/** Why one candidate was not taken. */
export interface Refusal {
  /** Names the candidate: its digest, media type and platform. */
  readonly candidate: string;
  readonly reason: string;
}

export type ChildDecision =
  | {
      readonly kind: 'chosen';
      readonly descriptor: Descriptor;
      readonly reason: string;
      readonly refusals: readonly Refusal[];
    }
  | { readonly kind: 'refused'; readonly reason: string; readonly refusals: readonly Refusal[] };

/** A layer that may hold the module. */
export interface LayerChoice {
  readonly descriptor: Descriptor;
  /** Which of the known layouts it is. */
  readonly layout: 'compat' | 'artifact' | 'sole-archive';
  /** `raw`: the blob is the module itself, so their digests are one. `archive`: a file `plugin.wasm` in a tar. */
  readonly content: 'raw' | 'archive';
  readonly reason: string;
}

export type LayerDecision =
  | {
      readonly kind: 'chosen';
      /** Best first, at least one. The next is tried when there is no module in the one before. */
      readonly choices: readonly [LayerChoice, ...LayerChoice[]];
      readonly refusals: readonly Refusal[];
    }
  | { readonly kind: 'refused'; readonly reason: string; readonly refusals: readonly Refusal[] };

type ImageManifest = Extract<Manifest, { kind: 'image' }>;
type IndexManifest = Extract<Manifest, { kind: 'index' }>;

const childTypes: readonly string[] = [ociManifestType, dockerManifestType, ociIndexType, dockerListType];

interface ChildRung {
  readonly reason: string;
  readonly isMatch: (platform: Platform | undefined) => boolean;
}

/**
 * Best platform first. A child without platform counts as linux/amd64, as the stock agent's library has it
 * (google/go-containerregistry `pkg/v1/remote/index.go`).
 */
const childRungs: readonly ChildRung[] = [
  {
    reason: 'it is for wasip1/wasm',
    isMatch: (platform) => platform?.os === 'wasip1' && platform.architecture === 'wasm',
  },
  {
    reason: 'it is for a wasm platform',
    isMatch: (platform) => platform?.architecture === 'wasm' || platform?.os === 'wasm',
  },
  {
    reason: 'it is for linux/amd64, or has no platform',
    isMatch: (platform) =>
      platform === undefined || (platform.os === 'linux' && platform.architecture === 'amd64'),
  },
];

/** Chooses the manifest of an index that holds the module. Pure. */
export function chooseChild(index: IndexManifest): ChildDecision {
  const refusals: Refusal[] = [];
  const usable = index.manifests.filter((child) => {
    const reason = childFault(child);
    if (reason !== undefined) refusals.push({ candidate: describe(child), reason });
    return reason === undefined;
  });
  const rung = childRungs.find((each) => usable.some((child) => each.isMatch(child.platform)));
  const sole = usable.length === 1 ? usable[0] : undefined;
  const descriptor = rung === undefined ? sole : usable.find((child) => rung.isMatch(child.platform));
  if (descriptor === undefined) {
    const reason =
      usable.length === 0
        ? 'the index holds no image'
        : 'the index holds several images and none for wasip1/wasm, wasm or linux/amd64; push one for wasip1/wasm';
    const rest = usable.map((child) => ({
      candidate: describe(child),
      reason: 'its platform is not wanted',
    }));
    return { kind: 'refused', reason, refusals: [...refusals, ...rest] };
  }
  const reason = rung?.reason ?? 'it is the only image of the index';
  const others = usable
    .filter((child) => child !== descriptor)
    .map((child) => ({ candidate: describe(child), reason: 'another image comes first' }));
  return { kind: 'chosen', descriptor, reason, refusals: [...refusals, ...others] };
}

function childFault(child: Descriptor): string | undefined {
  if (child.annotations['vnd.docker.reference.type'] === 'attestation-manifest')
    return 'it is an attestation';
  if (child.platform?.os === 'unknown' && child.platform.architecture === 'unknown')
    return 'its platform is unknown';
  if (!childTypes.includes(child.mediaType)) return 'its media type is no image manifest';
  if (descriptorSha256(child) === undefined) return 'its digest is not SHA-256';
  return undefined;
}

/** Raw module layers, by media type: the artifact variant of solo-io/wasm, the CNCF Wasm artifact, wasm-to-oci. */
const rawLayerTypes: readonly string[] = [
  'application/vnd.module.wasm.content.layer.v1+wasm',
  'application/wasm',
  'application/vnd.wasm.content.layer.v1+wasm',
];

/** Tar layers, in gzip or not; what they are is told by their bytes. */
const archiveLayerTypes: readonly string[] = [
  'application/vnd.oci.image.layer.v1.tar+gzip',
  'application/vnd.docker.image.rootfs.diff.tar.gzip',
  'application/vnd.oci.image.layer.v1.tar',
  'application/vnd.docker.image.rootfs.diff.tar',
];

type Layout = (layers: readonly Descriptor[]) => Omit<LayerChoice, 'content'> | undefined;

/** The known layouts, best first. A new one is one more function. */
const layouts: readonly Layout[] = [
  (layers) => {
    const last = layers.at(-1);
    if (last === undefined || !archiveLayerTypes.includes(last.mediaType)) return undefined;
    return { descriptor: last, layout: 'compat', reason: 'it is the last layer and a tar archive' };
  },
  (layers) => {
    const raw = layers.find((layer) => rawLayerTypes.includes(layer.mediaType));
    if (raw === undefined) return undefined;
    return { descriptor: raw, layout: 'artifact', reason: 'its media type is that of a Wasm module' };
  },
  (layers) => {
    const archives = layers.filter((layer) => archiveLayerTypes.includes(layer.mediaType));
    const [only] = archives;
    if (only === undefined || archives.length > 1) return undefined;
    return { descriptor: only, layout: 'sole-archive', reason: 'it is the only tar archive' };
  },
];

/** Chooses the layers of an image that may hold the module. Pure. */
export function chooseLayers(image: ImageManifest): LayerDecision {
  const usable = image.layers.filter((layer) => descriptorSha256(layer) !== undefined);
  const choices: LayerChoice[] = [];
  for (const layout of layouts) {
    const found = layout(usable);
    if (found === undefined || choices.some((choice) => choice.descriptor === found.descriptor)) continue;
    const content = rawLayerTypes.includes(found.descriptor.mediaType) ? 'raw' : 'archive';
    choices.push({ ...found, content });
  }
  const refusals = image.layers
    .filter((layer) => !choices.some((choice) => choice.descriptor === layer))
    .map((layer) => ({ candidate: describe(layer), reason: layerFault(layer) }));
  const [first, ...rest] = choices;
  if (first === undefined) {
    const reason =
      image.layers.length === 0
        ? 'the image has no layers'
        : 'the image has no layer of a known kind: a last layer in tar+gzip with plugin.wasm, or one of type application/vnd.module.wasm.content.layer.v1+wasm';
    return { kind: 'refused', reason, refusals };
  }
  return { kind: 'chosen', choices: [first, ...rest], refusals };
}

function layerFault(layer: Descriptor): string {
  if (descriptorSha256(layer) === undefined) return 'its digest is not SHA-256';
  if (layer.mediaType.endsWith('zstd')) return 'zstd is not supported; push it as gzip';
  if (archiveLayerTypes.includes(layer.mediaType))
    return 'it is neither the last layer nor the only tar archive';
  if (rawLayerTypes.includes(layer.mediaType)) return 'another module layer comes before it';
  return 'its media type is not that of a module';
}

/** Refusals as one line for an error message; long lists are cut. */
export function describeRefusals(refusals: readonly Refusal[]): string {
  const shown = refusals.slice(0, maxShownRefusals).map(({ candidate, reason }) => `${candidate}: ${reason}`);
  const rest = refusals.length - shown.length;
  return [...shown, ...(rest > 0 ? [`and ${rest} more`] : [])].join('; ');
}

const maxShownRefusals = 8;
/** Texts of a manifest are printed cut and quoted: anybody can write them. */
const maxPrintedLength = 100;

function describe(descriptor: Descriptor): string {
  const printable = (text: string): string => JSON.stringify(text.slice(0, maxPrintedLength)).slice(1, -1);
  const platform =
    descriptor.platform === undefined ? '' : ` ${printable(platformText(descriptor.platform))}`;
  return `${printable(descriptor.digest)} (${printable(descriptor.mediaType)}${platform})`;
}

function platformText(platform: Platform | undefined): string {
  return platform === undefined ? 'no platform' : `${platform.os}/${platform.architecture}`;
}
