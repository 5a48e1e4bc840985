import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { errnoOf } from './storage-failure.ts';

/** A committed file whose bytes may still be only in the page cache. */
interface PendingSync {
  readonly handle: FileHandle;
  /** Called with the error of the file's or the folder's fsync. Must not throw. */
  readonly onFailure: (error: unknown) => void;
}

/**
 * The open files that wait for their fsync. More would not be faster: one disk does the work. A commit beyond it
 * waits, which is the back-pressure.
 */
const maxPendingCount = 16;

/**
 * Makes committed files durable off the hot path: fsync of each file, then one of the folder that names them. The
 * file's own handle is used, since only that is sure to be told of a failed write-back.
 */
export class SyncQueue {
  readonly #folder: string;
  #pending: PendingSync[] = [];
  #running: Promise<void> | undefined;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Takes ownership of the handle. Resolves at once while there is room, else when a batch has been written. */
  async add(handle: FileHandle, onFailure: (error: unknown) => void): Promise<void> {
    this.#pending.push({ handle, onFailure });
    this.#running ??= this.#run();
    while (this.#pending.length > maxPendingCount) await this.#running;
  }

  /** Resolves when everything added so far is on disk or has failed. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#pending.length > 0) {
      const batch = this.#pending;
      this.#pending = [];
      await this.#write(batch);
    }
    this.#running = undefined;
  }

  async #write(batch: readonly PendingSync[]): Promise<void> {
    const synced: PendingSync[] = [];
    for (const item of batch) {
      if (await succeeds(async () => item.handle.sync(), item.onFailure)) synced.push(item);
      await succeeds(async () => item.handle.close(), item.onFailure);
    }
    await succeeds(
      async () => syncFolder(this.#folder),
      (error) => {
        for (const item of synced) item.onFailure(error);
      },
    );
  }
}

/** Makes the names in a folder durable. Some file systems refuse fsync of a folder (EINVAL): they need none. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await folder.sync();
  } catch (error) {
    if (errnoOf(error) !== 'EINVAL') throw error;
  } finally {
    await folder.close();
  }
}

async function succeeds(work: () => Promise<void>, onFailure: (error: unknown) => void): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    onFailure(error);
    return false;
  }
}
