import { randomBytes } from 'node:crypto';
import type { Sha256, SharedRecordIndex } from '../../cache/types.ts';
import { anonymousReader } from './credentials.ts';
import type { HttpValidators } from './http-validators.ts';
import { sha256Of } from './oci/reference.ts';
import { isSha256, matchPin } from './pin.ts';
import { isRecordedSignature, joinSignatures, type RecordedSignature } from './recorded-signature.ts';
import type { ModuleDigests } from './types.ts';

/** What is known of one module of one repository or URL. Holds no secret. */
export interface ModuleRecord {
  readonly kind: 'module';
  /** For people: the repository, or the URL without its secret parts. */
  readonly label: string;
  /** What the stock agent calls the checksum: the manifest's digest for OCI, the module's for HTTP. */
  readonly checksum: Sha256;
  readonly digests: ModuleDigests & { readonly module: Sha256 };
  readonly sizeBytes: number;
  /** Which place the bytes came from, for people. */
  readonly sourceName?: string | undefined;
  /** Fingerprints of the credentials that have read it, newest last. */
  readonly readers: readonly string[];
  /** Good signatures on the manifest or an index above it, newest last. */
  readonly signatures?: readonly RecordedSignature[] | undefined;
  /** Epoch ms. */
  readonly fetchedAtMs: number;
}

/** How a web server knows whether the module of a URL has changed. */
export interface PlaceValidators extends HttpValidators {
  /** SHA-256 of the URL that was asked: a mirror knows nothing of the validators of the origin. */
  readonly place: Sha256;
}

/** Which module a URL named when it was last fetched, and for which version of which config. */
export interface UrlRecord {
  readonly kind: 'url';
  readonly label: string;
  readonly checksum: Sha256;
  /** Pairs of resource name and resource version, newest last. */
  readonly versions: readonly (readonly [string, string])[];
  /** The digest that the tag has: of an index, or of the manifest itself. */
  readonly resolved?: Sha256 | undefined;
  /** Of the module with `checksum`. */
  readonly validators?: PlaceValidators | undefined;
  /** Epoch ms: when the place of the URL last said so. */
  readonly fetchedAtMs: number;
}

/** What the place of a URL said about it. */
export type UrlAnswer = Pick<UrlRecord, 'resolved' | 'validators'>;

const noAnswer: UrlAnswer = {};

/** The key of the credential fingerprints of this cache. */
export interface FingerprintKeyRecord {
  readonly kind: 'fingerprint-key';
  readonly hex: string;
}

/** What the record index of the module cache holds. */
export type CacheRecord = ModuleRecord | UrlRecord | FingerprintKeyRecord;

/** Bound of the record index: far more than one proxy loads. Losing a record costs a fetch. */
export const maxCacheRecordCount = 4096;

const maxReaderCount = 64;
const maxVersionCount = 256;
const maxIndexDigestCount = 16;
const fingerprintKeyBytes = 32;
const fingerprintKeyName = 'fingerprint-key';

/** The memory of the module cache: which bytes a URL or pin meant, and who may have them. Survives restarts. */
export class CacheRecords {
  readonly #index: SharedRecordIndex<CacheRecord>;
  readonly #epochMs: () => number;
  #fingerprintKey: Buffer | undefined;

  constructor(options: { readonly index: SharedRecordIndex<CacheRecord>; readonly epochMs: () => number }) {
    this.#index = options.index;
    this.#epochMs = options.epochMs;
  }

  /** Takes over what another process has put into the index; true when there was something. */
  async refresh(): Promise<boolean> {
    return this.#index.refresh();
  }

