import { join } from 'node:path';
import { FolderView } from '../../cache/folder-view.ts';
import { FileRecordIndex } from '../../cache/record-index.ts';
import { CacheRecords, maxCacheRecordCount, parseCacheRecord } from '../fetch/cache-records.ts';
import { sizeWords, spanWords } from '../status/plugin-words.ts';
import { cacheRecordsFile } from '../wasm/data-files.ts';
import { type CachedModule, orphanAgeMs, readCache } from './cache-content.ts';
import { type CachePins, readPins } from './cache-pins.ts';
import { findDamaged } from './cache-verify.ts';
import { CommandError } from './command-error.ts';
import { exitCodes, flagText, isFlagSet, type OperatorFlags, usageError } from './operator-run.ts';
import { readDataFolder, readDuration, readPort, readWasmSettings } from './operator-settings.ts';
import { counted, visible } from './terminal-text.ts';

/**
 * A running agent may be about to push what was used a moment ago, and writes the time of use to disk every ten
 * minutes at most (`cache/blob-store.ts`: grace and touch interval, together).
 */
const minUnusedMs = 15 * 60_000;

/** What is to become of one module. */
export type Fate =
  | { readonly kind: 'kept'; readonly reason: string }
  | { readonly kind: 'deleted'; readonly reason: string };

/**
 * `cache gc`: deletes what nobody needs. Throws CommandError, also when it cannot be learnt who needs what: then
 * nothing is deleted. Throws CacheError.
 */
export async function collectCache(flags: OperatorFlags, signal: AbortSignal): Promise<number> {
  const view = new FolderView(readDataFolder(flags));
  const isDryRun = isFlagSet(flags, 'dry-run');
  const unusedForMs =
    flagText(flags, 'unused-for') === ''
      ? readWasmSettings().moduleExpiryMs
      : readDuration(flags, 'unused-for');
  if (flagText(flags, 'unused-for') !== '' && unusedForMs < minUnusedMs) {
    throw usageError(
      `--unused-for: ${flagText(flags, 'unused-for')} is less than 15m, and a running agent may be about to use what was used so lately`,
    );
  }
  const ports = { statusPort: readPort(flags, 'status-port'), adminPort: readPort(flags, 'admin-port') };
  const content = await readCache(view);
  const damaged = await findDamaged(view, content.modules, signal);
  // After the hashing, which takes long: what was pushed meanwhile counts.
  const pins = await readPins({ folder: view.root, ...ports });
  assertComplete(pins);
  const fates = content.modules.map((module) => {
    const rule = { damage: damaged.get(module), pins, unusedForMs, nowMs: Date.now() };
    return { module, fate: decideFate(module, rule) };
  });
  const gone: CachedModule[] = [];
  const report: { readonly module: CachedModule; readonly fate: Fate }[] = [];
  for (const { module, fate } of fates) {
    signal.throwIfAborted();
    if (fate.kind === 'kept' || isDryRun) report.push({ module, fate });
    else if (await view.delete(module)) {
      gone.push(module);
      report.push({ module, fate });
    } else report.push({ module, fate: { kind: 'kept', reason: 'it was used just now' } });
  }
  const orphanCount = isDryRun ? content.orphans.length : await view.sweep({ orphanAgeMs });
  if (gone.length > 0) await forgetModules(view.root, gone);
  const text = isFlagSet(flags, 'json')
    ? `${JSON.stringify(collectionDocument(view.root, report, orphanCount, isDryRun), null, 2)}\n`
    : formatCollection(view.root, report, { orphanCount, isDryRun, notes: pins.notes });
  process.stdout.write(text);
  return exitCodes.fine;
}

function assertComplete({ gaps }: CachePins): void {
  if (gaps.length === 0) return;
  throw new CommandError(
    gaps.map((gap) => `nothing was deleted, because it is not known which modules are in use: ${gap}`),
    { exitCode: exitCodes.refused },
  );
}

/** What is to become of a module. Pure. */
export function decideFate(
  module: Pick<CachedModule, 'digest' | 'lastUsedMs'>,
  rule: {
    /** Why it cannot be used; undefined: it can. */
    readonly damage: string | undefined;
    readonly pins: Pick<CachePins, 'reasons'>;
    readonly unusedForMs: number;
    /** Epoch ms. */
    readonly nowMs: number;
  },
): Fate {
  const { damage, pins, unusedForMs, nowMs } = rule;
  // Of use to nobody, whoever names it: who needs it has it fetched again.
  if (damage !== undefined) return { kind: 'deleted', reason: `damaged: ${damage}` };
  const pinned = pins.reasons.get(module.digest);
  if (pinned !== undefined) return { kind: 'kept', reason: `in use: ${pinned.join(', ')}` };
  const unusedMs = nowMs - module.lastUsedMs;
  if (unusedMs < Math.max(unusedForMs, minUnusedMs)) {
    return { kind: 'kept', reason: `used ${spanWords(unusedMs)} ago` };
  }
  return { kind: 'deleted', reason: `unused for ${spanWords(unusedMs)}` };
}

/** Tidies only: a record without its module is dropped with its next use anyway. */
async function forgetModules(root: string, gone: readonly CachedModule[]): Promise<void> {
  const index = await FileRecordIndex.open({
    path: join(root, cacheRecordsFile),
    parse: parseCacheRecord,
    maxEntryCount: maxCacheRecordCount,
    isShared: true,
    orphanAgeMs,
  });
  new CacheRecords({ index, epochMs: Date.now }).forget(gone.map(({ digest }) => digest));
  await index.close();
}

function collectionDocument(
  folder: string,
  report: readonly { readonly module: CachedModule; readonly fate: Fate }[],
  orphanCount: number,
  isDryRun: boolean,
): unknown {
  return {
    folder,
    isDryRun,
    modules: report.map(({ module, fate }) => ({
      digest: module.digest,
      sizeBytes: module.sizeBytes,
      names: module.names,
      ...fate,
    })),
    orphanCount,
  };
}

function formatCollection(
  folder: string,
  report: readonly { readonly module: CachedModule; readonly fate: Fate }[],
  more: {
    readonly orphanCount: number;
    readonly isDryRun: boolean;
    readonly notes: readonly string[];
  },
): string {
  const { orphanCount, isDryRun, notes } = more;
  const doing = isDryRun ? 'would delete' : 'deleted';
  const deleted = report.filter(({ fate }) => fate.kind === 'deleted');
  const freedBytes = deleted.reduce((sum, { module }) => sum + module.sizeBytes, 0);
  const lines = report.map(({ module, fate }) => {
    const name = module.names[0] === undefined ? '' : `  ${module.names[0]}`;
    const verb = fate.kind === 'kept' ? 'kept' : doing;
    return `${verb.padEnd(doing.length)}  ${module.digest.slice(0, 12)}  ${fate.reason}${name}`;
  });
  const orphans = orphanCount === 0 ? '' : `, ${counted(orphanCount, 'half-written file')}`;
  const head = `${folder}: ${doing} ${deleted.length} of ${counted(report.length, 'module')}, ${sizeWords(freedBytes)}${orphans}`;
  return [head, ...lines, ...notes].map((line) => `${visible(line)}\n`).join('');
}
