import { readdir, readlink } from 'node:fs/promises';

/** Numbers of the processes whose working directory is this folder or below it, also when the folder is gone. */
export async function processesIn(folder: string): Promise<readonly number[]> {
  const found: number[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    // A process may end while it is looked at.
    const directory = await readlink(`/proc/${name}/cwd`).catch(() => '');
    if (directory === folder || directory.startsWith(`${folder}/`) || directory === `${folder} (deleted)`) {
      found.push(Number(name));
    }
  }
  return found;
}
