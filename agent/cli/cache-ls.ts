import { FolderView } from '../../cache/folder-view.ts';
import { sizeWords, spanWords } from '../status/plugin-words.ts';
import { type CacheContent, type CachedModule, readCache } from './cache-content.ts';
import { type CachePins, readPins } from './cache-pins.ts';
import { exitCodes, isFlagSet, type OperatorFlags } from './operator-run.ts';
import { readDataFolder, readPort } from './operator-settings.ts';
import { counted, visible } from './terminal-text.ts';
import { formatTable } from './text-table.ts';

/** `cache ls`: what is in the cache and who needs it. Changes nothing. Throws CommandError, CacheError. */
export async function listCache(flags: OperatorFlags): Promise<number> {
  const view = new FolderView(readDataFolder(flags));
  const statusPort = readPort(flags, 'status-port');
  const adminPort = readPort(flags, 'admin-port');
  const content = await readCache(view);
  const pins = await readPins({ folder: view.root, statusPort, adminPort });
  const text = isFlagSet(flags, 'json')
    ? `${JSON.stringify(listDocument(view.root, content, pins), null, 2)}\n`
    : formatList(view.root, content, pins, Date.now());
  process.stdout.write(text);
  return exitCodes.fine;
}

function listDocument(folder: string, content: CacheContent, pins: CachePins): unknown {
  return {
    folder,
    totalBytes: totalBytes(content),
    modules: content.modules.map((module) => ({
      digest: module.digest,
      path: module.path,
      sizeBytes: module.sizeBytes,
      lastUsedAt: new Date(module.lastUsedMs).toISOString(),
      pinnedBy: pins.reasons.get(module.digest) ?? [],
      isPrivate: module.isPrivate,
      names: module.names,
      fetched: module.records.map(({ label, checksum, digests, sourceName, fetchedAtMs }) => ({
        label,
        checksum,
        digests,
        sourceName,
        fetchedAt: new Date(fetchedAtMs).toISOString(),
      })),
    })),
    orphanCount: content.orphans.length,
    strangerCount: content.strangerCount,
    notes: [...pins.gaps, ...pins.notes],
  };
}

function totalBytes(content: CacheContent): number {
  return content.modules.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

/** The cache as a table with what is odd below it. Pure. */
export function formatList(folder: string, content: CacheContent, pins: CachePins, nowMs: number): string {
  const { modules, orphans, strangerCount } = content;
  const head = `${folder}: ${counted(modules.length, 'module')}, ${sizeWords(totalBytes(content))}\n`;
  const rows = modules.map((module) => cellsOf(module, pins, nowMs));
  const table = formatTable(['MODULE', 'SIZE', 'LAST USED', 'IN USE BY', 'NAME'], rows);
  const odd = [
    ...(orphans.length === 0
      ? []
      : [`${counted(orphans.length, 'half-written file')} of processes that are gone: cache gc`]),
    ...(strangerCount === 0
      ? []
      : [`${strangerCount} names among the modules that are none; they are left alone`]),
    ...(pins.gaps.length === 0 ? [] : pins.gaps.map((gap) => `IN USE BY is not complete: ${gap}`)),
    ...pins.notes,
  ];
  return [head, ...(rows.length === 0 ? [] : ['\n', table]), ...(odd.length === 0 ? [] : ['\n'])]
    .concat(odd.map((line) => `${visible(line)}\n`))
    .join('');
}

function cellsOf(module: CachedModule, pins: CachePins, nowMs: number): readonly string[] {
  const { digest, sizeBytes, lastUsedMs, names, isPrivate } = module;
  const [name = '-', ...others] = names;
  const more = others.length === 0 ? '' : ` and ${others.length} more`;
  return [
    digest.slice(0, 12),
    sizeWords(sizeBytes),
    `${spanWords(nowMs - lastUsedMs).split(' ', 1)[0]} ago`,
    visible(pins.reasons.get(digest)?.join(', ') ?? '-'),
    visible(`${name}${more}${isPrivate ? ' (private)' : ''}`),
  ];
}
