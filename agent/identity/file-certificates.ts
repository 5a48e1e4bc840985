import { createPrivateKey, type KeyObject } from 'node:crypto';
import { stat } from 'node:fs/promises';
import type { IdentityMetrics } from '../../metrics/identity-metrics.ts';
import { BackOff, defaultBackOff } from '../back-off.ts';
import { type Clock, wait } from '../clock.ts';
import { FileWatch } from '../files/file-watch.ts';
import { describeError, type Logger } from '../log.ts';
import { IdentityError } from './identity-error.ts';
import { certificateBlocks, parseCertificate } from './pem.ts';
import { readRegularFile } from './regular-file.ts';

/** How long files that do not fit together, or are not there, are tried again (`secretcache.go`, totalTimeout). */
const patienceMs = 10_000;
/** Each watched file may cost the kernel several watches; a gateway has a few dozen. */
const defaultMaxWatchedCount = 1000;

export interface FileCertificatesOptions {
  /** First wait before a file is read again; also how long a change is left to settle. */
  readonly debounceMs: number;
  /** The file of this resource has changed. */
  readonly onChange: (resourceName: string) => void;
  readonly metrics: IdentityMetrics;
  readonly log: Logger;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  /** Resources at once; more are refused. */
  readonly maxWatchedCount?: number;
}

/** A certificate chain and its key, as they are in the files; PEM. */
export interface FileKeyPair {
  readonly certificateChain: Buffer;
  /** A secret. */
  readonly privateKey: Buffer;
}

/** Reads certificates that somebody else writes, and watches them. Paths are absolute. */
export class FileCertificates {
  readonly #options: FileCertificatesOptions;
  readonly #watch: FileWatch;
  readonly #watched = new Set<string>();

  constructor(options: FileCertificatesOptions) {
    this.#options = options;
    const { debounceMs, metrics, log, clock, random } = options;
    this.#watch = new FileWatch({
      debounceMs,
      onChange: (resource) => {
        log.info('file certificate changed, pushing to proxy', { resource });
        options.onChange(resource);
      },
      onFailure: metrics.fileWatchFailed,
      log,
      clock,
      random,
    });
  }

  /**
   * A pair that fits together; the files are read again for 10 s while they do not, because they are not written at
   * once. The certificate's file is watched under `resourceName` from now on: a key does not change without it.
   * Throws IdentityError `file` or `file_content`; rejects with the signal's reason when aborted.
   */
  async readKeyPair(
    resourceName: string,
    paths: { readonly certificatePath: string; readonly keyPath: string },
    options: { readonly signal: AbortSignal },
  ): Promise<FileKeyPair> {
    const { certificatePath, keyPath } = paths;
    return await this.#read(resourceName, certificatePath, options, async () => {
      const [certificateChain, privateKey] = await Promise.all([
        readRegularFile(certificatePath),
        readRegularFile(keyPath),
      ]);
      checkPair({ certificateChain, privateKey }, paths);
      return { certificateChain, privateKey };
    });
  }

  /**
   * The readable certificates of a file, each ended by a newline; others are left out with an error in the log. The
   * file is watched under `resourceName`. Throws IdentityError `file` or `file_content` (none is readable).
   */
  async readRoots(
    resourceName: string,
    path: string,
    options: { readonly signal: AbortSignal },
  ): Promise<string> {
    return await this.#read(resourceName, path, options, async () => {
      const blocks = certificateBlocks((await readRegularFile(path)).toString('latin1'));
      const usable = blocks.filter((block) => parseCertificate(block) !== undefined);
      if (usable.length === 0) {
        const problem = `${path} holds no readable PEM certificate (${blocks.length} found): write the roots to it`;
        throw new IdentityError('file_content', problem);
      }
      if (usable.length < blocks.length) {
        this.#options.log.error('failed to parse some certs from file', {
          path,
          certificateCount: blocks.length,
          unusableCount: blocks.length - usable.length,
        });
      }
      return usable.map((block) => `${block}\n`).join('');
    });
  }

  /** Nobody needs this resource any more: its file is no longer watched. */
  release(resourceName: string): void {
    this.#watched.delete(resourceName);
    this.#watch.remove(resourceName);
  }

  async close(): Promise<void> {
    await this.#watch.close();
  }

  async #read<Contents>(
    resourceName: string,
    watchedPath: string,
    options: { readonly signal: AbortSignal },
    read: () => Promise<Contents>,
  ): Promise<Contents> {
    const { debounceMs, clock, random, metrics, log } = this.#options;
    this.#claimWatch(resourceName);
    // Before the file is read: a change between the two is then seen.
    await this.#watch.add(resourceName, watchedPath);
    const backOff = new BackOff({ ...defaultBackOff, firstMs: debounceMs, random });
    const givesUpAtMs = clock.now() + patienceMs;
    for (;;) {
      options.signal.throwIfAborted();
      try {
        const contents = await read();
        log.info('read certificate from file', { resource: resourceName });
        return contents;
      } catch (error) {
        const waitMs = backOff.nextMs();
        if (clock.now() + waitMs > givesUpAtMs) {
          metrics.fileSecretFailed();
          log.error('failed to generate secret for proxy from file', {
            resource: resourceName,
            reason: describeError(error),
          });
          throw error;
        }
        await wait(clock, waitMs, options);
      }
    }
  }

  #claimWatch(resourceName: string): void {
    if (this.#watched.has(resourceName)) return;
    const { maxWatchedCount = defaultMaxWatchedCount } = this.#options;
    if (this.#watched.size >= maxWatchedCount) {
      this.#options.metrics.fileSecretFailed();
      throw new IdentityError(
        'file',
        `${resourceName} is not served: ${maxWatchedCount} resources of files are in use already`,
      );
    }
    this.#watched.add(resourceName);
    this.#options.log.info('adding watcher for file certificate', { resource: resourceName });
  }
}

/** True when there is something to read. */
export async function isFilled(path: string): Promise<boolean> {
  try {
    const found = await stat(path);
    return found.isFile() && found.size > 0;
  } catch {
    return false;
  }
}

function checkPair(
  pair: FileKeyPair,
  paths: { readonly certificatePath: string; readonly keyPath: string },
): void {
  const leaf = certificateBlocks(pair.certificateChain.toString('latin1'))
    .slice(0, 1)
    .map(parseCertificate)[0];
  if (leaf === undefined) {
    const problem = `${paths.certificatePath} does not begin with a readable PEM certificate`;
    throw new IdentityError('file_content', problem);
  }
  let key: KeyObject;
  try {
    key = createPrivateKey(pair.privateKey);
  } catch (error) {
    // The library's texts name its own steps, never the contents.
    const problem = `${paths.keyPath} holds no usable PEM private key: ${describeError(error)}`;
    throw new IdentityError('file_content', problem);
  }
  if (!leaf.checkPrivateKey(key)) {
    throw new IdentityError(
      'file_content',
      `the key in ${paths.keyPath} does not belong to the certificate in ${paths.certificatePath}`,
    );
  }
}
