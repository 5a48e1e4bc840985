import { execFile } from 'node:child_process';
import { LRUCache } from 'lru-cache';
import type { GivenCredential, HelperChoice } from './docker-config.ts';
import { FetchError } from './types.ts';

export interface CredentialHelpersOptions {
  /** Folders to look for the programs in, as in `PATH`; default: that of the agent. */
  readonly path?: string;
  /** How long one may run. Default 10 s. */
  readonly timeoutMs?: number;
  /** A clock that never jumps, in ms. */
  readonly nowMs?: () => number;
}

/** What a helper may print: a password or token with its JSON. */
const maxOutputBytes = 64 * 1024;
const defaultTimeoutMs = 10_000;
/** Cloud tokens live for an hour and more; what a helper said is believed for this long. */
const lifetimeMs = 5 * 60_000;
const maxCredentialCount = 64;
const namePattern = /^[a-z0-9][a-z0-9._-]{0,63}$/i;
/** What helpers print, and exit with 1, when they know nothing of a server (docker/docker-credential-helpers). */
const notFoundText = 'credentials not found in native keychain';
/** The user name that stands for an identity token. */
const tokenUser = '<token>';

type Answer = { readonly kind: 'found'; readonly credential: GivenCredential } | { readonly kind: 'none' };

/**
 * Runs `docker-credential-<name> get` of the operator's own docker config: no shell, a checked name, bounded time and
 * output. One run for all who ask for the same at the same time; an answer is kept for five minutes.
 */
export class CredentialHelpers {
  readonly #options: CredentialHelpersOptions;
  readonly #known: LRUCache<string, Promise<Answer>>;

  constructor(options: CredentialHelpersOptions = {}) {
    this.#options = options;
    const { nowMs = () => performance.now() } = options;
    this.#known = new LRUCache({
      max: maxCredentialCount,
      ttl: lifetimeMs,
      ttlResolution: 0,
      perf: { now: nowMs },
    });
  }

  /**
   * The credential that a helper has for a server; anonymous when it has none. Throws FetchError `unauthorized` that
   * names the helper, never what it printed.
   */
  async get(choice: HelperChoice, options: { readonly signal: AbortSignal }): Promise<GivenCredential> {
    const key = keyOf(choice);
    const running = this.#known.get(key) ?? this.#start(key, choice);
    try {
      const answer = await abortable(running, options.signal);
      return answer.kind === 'found' ? answer.credential : { kind: 'anonymous' };
    } catch (error) {
      // A failure is not kept: the next request runs it again.
      if (!options.signal.aborted && this.#known.peek(key) === running) this.#known.delete(key);
      throw error;
    }
  }

  /** Forgets an answer: the registry did not take it. */
  forget(choice: HelperChoice): void {
    this.#known.delete(keyOf(choice));
  }

  /** The time of an answer counts from here, however often it is asked for. */
  #start(key: string, choice: HelperChoice): Promise<Answer> {
    const running = this.#run(choice);
    this.#known.set(key, running);
    return running;
  }

  async #run(choice: HelperChoice): Promise<Answer> {
    const { helper, server } = choice;
    const program = `docker-credential-${helper}`;
    if (!namePattern.test(helper)) {
      throw failure(
        `the credential helper ${JSON.stringify(helper.slice(0, 80))} is no plain name; write the part after "docker-credential-"`,
      );
    }
    const outcome = await this.#execute(program, server);
    if (outcome.stdout.includes(notFoundText)) return { kind: 'none' };
    if (outcome.fault !== undefined) throw failure(`${program} get for ${server} ${outcome.fault}`);
    return { kind: 'found', credential: readAnswer(outcome.stdout, `${program} get for ${server}`) };
  }

  async #execute(
    program: string,
    server: string,
  ): Promise<{ readonly stdout: string; readonly fault: string | undefined }> {
    const { path, timeoutMs = defaultTimeoutMs } = this.#options;
    const done = Promise.withResolvers<{ readonly stdout: string; readonly fault: string | undefined }>();
    const child = execFile(
      program,
      ['get'],
      {
        timeout: timeoutMs,
        killSignal: 'SIGKILL',
        maxBuffer: maxOutputBytes,
        windowsHide: true,
        env: { ...process.env, ...(path === undefined ? {} : { PATH: path }) },
      },
      (error, stdout) =>
        done.resolve({ stdout, fault: error === null ? undefined : describeFault(error, timeoutMs) }),
    );
    // A helper that ends without reading is told by its exit.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(server);
    return done.promise;
  }
}

function keyOf(choice: HelperChoice): string {
  return JSON.stringify([choice.helper, choice.server]);
}

function describeFault(
  error: Error & { readonly code?: unknown; readonly killed?: boolean },
  timeoutMs: number,
): string {
  if (error.code === 'ENOENT') return 'cannot be run: there is no such program in PATH; add it to the image';
  if (error.code === 'EACCES') return 'cannot be run: the program may not be executed';
  if (error.code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') return `printed more than ${maxOutputBytes} bytes`;
  if (error.killed === true) return `did not end within ${timeoutMs} ms`;
  return typeof error.code === 'number' ? `failed with exit code ${error.code}` : 'was ended by a signal';
}

function readAnswer(text: string, what: string): GivenCredential {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    throw failure(`${what} printed something that is not JSON`);
  }
  const fields = new Map<string, unknown>(
    typeof answer === 'object' && answer !== null ? Object.entries(answer) : [],
  );
  const username = fields.get('Username');
  const secret = fields.get('Secret');
  if (typeof username !== 'string' || typeof secret !== 'string') {
    throw failure(`${what} printed no "Username" and "Secret"`);
  }
  if (username === tokenUser) return { kind: 'identity-token', token: secret };
  return { kind: 'basic', username, password: secret };
}

function failure(message: string): FetchError {
  return new FetchError('unauthorized', message);
}

/** The result, or the signal's reason when the caller leaves before; the program runs on for others, in its own time limit. */
async function abortable<Value>(work: Promise<Value>, signal: AbortSignal): Promise<Value> {
  signal.throwIfAborted();
  const left = Promise.withResolvers<never>();
  const leave = (): void => left.reject(signal.reason);
  signal.addEventListener('abort', leave, { once: true });
  try {
    return await Promise.race([work, left.promise]);
  } finally {
    signal.removeEventListener('abort', leave);
  }
}
