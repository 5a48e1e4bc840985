import { randomUUID } from 'node:crypto';
import { chmod, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, type Logger } from '../log.ts';

/** What may be written; absent contents leave their file as it is. */
export interface OutputContents {
  /** A secret. */
  readonly privateKey?: Buffer;
  readonly certificateChain?: Buffer;
  readonly root?: Buffer;
}

/** Written in this order (`security/pkg/nodeagent/util/util.go`). */
const fileNames = {
  privateKey: 'key.pem',
  certificateChain: 'cert-chain.pem',
  root: 'root-cert.pem',
} as const;

export interface OutputFilesOptions {
  /** Absolute; it must be there. */
  readonly folder: string;
  /** Permission bits of the files. */
  readonly fileMode: number;
  readonly log: Logger;
}

/** Writes the workload's certificate for others than Envoy (`OUTPUT_CERTS`). */
export class OutputFiles {
  readonly #options: OutputFilesOptions;
  #last: Promise<void> = Promise.resolve();

  constructor(options: OutputFilesOptions) {
    this.#options = options;
  }

  /**
   * Writes what has changed, each file at once, the files one after the other. A failure is logged and nothing more:
   * Envoy gets its certificate all the same.
   */
  async write(contents: OutputContents): Promise<void> {
    // Two writers at once could leave a key with another's certificate.
    this.#last = this.#last.then(() => this.#writeAll(contents));
    await this.#last;
  }

  async #writeAll(contents: OutputContents): Promise<void> {
    const { folder, log } = this.#options;
    for (const part of ['privateKey', 'certificateChain', 'root'] as const) {
      const path = join(folder, fileNames[part]);
      const wanted = contents[part];
      if (wanted === undefined) continue;
      try {
        if (!(await holds(path, wanted))) await this.#replace(path, wanted);
      } catch (error) {
        log.error('error when output the resource: the folder of OUTPUT_CERTS must be there and writable', {
          path,
          reason: describeError(error),
        });
        return;
      }
    }
  }

  async #replace(path: string, contents: Buffer): Promise<void> {
    const { fileMode } = this.#options;
    const temporary = `${path}.${randomUUID()}`;
    try {
      await writeFile(temporary, contents, { mode: fileMode, flag: 'wx' });
      // The umask must not keep out those who are to read it.
      await chmod(temporary, fileMode);
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => undefined);
      throw error;
    }
  }
}

async function holds(path: string, wanted: Buffer): Promise<boolean> {
  try {
    return (await readFile(path)).equals(wanted);
  } catch {
    return false;
  }
}