  /** Made with the first call; the same for the life of the cache folder. */
  fingerprintKey(): Uint8Array {
    const stored = this.#index.get(fingerprintKeyName);
    if (stored?.kind === 'fingerprint-key') {
      this.#fingerprintKey ??= Buffer.from(stored.hex, 'hex');
      return this.#fingerprintKey;
    }
    // New, or pushed out of a full index.
    this.#fingerprintKey ??= randomBytes(fingerprintKeyBytes);
    this.#index.set(fingerprintKeyName, {
      kind: 'fingerprint-key',
      hex: this.#fingerprintKey.toString('hex'),
    });
    return this.#fingerprintKey;
  }

  /** The module of `name` with this checksum. `name` may hold secrets: only its hash is kept. */
  module(name: string, checksum: Sha256): ModuleRecord | undefined {
    const record = this.#index.get(moduleKey(name, checksum));
    return record?.kind === 'module' ? record : undefined;
  }

  /** The module of `name` that the pin means, by any of its digests. */
  pinned(name: string, pin: Sha256): ModuleRecord | undefined {
    const direct = this.module(name, pin);
    if (direct !== undefined) return direct;
    const prefix = moduleKey(name, '');
    for (const [key, record] of this.#index.entries()) {
      if (record.kind !== 'module' || !key.startsWith(prefix)) continue;
      if (matchPin(pin, record.digests) !== undefined) return record;
    }
    return undefined;
  }

  /**
   * Adds what was learned of a module: index digests, signatures and a reader are added to what is known of the same
   * bytes.
   */
  learnModule(
    name: string,
    learned: Omit<ModuleRecord, 'kind' | 'readers' | 'fetchedAtMs'>,
    reader: string,
  ): ModuleRecord {
    const known = this.module(name, learned.checksum);
    const isSame = known?.digests.module === learned.digests.module;
    const readers = [...(isSame ? known.readers : []).filter((each) => each !== reader), reader];
    const index = [...new Set([...(isSame ? known.digests.index : []), ...learned.digests.index])];
    const record: ModuleRecord = {
      ...learned,
      kind: 'module',
      digests: { ...learned.digests, index: index.slice(-maxIndexDigestCount) },
      readers: readers.slice(-maxReaderCount),
      signatures: joinSignatures(isSame ? known.signatures : undefined, learned.signatures),
      fetchedAtMs: this.#epochMs(),
    };
    this.#index.set(moduleKey(name, learned.checksum), record);
    return record;
  }

  deleteModule(name: string, checksum: Sha256): void {
    this.#index.delete(moduleKey(name, checksum));
  }

  /** What a URL meant last time; undefined when it is new. */
  url(url: string): UrlRecord | undefined {
    const record = this.#index.get(urlKey(url));
    return record?.kind === 'url' ? record : undefined;
  }

  /**
   * Notes, after success only, what a URL means now and which version of which config it was fetched for.
   * `resolved` is given when somebody was asked: then what is known is as fresh as now.
   */
  learnUrl(
    url: string,
    learned: {
      readonly label: string;
      readonly checksum: Sha256;
      readonly resourceName: string;
      readonly resourceVersion: string;
      readonly answered: UrlAnswer | undefined;
    },
  ): void {
    const { label, checksum, resourceName, resourceVersion, answered } = learned;
    const known = this.url(url);
    const isKnown = known?.checksum === checksum && versionFor(known, resourceName) === resourceVersion;
    if (isKnown && answered === undefined) return;
    const others = (known?.versions ?? []).filter(([name]) => name !== resourceName);
    const versions = [...others, [resourceName, resourceVersion] as const].slice(-maxVersionCount);
    const before = known?.checksum === checksum ? known : undefined;
    const { resolved, validators } = answered ?? before ?? noAnswer;
    const fetchedAtMs = answered === undefined ? (before?.fetchedAtMs ?? 0) : this.#epochMs();
    this.#index.set(urlKey(url), {
      kind: 'url',
      label,
      checksum,
      versions,
      resolved,
      validators,
      fetchedAtMs,
    });
  }

  forgetUrl(url: string): void {
    this.#index.delete(urlKey(url));
  }

  /** Age of what is known of a URL, in ms. A clock that was put back makes nothing fresh. */
  ageMs(record: UrlRecord): number {
    const ageMs = this.#epochMs() - record.fetchedAtMs;
    return ageMs < 0 ? Number.POSITIVE_INFINITY : ageMs;
  }

  /** Forgets modules whose files are gone, and URLs that named them. */
  forget(digests: Iterable<Sha256>): void {
    const gone = new Set(digests);
    if (gone.size === 0) return;
    const checksums = new Set<Sha256>();
    const entries = [...this.#index.entries()];
    for (const [key, record] of entries) {
      if (record.kind !== 'module' || !gone.has(record.digests.module)) continue;
      checksums.add(record.checksum);
      this.#index.delete(key);
    }
    for (const [key, record] of entries) {
      if (record.kind === 'url' && checksums.has(record.checksum)) this.#index.delete(key);
    }
  }

  get moduleCount(): number {
    return [...this.#index.entries()].filter(([, record]) => record.kind === 'module').length;
  }
}

/** The version of a config that a URL was last fetched for; never fetched counts as the empty version. */
export function versionFor(record: UrlRecord, resourceName: string): string {
  // Asked by each plugin, of a list as long as there are plugins: a pattern in place of `pair` costs ten times as much.
  return record.versions.find((pair) => pair[0] === resourceName)?.[1] ?? '';
}

/** True when a module may be given to the holder of this fingerprint: it, or anybody, has read it. */
export function isReadableBy(record: ModuleRecord, reader: string): boolean {
  return record.readers.includes(reader) || record.readers.includes(anonymousReader);
}

function moduleKey(name: string, checksum: Sha256): string {
  return `module ${sha256Of(name)} ${checksum}`;
}

function urlKey(url: string): string {
  return `url ${sha256Of(url)}`;
}

/** A record as it was stored by this or another version of the agent; undefined when it makes no sense. */
export function parseCacheRecord(value: unknown): CacheRecord | undefined {
  return isCacheRecord(value) ? value : undefined;
}

function isCacheRecord(value: unknown): value is CacheRecord {
  const record = fieldsOf(value);
  switch (record?.get('kind')) {
    case 'fingerprint-key':
      return isHexKey(record.get('hex'));
    case 'url':
      return (
        isDigest(record.get('checksum')) &&
        typeof record.get('label') === 'string' &&
        typeof record.get('fetchedAtMs') === 'number' &&
        isOptional(record.get('resolved'), isDigest) &&
        isOptional(record.get('validators'), isPlaceValidators) &&
        isListOf(record.get('versions'), (pair) => isListOf(pair, isText) && pair.length === 2)
      );
    case 'module': {
      const digests = fieldsOf(record.get('digests'));
      const optional = [digests?.get('manifest'), digests?.get('layer'), digests?.get('archive')];
      return (
        isDigest(record.get('checksum')) &&
        typeof record.get('label') === 'string' &&
        typeof record.get('fetchedAtMs') === 'number' &&
        typeof record.get('sizeBytes') === 'number' &&
        isOptional(record.get('sourceName'), isText) &&
        isListOf(record.get('readers'), isText) &&
        isOptional(record.get('signatures'), (list) => isListOf(list, isRecordedSignature)) &&
        isDigest(digests?.get('module')) &&
        isListOf(digests?.get('index'), isDigest) &&
        optional.every((digest) => isOptional(digest, isDigest))
      );
    }
    default:
      return false;
  }
}

function isPlaceValidators(value: unknown): boolean {
  const fields = fieldsOf(value);
  const texts = [fields?.get('etag'), fields?.get('lastModified')];
  return isDigest(fields?.get('place')) && texts.every((text) => isOptional(text, isText));
}

function fieldsOf(value: unknown): ReadonlyMap<string, unknown> | undefined {
  return typeof value === 'object' && value !== null ? new Map(Object.entries(value)) : undefined;
}

function isListOf<Item>(value: unknown, isItem: (item: unknown) => item is Item): value is readonly Item[];
function isListOf(value: unknown, isItem: (item: unknown) => boolean): value is readonly unknown[];
function isListOf(value: unknown, isItem: (item: unknown) => boolean): boolean {
  return Array.isArray(value) && value.every((item) => isItem(item));
}

function isOptional(value: unknown, isValue: (value: unknown) => boolean): boolean {
  return value === undefined || isValue(value);
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}

function isDigest(value: unknown): value is Sha256 {
  return typeof value === 'string' && isSha256(value);
}

function isHexKey(value: unknown): boolean {
  return typeof value === 'string' && value.length === 2 * fingerprintKeyBytes && /^[0-9a-f]+$/.test(value);
}
