import { join } from 'node:path';
import type { FolderContent, FolderView, ViewedBlob } from '../../cache/folder-view.ts';
import { type RecordFile, readRecordFile } from '../../cache/record-file.ts';
import type { Sha256 } from '../../cache/types.ts';
import { type ModuleRecord, parseCacheRecord, type UrlRecord } from '../fetch/cache-records.ts';
import { anonymousReader } from '../fetch/credentials.ts';
import { parseModuleUrl } from '../fetch/module-url.ts';
import { type OciReference, repositoryName } from '../fetch/oci/reference.ts';
import { FetchError } from '../fetch/types.ts';
import { cacheRecordsFile } from '../wasm/data-files.ts';
import { refusal } from './operator-run.ts';

/**
 * What another process than the agent takes for left behind: it may not see the processes of another container, so
 * only what nobody has written to for this long, far more than a download takes.
 */
export const orphanAgeMs = 3_600_000;

/** One module of the cache with all that is known of it. */
export interface CachedModule extends ViewedBlob {
  /** What it was fetched as: URLs with their tags, else repositories. Without secrets. */
  readonly names: readonly string[];
  /** One for each place it was fetched from. */
  readonly records: readonly ModuleRecord[];
  /** True: it is given only to configs with a credential that has read it. */
  readonly isPrivate: boolean;
}

/** A cache folder as an operator sees it. */
export interface CacheContent extends Omit<FolderContent, 'blobs'> {
  /** The least recently used first. */
  readonly modules: readonly CachedModule[];
  readonly records: RecordFile;
  /** Records of modules that are not there: they cost nothing and go with their next use. */
  readonly missingModuleCount: number;
}

/** Reads the folder and changes nothing. Throws CommandError when there is no cache, CacheError when it cannot be read. */
export async function readCache(view: FolderView): Promise<CacheContent> {
  if (!(await view.exists())) {
    throw refusal(
      `there is no module cache in ${view.root}: no module was ever kept there; name the agent's folder with --data-folder`,
    );
  }
  const { blobs, ...rest } = await view.read({ orphanAgeMs });
  const records = await readRecordFile(join(view.root, cacheRecordsFile));
  const parsed =
    records.kind === 'read' ? records.records.flatMap(([, value]) => parseCacheRecord(value) ?? []) : [];
  const modules = parsed.filter((record) => record.kind === 'module');
  const urls = parsed.filter((record) => record.kind === 'url');
  const present = new Set(blobs.map(({ digest }) => digest));
  return {
    ...rest,
    modules: blobs.map((blob) => describeModule(blob, modules, urls)),
    records,
    missingModuleCount: modules.filter(({ digests }) => !present.has(digests.module)).length,
  };
}

function describeModule(
  blob: ViewedBlob,
  modules: readonly ModuleRecord[],
  urls: readonly UrlRecord[],
): CachedModule {
  const records = modules.filter(({ digests }) => digests.module === blob.digest);
  const names = records.flatMap((record) => {
    const tagged = urls.filter((url) => url.checksum === record.checksum && isOf(url, record));
    return tagged.length === 0 ? [record.label] : tagged.map(({ label }) => label);
  });
  const isPrivate = records.length > 0 && records.every(({ readers }) => !readers.includes(anonymousReader));
  return { ...blob, names: [...new Set(names)].sort(), records, isPrivate };
}

/** One image may be in several repositories. */
function isOf(url: UrlRecord, record: ModuleRecord): boolean {
  if (url.label === record.label) return true;
  const reference = readReference(url.label);
  return reference !== undefined && repositoryName(reference) === record.label;
}

/** The reference of an `oci://` name; undefined for every other. */
export function readReference(name: string): OciReference | undefined {
  try {
    const url = parseModuleUrl(name);
    return url.kind === 'oci' ? url.reference : undefined;
  } catch (error) {
    if (error instanceof FetchError) return undefined;
    throw error;
  }
}

/** The modules that a text means: a digest or the beginning of one (8 digits or more), or a name. Throws CommandError. */
export function findModules(content: CacheContent, text: string, root: string): readonly CachedModule[] {
  const hex = /^(?:sha256:)?([0-9a-f]{8,64})$/.exec(text)?.[1];
  const found = content.modules.filter(
    ({ digest, names, records }) =>
      names.includes(text) ||
      (hex !== undefined &&
        (digest.startsWith(hex) ||
          records.some((record) => chainOf(record).some((each) => each.startsWith(hex))))),
  );
  if (found.length > 0) return found;
  throw refusal(
    `no module in ${root} has the name or digest ${JSON.stringify(text.slice(0, 200))}; ferry-agent cache ls shows what is there`,
  );
}

function chainOf({ digests }: ModuleRecord): readonly Sha256[] {
  const { index, manifest, layer, archive, module } = digests;
  return [...index, manifest, layer, archive, module].filter((digest) => digest !== undefined);
}
