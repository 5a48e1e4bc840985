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
  readonly layout: 'compat' | 'artifact' | 'sole-archive' | 'lower-archive' | 'unknown-type';
  /** What its media type says it holds: `raw` the module, `archive` a file `plugin.wasm` in a tar. Its bytes decide. */
  readonly content: 'raw' | 'archive' | 'unknown';
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
  /** The stock agent takes the first of several; for platforms that it does not know, nothing is taken by position. */
  readonly isFirstTaken: boolean;
  readonly isMatch: (platform: Platform | undefined) => boolean;
}

/**
 * Best platform first. A child without platform counts as linux/amd64, as the stock agent's library has it
 * (google/go-containerregistry `pkg/v1/remote/index.go`).
 */
const childRungs: readonly ChildRung[] = [
  {
    reason: 'it is for wasip1/wasm',
    isFirstTaken: false,
    isMatch: (platform) => platform?.os === 'wasip1' && platform.architecture === 'wasm',
  },
  {
    reason: 'it is for a wasm platform',
    isFirstTaken: false,
    isMatch: (platform) => platform?.architecture === 'wasm' || platform?.os === 'wasm',
  },
  {
    reason: 'it is for linux/amd64, or has no platform',
    isFirstTaken: true,
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
  const matches = rung === undefined ? [] : usable.filter((child) => rung.isMatch(child.platform));
  if (rung?.isFirstTaken === false && new Set(matches.map((child) => child.digest)).size > 1) {
    const rest = usable.map((child) => ({
      candidate: describe(child),
      reason: matches.includes(child) ? 'it is one of several candidates' : 'its platform is not wanted',
    }));
    const reason = `the index holds several images of which ${rung.reason.replace('it is', 'each is')}; push one, or pin one by its digest`;
    return { kind: 'refused', reason, refusals: [...refusals, ...rest] };
  }
  const descriptor = rung === undefined ? sole : matches[0];
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

/** Chooses the layers of an image that may hold the module, best first. Pure. */
export function chooseLayers(image: ImageManifest): LayerDecision {
  const classed = image.layers.map((layer) => ({ layer, kind: layerKind(layer) }));
  const ofKind = (kind: LayerKind): readonly Descriptor[] =>
    distinct(classed.filter((each) => each.kind === kind).map((each) => each.layer));
  const modules = ofKind('module');
  const titled = [...ofKind('archive'), ...ofKind('unknown')].filter(isTitledWasm);
  const rival = modules.length > 1 ? modules : modules.length === 0 && titled.length > 1 ? titled : [];
  if (rival.length > 1) {
    const refusals = image.layers.map((layer) => ({
      candidate: describe(layer),
      reason: rival.includes(layer) ? 'it is one of several candidates' : 'it is not looked at',
    }));
    return {
      kind: 'refused',
      reason: 'the image has several layers that are Wasm modules; push one module an image',
      refusals,
    };
  }
  const last = image.layers.at(-1);
  const archive = (descriptor: Descriptor, isSole: boolean): LayerChoice => {
    if (descriptor === last) {
      return {
        descriptor,
        layout: 'compat',
        content: 'archive',
        reason: 'it is the last layer and a tar archive',
      };
    }
    return isSole
      ? { descriptor, layout: 'sole-archive', content: 'archive', reason: 'it is the only tar archive' }
      : {
          descriptor,
          layout: 'lower-archive',
          content: 'archive',
          reason: 'it is a tar archive below the last',
        };
  };
  // Layers of an image lie one over the other: what is in an upper one hides what is in a lower one.
  const archives = ofKind('archive').toReversed();
  const all: readonly LayerChoice[] = [
    ...modules.map(
      (descriptor): LayerChoice => ({
        descriptor,
        layout: 'artifact',
        content: 'raw',
        reason: 'its media type is that of a Wasm module',
      }),
    ),
    ...titledFirst(archives).map((descriptor) => archive(descriptor, archives.length === 1)),
    ...titledFirst(ofKind('unknown')).map(
      (descriptor): LayerChoice => ({
        descriptor,
        layout: 'unknown-type',
        content: 'unknown',
        reason: 'its media type is not known, so its bytes decide',
      }),
    ),
  ];
  const choices = all.slice(0, maxTriedLayerCount);
  const refusals = classed
    .filter(({ layer }) => !choices.some((choice) => choice.descriptor === layer))
    .map(({ layer, kind }) => ({ candidate: describe(layer), reason: layerFault(layer, kind) }));
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

/** Downloads that one image may cost before a module is found in it. */
const maxTriedLayerCount = 8;

type LayerKind =
  /** By its media type the module itself. */
  | 'module'
  /** By its media type a tar archive; what it is is told by its bytes. */
  | 'archive'
  /** Goes along with a module: settings, documents, signatures. */
  | 'companion'
  | 'unknown'
  | 'unusable';

/** The module itself: the artifact variant of solo-io/wasm, the CNCF Wasm artifact, wasm-to-oci. */
const moduleTypes: readonly string[] = [
  'application/vnd.module.wasm.content.layer.v1+wasm',
  'application/wasm',
  'application/vnd.wasm.content.layer.v1+wasm',
];

/** Tar layers of OCI and Docker, in gzip, zstd or not. */
const archivePattern =
  /^application\/vnd\.(?:oci\.image\.layer(?:\.nondistributable)?\.v1\.tar|docker\.image\.rootfs\.(?:foreign\.)?diff\.tar)(?:[.+](?:gzip|zstd))?$/;

/** By the suffix of a structured type (RFC 6839), or plainly a text. */
const companionPattern = /^text\/|\+(?:json|yaml|markdown|xml)$|^application\/(?:json|yaml|x-yaml|xml|pdf)$/;

const emptyType = 'application/vnd.oci.empty.v1+json';
/** Digest of `{}`, the content of that type (OCI image specification, "empty descriptor"). */
const emptyDigest = 'sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a';

function layerKind(layer: Descriptor): LayerKind {
  const mediaType = layer.mediaType.toLowerCase().replace(/\s*;.*$/s, '');
  if (descriptorSha256(layer) === undefined) return 'unusable';
  if (moduleTypes.includes(mediaType)) return 'module';
  if (archivePattern.test(mediaType)) return 'archive';
  // Docker gives this type to layers of artifacts that it pushes again.
  if (mediaType === emptyType && layer.digest !== emptyDigest) return 'unknown';
  return companionPattern.test(mediaType) ? 'companion' : 'unknown';
}

function layerFault(layer: Descriptor, kind: LayerKind): string {
  switch (kind) {
    case 'unusable':
      return 'its digest is not SHA-256';
    case 'companion':
      return layer.digest === emptyDigest ? 'it is empty' : 'its media type is not that of a module';
    case 'module':
    case 'archive':
    case 'unknown':
      return `it is the same as another layer, or there are ${maxTriedLayerCount} better ones`;
    default:
      return kind satisfies never;
  }
}

/** The name that a file had when it was pushed (OCI image specification, annotations). */
function isTitledWasm(layer: Descriptor): boolean {
  return layer.annotations['org.opencontainers.image.title']?.toLowerCase().endsWith('.wasm') === true;
}

function titledFirst(layers: readonly Descriptor[]): readonly Descriptor[] {
  return [...layers.filter(isTitledWasm), ...layers.filter((layer) => !isTitledWasm(layer))];
}

/** Each digest once. */
function distinct(layers: readonly Descriptor[]): readonly Descriptor[] {
  return [...new Map(layers.map((layer) => [layer.digest, layer])).values()];
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
