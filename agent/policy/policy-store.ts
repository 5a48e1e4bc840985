import { resolve } from 'node:path';
import type { PolicyFacts } from '../../metrics/plugin-metrics.ts';
import { systemClock } from '../clock.ts';
import { FileWatch } from '../files/file-watch.ts';
import { describeError, type Logger } from '../log.ts';
import { type Policy, type PolicyListener, type PolicySource, permissivePolicy } from './policy-data.ts';
import type { PolicyLoad } from './policy-file.ts';
import { formatPolicyProblem, PolicyFileError, type PolicyProblem } from './policy-problem.ts';

export interface PolicyStoreOptions {
  /** `WASM_POLICY_FILE`; undefined: everything is allowed and nothing is watched. */
  readonly path: string | undefined;
  readonly log: Logger;
  readonly now?: () => number;
  /** See `FileWatchOptions`; default 100. */
  readonly debounceMs?: number;
  /** Default 10000. */
  readonly pollIntervalMs?: number;
}

/** The policy for the debug page and the metrics. Holds no secret. */
export interface PolicyStatus {
  readonly file: string | undefined;
  /** Policies that were in force since the start, this one included; 0 without a file. */
  readonly generation: number;
  readonly revision: string;
  /** ISO 8601: when the policy in force was read. */
  readonly loadedAt: string;
  /** Why a newer file is not in force; empty: it is. */
  readonly problems: readonly string[];
  /** ISO 8601: when the newer file was refused. */
  readonly refusedAt: string | undefined;
}

/** Problems that are logged for one refused file; the debug page has all. */
const maxLoggedCount = 20;

/**
 * Holds the policy in force. It reads the file anew when it or a file it names changes; a file with faults changes
 * nothing but `errors`.
 */
export class PolicyStore implements PolicySource {
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #listeners = new Set<PolicyListener>();
  readonly #file: string | undefined;
  readonly #watch: FileWatch;
  #current: Policy = permissivePolicy;
  #errors: readonly PolicyProblem[] = [];
  #generation = 0;
  #loadedAtMs: number;
  #refusedAtMs: number | undefined;
  #running: Promise<void> | undefined;
  #isReloadWanted = false;
  #isClosed = false;

  private constructor(options: PolicyStoreOptions) {
    this.#log = options.log;
    this.#now = options.now ?? Date.now;
    this.#file = options.path === undefined ? undefined : resolve(options.path);
    this.#loadedAtMs = this.#now();
    this.#watch = new FileWatch({
      debounceMs: options.debounceMs ?? 100,
      pollIntervalMs: options.pollIntervalMs ?? 10_000,
      // A file that could not be read may be given another mode.
      isModeWatched: true,
      onChange: () => void this.reload(),
      log: options.log,
      clock: systemClock,
      random: Math.random,
    });
  }

  /** Reads the policy. Throws PolicyFileError with every problem when it cannot be used: nothing is guessed at start. */
  static async open(options: PolicyStoreOptions): Promise<PolicyStore> {
    const store = new PolicyStore(options);
    if (store.#file === undefined) return store;
    try {
      await store.#watch.set([store.#file]);
      const load = await store.#load(store.#file);
      if (load.kind === 'rejected') throw new PolicyFileError(load.code, load.problems);
      store.#accept(load.policy);
      return store;
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  /** The policy in force. */
  get current(): Policy {
    return this.#current;
  }

  /** What is wrong with the file as it is now; empty: it is in force. */
  get errors(): readonly PolicyProblem[] {
    return this.#errors;
  }

  /** Calls `listener` after each change of the policy in force, until the function that is returned is called. */
  onChange(listener: PolicyListener): () => void {
    // Its own wrapper: the same function may be given twice.
    const own: PolicyListener = (policy, before) => listener(policy, before);
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  /**
   * Reads the file now. Readings never overlap: what is asked for while one runs is done in one more after it.
   * Resolves when the file, as it was when this was called or later, has been read.
   */
  async reload(): Promise<void> {
    if (this.#file === undefined || this.#isClosed) return;
    this.#isReloadWanted = true;
    this.#running ??= this.#reloadWanted(this.#file);
    await this.#running;
  }

  status(): PolicyStatus {
    return {
      file: this.#file,
      generation: this.#generation,
      revision: this.#current.revision,
      loadedAt: new Date(this.#loadedAtMs).toISOString(),
      problems: this.#errors.map(formatPolicyProblem),
      refusedAt: this.#refusedAtMs === undefined ? undefined : new Date(this.#refusedAtMs).toISOString(),
    };
  }

  /** For the metrics. */
  facts(): PolicyFacts {
    return {
      generation: this.#generation,
      loadedAtSeconds: this.#loadedAtMs / 1_000,
      problemCount: this.#errors.length,
    };
  }

  /** Ends watching; resolves when no reading runs. The policy stays what it is. Safe twice. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#listeners.clear();
    await this.#running;
    await this.#watch.close();
  }

  async #reloadWanted(file: string): Promise<void> {
    while (this.#isReloadWanted && !this.#isClosed) {
      this.#isReloadWanted = false;
      try {
        const load = await this.#load(file);
        if (this.#isClosed) break;
        if (load.kind === 'loaded') this.#accept(load.policy);
        else this.#refuse(load.problems);
      } catch (error) {
        const message = `cannot be read: ${describeError(error)}`;
        this.#refuse([{ file, line: 0, column: 0, path: '', message }]);
      }
    }
    // With the check above in one turn: who asks from now on starts a new run.
    this.#running = undefined;
  }

  /** Reads until every file that was read is one that was already watched, so that no change falls between. */
  async #load(file: string): Promise<PolicyLoad> {
    const { loadPolicyFile } = await import('./policy-file.ts');
    for (let readCount = 1; ; readCount += 1) {
      const load = await loadPolicyFile(file);
      const isNew = await this.#watch.set(load.watched);
      if (!isNew || readCount === maxReadCount) return load;
    }
  }

  #accept(policy: Policy): void {
    const before = this.#current;
    const wasRefused = this.#errors.length > 0;
    this.#errors = [];
    this.#refusedAtMs = undefined;
    if (policy.revision === before.revision) {
      if (wasRefused)
        this.#log.info('Wasm policy file is good again, nothing has changed', { file: policy.file });
      return;
    }
    this.#current = policy;
    this.#generation += 1;
    this.#loadedAtMs = this.#now();
    this.#log.info('Wasm policy is in force', {
      file: policy.file,
      revision: policy.revision.slice(0, 12),
      defaultAction: policy.fallthrough.action,
      ruleCount: policy.modules.length,
      signerCount: policy.signers.length,
    });
    for (const listener of this.#listeners) {
      try {
        listener(policy, before);
      } catch (error) {
        this.#log.error('a part of the agent could not take the new Wasm policy', {
          error: describeError(error),
        });
      }
    }
  }

  #refuse(problems: readonly PolicyProblem[]): void {
    const isSame = JSON.stringify(problems) === JSON.stringify(this.#errors);
    this.#errors = problems;
    if (isSame) return;
    this.#refusedAtMs = this.#now();
    this.#log.error('Wasm policy file cannot be used, the last good policy stays in force', {
      file: this.#file,
      problemCount: problems.length,
      revision: this.#current.revision.slice(0, 12),
    });
    for (const problem of problems.slice(0, maxLoggedCount)) {
      this.#log.error('problem of the Wasm policy file', { problem: formatPolicyProblem(problem) });
    }
  }
}

/** A file that names others anew at every reading is being written just now; its event comes. */
const maxReadCount = 3;
