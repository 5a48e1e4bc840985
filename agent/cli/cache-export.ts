import { readdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import { FolderView } from '../../cache/folder-view.ts';
import type { Sha256 } from '../../cache/types.ts';
import { referenceText } from '../fetch/oci/reference.ts';
import { describeError } from '../log.ts';
import { sizeWords } from '../status/plugin-words.ts';
import { type CachedModule, findModules, readCache, readReference } from './cache-content.ts';
import { DamagedModuleError, LayoutWriter } from './layout-writer.ts';
import { exitCodes, isFlagSet, type OperatorFlags, refusal, usageError } from './operator-run.ts';
import { readDataFolder } from './operator-settings.ts';
import { counted, visible } from './terminal-text.ts';

/** One module as it was exported. */
interface ExportedModule {
  readonly module: CachedModule;
  readonly names: readonly string[];
  readonly manifestDigest: Sha256;
}

/**
 * `cache export`: writes modules as images into a new OCI layout folder, which a policy's `layouts`, skopeo and others
 * read. Nothing is left of an export that fails. Throws CommandError, CacheError.
 */
export async function exportCache(
  target: { readonly folder: string; readonly modules: readonly string[] },
  flags: OperatorFlags,
  signal: AbortSignal,
): Promise<number> {
  const folder = resolve(target.folder);
  await assertFree(folder);
  const view = new FolderView(readDataFolder(flags));
  const content = await readCache(view);
  const wanted =
    target.modules.length === 0
      ? content.modules
      : [...new Set(target.modules.flatMap((text) => findModules(content, text, view.root)))];
  if (wanted.length === 0) throw refusal(`there is nothing to export: ${view.root} has no modules`);
  const exported = await writeLayout(folder, wanted, signal);
  const text = isFlagSet(flags, 'json')
    ? `${JSON.stringify(exportDocument(folder, exported), null, 2)}\n`
    : formatExport(folder, exported);
  process.stdout.write(text);
  return exitCodes.fine;
}

async function assertFree(folder: string): Promise<void> {
  try {
    if ((await readdir(folder)).length === 0) return;
  } catch (error) {
    const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT') return;
    throw usageError(
      `cannot export to ${folder}: ${describeError(error)}; name a folder that is not there yet`,
    );
  }
  throw usageError(`cannot export to ${folder}: it is not empty; name a folder that is not there yet`);
}

async function writeLayout(
  folder: string,
  modules: readonly CachedModule[],
  signal: AbortSignal,
): Promise<readonly ExportedModule[]> {
  const exported: ExportedModule[] = [];
  const taken = new Set<string>();
  try {
    await using writer = await LayoutWriter.begin(folder);
    for (const module of modules) {
      const names = imageNames(module).filter((name) => !taken.has(name));
      const named = names.length === 0 ? [`module:${module.digest}`] : names;
      for (const name of named) taken.add(name);
      const manifestDigest = await writer.add(module, named, { signal });
      exported.push({ module, names: named, manifestDigest });
    }
    await writer.commit();
    return exported;
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof DamagedModuleError) {
      throw refusal(`nothing was exported: ${error.message}; ferry-agent cache verify --repair deletes it`, {
        cause: error,
      });
    }
    throw refusal(`nothing was exported to ${folder}: ${describeError(error)}`, { cause: error });
  }
}

/** What containers/image takes as the name of an image in a layout (`oci/internal/oci_util.go`). */
const namePattern =
  /^[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*(?:\/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*$/;

/** What an image with this module is called: its tags; a module from a URL has its host and path. Pure. */
export function imageNames(module: Pick<CachedModule, 'digest' | 'names'>): readonly string[] {
  const short = module.digest.slice(0, 12);
  return module.names.flatMap((name) => {
    const reference = readReference(name);
    const isTagged = /:[^/@]+$/.test(name.slice('oci://'.length));
    const text =
      reference === undefined
        ? `${name.replace(/^https?:\/\//, '').replaceAll(/[^A-Za-z0-9./]+/g, '-')}:${short}`
        : isTagged
          ? referenceText(reference)
          : referenceText({ ...reference, tag: short, digest: undefined });
    return namePattern.test(text) ? [text] : [];
  });
}

function exportDocument(folder: string, exported: readonly ExportedModule[]): unknown {
  return {
    folder,
    images: exported.map(({ module, names, manifestDigest }) => ({
      names,
      manifest: manifestDigest,
      module: module.digest,
      sizeBytes: module.sizeBytes,
      isPrivate: module.isPrivate,
    })),
  };
}

function formatExport(folder: string, exported: readonly ExportedModule[]): string {
  const lines = exported.flatMap(({ module, names, manifestDigest }) => [
    ...names.map((name) => `oci:${folder}:${name}`),
    `  manifest sha256:${manifestDigest}`,
    `  module   sha256:${module.digest}  ${sizeWords(module.sizeBytes)}`,
  ]);
  const privateCount = exported.filter(({ module }) => module.isPrivate).length;
  const note =
    privateCount === 0
      ? []
      : [`${privateCount} of them needed a credential: who can read ${folder} can read them now`];
  return [`${folder}: ${counted(exported.length, 'image')}`, ...lines, ...note]
    .map((line) => `${visible(line)}\n`)
    .join('');
}
