/**
 * Calls into the processes of the load side: the server, the client and the module origin each run in one of their
 * own, so that none of them shares a thread with another or with the bench itself.
 */
import { type ChildProcess, fork } from 'node:child_process';

/** What a worker offers: functions of one structured-clonable argument. */
export type WorkerCalls<Calls> = { readonly [Name in keyof Calls]: (argument: never) => unknown };

interface CallMessage {
  readonly id: number;
  readonly name: string;
  readonly argument: unknown;
}

type AnswerMessage =
  | { readonly id: number; readonly kind: 'result'; readonly result: unknown }
  | { readonly id: number; readonly kind: 'error'; readonly message: string };

interface PendingCall {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** Nothing the bench asks for takes this long: a subject that answers nothing ends the run. */
const callDeadlineMs = 120_000;

/** The bench's side of one worker process. */
export class WorkerProcess<Calls extends WorkerCalls<Calls>> {
  readonly #process: ChildProcess;
  readonly #name: string;
  readonly #pending = new Map<number, PendingCall>();
  readonly #exited: Promise<void>;
  #callCount = 0;
  #isEnded = false;

  /** `script` is a module that calls `serveCalls`. */
  constructor(name: string, script: URL) {
    this.#name = name;
    this.#process = fork(script, {
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#process.on('message', (answer: AnswerMessage) => this.#settle(answer));
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#process.once('exit', (code, signal) => {
      this.#failAll(`The ${this.#name} process has ended (${signal ?? `exit code ${code}`}).`);
      resolve();
    });
    this.#process.once('error', (error) => {
      this.#failAll(`The ${this.#name} process cannot be started: ${error.message}`);
      resolve();
    });
    this.#exited = promise;
  }

  /** Rejects with the worker's error text, when the worker ends, or after two minutes. */
  async call<Name extends keyof Calls & string>(
    name: Name,
    argument: Parameters<Calls[Name]>[0],
  ): Promise<Awaited<ReturnType<Calls[Name]>>> {
    if (this.#isEnded) throw new Error(`The ${this.#name} process has ended; ${name} cannot be called.`);
    this.#callCount += 1;
    const id = this.#callCount;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.set(id, { resolve, reject });
    const timer = setTimeout(() => {
      reject(new Error(`The ${this.#name} did not finish ${name} within ${callDeadlineMs / 1000} s.`));
    }, callDeadlineMs);
    try {
      const message: CallMessage = { id, name, argument };
      this.#process.send(message, (error) => {
        if (error !== null) reject(error);
      });
      return (await promise) as Awaited<ReturnType<Calls[Name]>>;
    } finally {
      clearTimeout(timer);
      this.#pending.delete(id);
    }
  }

  /** Ends the process and resolves when it is gone. */
  async close(): Promise<void> {
    if (this.#process.connected) this.#process.disconnect();
    await this.#exited;
  }

  #settle(answer: AnswerMessage): void {
    const pending = this.#pending.get(answer.id);
    switch (answer.kind) {
      case 'result':
        pending?.resolve(answer.result);
        break;
      case 'error':
        pending?.reject(new Error(answer.message));
        break;
      default:
        answer satisfies never;
    }
  }

  #failAll(message: string): void {
    this.#isEnded = true;
    for (const pending of this.#pending.values()) pending.reject(new Error(message));
  }
}

/** The worker's side: answers calls until the bench lets go, then ends the process. */
export function serveCalls<Calls extends WorkerCalls<Calls>>(calls: Calls): void {
  process.on('message', (message: CallMessage) => {
    answer(calls, message).catch((error: unknown) => {
      console.error(error);
      process.exit(1);
    });
  });
  process.once('disconnect', () => process.exit(0));
  // Ctrl-C reaches the whole group; the bench ends its workers itself, after the agents.
  process.on('SIGINT', () => undefined);
}

async function answer<Calls extends WorkerCalls<Calls>>(calls: Calls, message: CallMessage): Promise<void> {
  const { id, name, argument } = message;
  let reply: AnswerMessage;
  try {
    const call = calls[name as keyof Calls] as unknown as (argument: unknown) => unknown;
    reply = { id, kind: 'result', result: await call(argument) };
  } catch (error) {
    reply = { id, kind: 'error', message: error instanceof Error ? error.message : String(error) };
  }
  if (process.connected) process.send?.(reply);
}
