import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Sha256 } from '../../cache/types.ts';
import type { PluginMetrics } from '../../metrics/plugin-metrics.ts';
import { FetchError } from '../fetch/types.ts';
import { describeError, type Logger } from '../log.ts';
import type { LocalModule } from './extension-plan.ts';
import { bytesSource } from './preflight/bytes-source.ts';
import { readModule } from './preflight/module-reader.ts';
import { judgeReading, preflightModule } from './preflight/preflight.ts';
import { envoyMaxMemoryPages, type Refusal, type Verdict } from './preflight/verdict.ts';

export interface ModulePreflightOptions {
  /** Pages of 64 KiB that a memory may start with, asked for each module; never more than Envoy's own limit. */
  readonly maxMemoryPages?: (() => number | undefined) | undefined;
  readonly metrics: Pick<PluginMetrics, 'preflightRefused'>;
  readonly log: Logger;
}

/** Far more modules than one proxy runs; a verdict that was forgotten costs a millisecond. */
const maxVerdictCount = 256;
const maxKnownWarningCount = 512;
/** What istiod and a log line are told of one module. */
const maxToldCount = 3;

interface KnownVerdict {
  readonly verdict: Promise<Verdict>;
  /** Undefined while it is worked out. */
  readonly settled: Verdict | undefined;
}

/** Lets no module pass to Envoy that Envoy cannot run, or that would end it. */
export class ModulePreflight {
  readonly #options: ModulePreflightOptions;
  /** By digest and limit: verdicts depend on nothing else. */
  readonly #verdicts = new LRUCache<string, KnownVerdict>({ max: maxVerdictCount });
  readonly #toldWarnings = new LRUCache<string, true>({ max: maxKnownWarningCount });
  /** Verdicts are shared: nobody alone may end the work on one, which takes milliseconds. */
  readonly #signal = new AbortController().signal;

  constructor(options: ModulePreflightOptions) {
    this.#options = options;
  }

  /** Whether it is known already that `passStored` would pass a module, and has nothing to say of it. */
  isKnownGood({ digest }: { readonly digest: Sha256 }): boolean {
    const verdict = this.#verdicts.get(verdictKey(digest, this.#maxMemoryPages()))?.settled;
    return verdict?.kind === 'accepted' && verdict.warnings.length === 0;
  }

  /**
   * Passes a module of the store, whose bytes never change. `what` names it for people. Throws FetchError
   * `preflight_refused`, and `store` when it cannot be read.
   */
  async passStored(module: { readonly path: string; readonly digest: Sha256 }, what: string): Promise<void> {
    const { path, digest } = module;
    const maxMemoryPages = this.#maxMemoryPages();
    const verdict = this.#cached(digest, maxMemoryPages, async () =>
      preflightModule(path, { maxMemoryPages, signal: this.#signal }),
    );
    this.#judge(await verdict.catch(throwUnreadable(what, 'store')), what);
  }

  /**
   * Passes a module that Envoy reads itself. A file is read anew each time: somebody else may change it. Throws
   * FetchError `preflight_refused`; for a file that is not there `not_found`, and `store` for one that cannot be read.
   */
  async passLocal(local: LocalModule): Promise<void> {
    switch (local.kind) {
      case 'file': {
        const what = `local Wasm module ${JSON.stringify(local.path)}`;
        const maxMemoryPages = this.#maxMemoryPages();
        const reading = preflightModule(local.path, { maxMemoryPages, signal: this.#signal });
        this.#judge(await reading.catch(throwUnreadable(what, 'not_found')), what);
        return;
      }
      case 'inline': {
        const { bytes } = local;
        const digest = createHash('sha256').update(bytes).digest('hex');
        const limits = { maxMemoryPages: this.#maxMemoryPages() };
        const verdict = await this.#cached(digest, limits.maxMemoryPages, async () =>
          judgeReading(await readModule(bytesSource(bytes)), limits),
        );
        this.#judge(verdict, `inline Wasm module sha256:${digest}`);
        return;
      }
      case 'unseen':
        return;
      default:
        local satisfies never;
    }
  }

  #maxMemoryPages(): number {
    return Math.min(envoyMaxMemoryPages, this.#options.maxMemoryPages?.() ?? envoyMaxMemoryPages);
  }

  #cached(digest: Sha256, maxMemoryPages: number, judge: () => Promise<Verdict>): Promise<Verdict> {
    const key = verdictKey(digest, maxMemoryPages);
    const known = this.#verdicts.get(key);
    if (known !== undefined) return known.verdict;
    const verdict = judge();
    this.#verdicts.set(key, { verdict, settled: undefined });
    verdict.then(
      (settled) => this.#verdicts.set(key, { verdict, settled }),
      // A file that could not be read may be readable next time.
      () => this.#verdicts.delete(key),
    );
    return verdict;
  }

  #judge(verdict: Verdict, what: string): void {
    switch (verdict.kind) {
      case 'accepted':
        for (const { code, message } of verdict.warnings) this.#warn(what, code, message);
        return;
      case 'refused': {
        const [first] = verdict.reasons;
        this.#options.metrics.preflightRefused(first?.code ?? 'unknown');
        throw new FetchError(
          'preflight_refused',
          `${what} was not given to Envoy, which could not run it: ${describe(verdict.reasons)}`,
        );
      }
      default:
        verdict satisfies never;
    }
  }

  /** Once for each module: its plugin is pushed again and again. */
  #warn(what: string, code: string, message: string): void {
    const key = JSON.stringify([what, code, message]);
    if (this.#toldWarnings.has(key)) return;
    this.#toldWarnings.set(key, true);
    this.#options.log.warn('Wasm module may not run as it is meant', { module: what, code, reason: message });
  }
}

function verdictKey(digest: Sha256, maxMemoryPages: number): string {
  return `${digest} ${maxMemoryPages}`;
}

function describe(reasons: readonly Refusal[]): string {
  const told = reasons.slice(0, maxToldCount).map(({ code, message }) => `${message} (${code})`);
  const rest = reasons.length - told.length;
  return [...told, ...(rest > 0 ? [`And ${rest} more.`] : [])].join(' ');
}

/** Throws the failure to read a module as one that is tried again soon: a volume may be mounted late. */
function throwUnreadable(what: string, absent: 'not_found' | 'store'): (error: unknown) => never {
  return (error) => {
    const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
    const isAbsent = code === 'ENOENT' || code === 'ENOTDIR';
    const advice = isAbsent
      ? 'it is not there; mount it into the proxy container'
      : `it cannot be read: ${describeError(error)}; the proxy's user must be able to`;
    throw new FetchError(isAbsent ? absent : 'store', `${what} was not given to Envoy: ${advice}`, {
      cause: error,
    });
  };
}
