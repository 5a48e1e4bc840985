import { lstat, readlink, stat } from 'node:fs/promises';
import { join, parse, resolve, sep } from 'node:path';

/** What a path leads to, as far as a change of it must be seen. Two states are equal when all members are. */
export type FileState =
  | { readonly kind: 'absent' }
  | {
      readonly kind: 'present';
      /** Where the links lead. */
      readonly realPath: string;
      readonly device: bigint;
      readonly inode: bigint;
      readonly sizeBytes: bigint;
      readonly modifiedNs: bigint;
      /** Undefined for a path without links, unless the mode is watched. */
      readonly changedNs: bigint | undefined;
    };

/** A folder whose entry is part of the way to a file. */
export interface WatchPoint {
  readonly folder: string;
  readonly entry: string;
}

export interface PathTrace {
  readonly state: FileState;
  /** In the order of the way, the folder of the file itself last; up to where the way ends when the file is absent. */
  readonly points: readonly WatchPoint[];
}

/** As many links as Linux follows. */
const maxLinkCount = 40;

/**
 * Walks to a file through all links, and says which folders an event must come from for the way or the file to have
 * changed. The kubelet's atomic swap is a new `..data` link in one of them. Throws what `lstat` throws for other
 * reasons than absence (permission, a loop of links).
 */
export async function tracePath(
  path: string,
  options: { readonly isModeWatched?: boolean } = {},
): Promise<PathTrace> {
  const points: WatchPoint[] = [];
  const { root } = parse(path);
  const rest = partsOf(resolve(path));
  let position = root;
  let linkCount = 0;
  for (let part = rest.shift(); part !== undefined; part = rest.shift()) {
    points.push({ folder: position, entry: part });
    const next = join(position, part);
    const step = await lookAt(next);
    switch (step.kind) {
      case 'absent':
        return { state: step, points };
      case 'entry':
        position = next;
        break;
      case 'link':
        linkCount += 1;
        if (linkCount > maxLinkCount) throw new Error(`too many symbolic links at ${next}`);
        // The parts of the target take the place of the link.
        rest.unshift(...partsOf(resolve(position, step.target)));
        position = root;
        break;
      default:
        step satisfies never;
    }
  }
  return { state: await stateOf(position, options.isModeWatched === true || linkCount > 0), points };
}

function partsOf(absolute: string): string[] {
  return absolute
    .slice(parse(absolute).root.length)
    .split(sep)
    .filter((part) => part !== '');
}

type Step =
  | { readonly kind: 'absent' }
  | { readonly kind: 'entry' }
  | { readonly kind: 'link'; readonly target: string };

async function lookAt(path: string): Promise<Step> {
  try {
    if (!(await lstat(path)).isSymbolicLink()) return { kind: 'entry' };
    return { kind: 'link', target: await readlink(path) };
  } catch (error) {
    if (isAbsence(error)) return { kind: 'absent' };
    throw error;
  }
}

async function stateOf(realPath: string, isModeWatched: boolean): Promise<FileState> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(realPath, { bigint: true });
    return {
      kind: 'present',
      realPath,
      device: dev,
      inode: ino,
      sizeBytes: size,
      modifiedNs: mtimeNs,
      changedNs: isModeWatched ? ctimeNs : undefined,
    };
  } catch (error) {
    if (isAbsence(error)) return { kind: 'absent' };
    throw error;
  }
}

/** Nothing is there, a part of the way is no folder, or a link was replaced between two looks (EINVAL). */
function isAbsence(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'EINVAL';
}
