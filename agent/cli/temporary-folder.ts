import { mkdir, opendir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isLeftByDeadProcess, temporaryFileName } from '../../cache/process-mark.ts';
import { describeError } from '../log.ts';
import { orphanAgeMs } from './cache-content.ts';
import { refusal } from './operator-run.ts';

const prefix = '.ferry-inspect-';

/** A folder that is gone when it is disposed; one whose process was killed goes with a later one. */
export interface TemporaryFolder extends AsyncDisposable {
  readonly path: string;
}

/**
 * Makes a private folder in the system's place for temporary files, else in `fallbackParent`: the proxy's container
 * may have a read-only root. Throws CommandError.
 */
export async function makeTemporaryFolder(fallbackParent: string): Promise<TemporaryFolder> {
  const failures: string[] = [];
  for (const parent of [tmpdir(), fallbackParent]) {
    const path = join(parent, `${prefix}${await temporaryFileName()}`);
    try {
      await mkdir(path, { mode: 0o700 });
    } catch (error) {
      failures.push(describeError(error));
      continue;
    }
    await sweep(parent);
    return { path, [Symbol.asyncDispose]: async () => rm(path, { recursive: true, force: true }) };
  }
  throw refusal(
    `no temporary folder can be made: ${failures.join('; ')}; set TMPDIR to a folder that can be written`,
  );
}

/** Best effort: what cannot be swept now stays for the next. */
async function sweep(parent: string): Promise<void> {
  try {
    for await (const { name } of await opendir(parent)) {
      if (!name.startsWith(prefix) || !(await isLeftByDeadProcess(name.slice(prefix.length)))) continue;
      const path = join(parent, name);
      // Of another container's processes nothing is seen here: only what nobody has used for long.
      if (Date.now() - (await stat(path)).mtimeMs >= orphanAgeMs) {
        await rm(path, { recursive: true, force: true });
      }
    }
  } catch {
    // Somebody else's folder, or one that is being swept by another.
  }
}
