import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { type BlobState, FolderView, type ViewedBlob } from '../../cache/folder-view.ts';
import { type RecordFile, readRecordFile } from '../../cache/record-file.ts';
import { sizeWords } from '../status/plugin-words.ts';
import { cacheRecordsFile, lastKnownGoodFile } from '../wasm/data-files.ts';
import { type CacheContent, orphanAgeMs, readCache } from './cache-content.ts';
import { readPins } from './cache-pins.ts';
import { exitCodes, isFlagSet, type OperatorFlags } from './operator-run.ts';
import { readDataFolder } from './operator-settings.ts';
import { counted, visible } from './terminal-text.ts';

/** One thing that is not as it should be. */
export interface CacheFault {
  readonly kind: 'damaged-module' | 'unreadable-module' | 'missing-module' | 'damaged-index' | 'orphan';
  readonly path: string;
  /** What was seen, and what it leads to. */
  readonly problem: string;
  /** What was done about it; undefined: nothing. */
  readonly repair: string | undefined;
}

/** What a check of the whole cache came to. */
export interface CacheVerification {
  readonly moduleCount: number;
  readonly checkedBytes: number;
  readonly faults: readonly CacheFault[];
}

/**
 * `cache verify`: hashes every module again and reads the indexes. With `--repair` what is damaged is deleted, so that
 * it is fetched again. Throws CommandError, CacheError.
 */
export async function verifyCache(flags: OperatorFlags, signal: AbortSignal): Promise<number> {
  const view = new FolderView(readDataFolder(flags));
  const isRepairing = isFlagSet(flags, 'repair');
  const content = await readCache(view);
  const verification = await verifyContent(view, content, { isRepairing, signal });
  const isFine = verification.faults.every(({ repair }) => repair !== undefined);
  const text = isFlagSet(flags, 'json')
    ? `${JSON.stringify({ folder: view.root, isFine, ...verification }, null, 2)}\n`
    : formatVerification(view.root, verification, isRepairing);
  process.stdout.write(text);
  return isFine ? exitCodes.fine : exitCodes.refused;
}

async function verifyContent(
  view: FolderView,
  content: CacheContent,
  options: { readonly isRepairing: boolean; readonly signal: AbortSignal },
): Promise<CacheVerification> {
  const { isRepairing, signal } = options;
  const faults: CacheFault[] = [];
  let checkedBytes = 0;
  for (const module of content.modules) {
    const state = await view.check(module, { signal });
    checkedBytes += module.sizeBytes;
    const problem = problemOf(state);
    if (problem === undefined) continue;
    const isDeleted = isRepairing && (await view.delete(module));
    faults.push({
      kind: state.kind === 'damaged' ? 'damaged-module' : 'unreadable-module',
      path: module.path,
      problem,
      repair: isDeleted ? 'deleted; it is fetched again when it is needed' : undefined,
    });
  }
  faults.push(...(await missingModules(view, content)));
  for (const name of [cacheRecordsFile, lastKnownGoodFile]) {
    const path = join(view.root, name);
    const fault = await indexFault(path, await readRecordFile(path), isRepairing);
    if (fault !== undefined) faults.push(fault);
  }
  const sweptCount = isRepairing ? await view.sweep({ orphanAgeMs }) : 0;
  faults.push(
    ...content.orphans.map((name) => ({
      kind: 'orphan' as const,
      path: join(view.root, 'ingest', name),
      problem: 'a half-written file of a process that is gone; it takes room only',
      repair: sweptCount > 0 ? 'deleted' : undefined,
    })),
  );
  return { moduleCount: content.modules.length, checkedBytes, faults };
}

/** Undefined for a blob that is whole, or that somebody is working on. */
export function problemOf(state: BlobState): string | undefined {
  switch (state.kind) {
    case 'whole':
    case 'changing':
      return undefined;
    case 'damaged':
      return `its bytes have sha256:${state.sha256}; it is never given to Envoy`;
    case 'unreadable':
      return `${state.reason}; it counts as absent`;
    default:
      return state satisfies never;
  }
}

/** What an agent would start with after its next restart and does not have. */
async function missingModules(view: FolderView, content: CacheContent): Promise<readonly CacheFault[]> {
  const present = new Set(content.modules.map(({ digest }) => digest));
  const pins = await readPins({ folder: view.root, statusPort: 0, adminPort: 0 });
  return [...pins.reasons]
    .filter(([digest]) => !present.has(digest))
    .map(([digest, reasons]) => ({
      kind: 'missing-module',
      path: join(view.root, 'blobs', 'sha256', digest),
      problem: `it is not there, but ${reasons.join(', ')}: after a restart the plugin waits for its download`,
      repair: undefined,
    }));
}

async function indexFault(
  path: string,
  file: RecordFile,
  isRepairing: boolean,
): Promise<CacheFault | undefined> {
  switch (file.kind) {
    case 'absent':
    case 'read':
      return undefined;
    case 'unreadable':
      return { kind: 'damaged-index', path, problem: file.error.message, repair: undefined };
    case 'damaged': {
      const setAside = `${path}.corrupt`;
      if (isRepairing) await rename(path, setAside);
      const problem = `${file.reason}; the agent starts without it, and fetches again`;
      return {
        kind: 'damaged-index',
        path,
        problem,
        repair: isRepairing ? `set aside as ${setAside}` : undefined,
      };
    }
    default:
      return file satisfies never;
  }
}

/** The outcome for people. Pure. */
export function formatVerification(
  folder: string,
  { moduleCount, checkedBytes, faults }: CacheVerification,
  isRepairing: boolean,
): string {
  const lines = faults.flatMap(({ kind, path, problem, repair }) => [
    `${kind}  ${path}`,
    `  ${problem}`,
    ...(repair === undefined ? [] : [`  ${repair}`]),
  ]);
  const left = faults.filter(({ repair }) => repair === undefined).length;
  const advice = isRepairing || left === 0 ? '' : '; cache verify --repair deletes what is damaged';
  const verdict =
    faults.length === 0
      ? 'all are whole'
      : `${counted(faults.length, 'fault')}, ${faults.length - left} repaired${advice}`;
  const head = `${folder}: ${counted(moduleCount, 'module')}, ${sizeWords(checkedBytes)} hashed: ${verdict}`;
  return [head, ...lines].map((line) => `${visible(line)}\n`).join('');
}

/** The blobs that cannot be used. Throws CacheError `aborted`. */
export async function findDamaged(
  view: FolderView,
  blobs: readonly ViewedBlob[],
  signal: AbortSignal,
): Promise<ReadonlyMap<ViewedBlob, string>> {
  const damaged = new Map<ViewedBlob, string>();
  for (const blob of blobs) {
    const problem = problemOf(await view.check(blob, { signal }));
    if (problem !== undefined) damaged.set(blob, problem);
  }
  return damaged;
}
