import { type Logger, LogRoot } from '../../../agent/log.ts';

/** A log whose lines can be looked at and waited for. */
export interface KeptLog {
  readonly log: Logger;
  readonly lines: readonly string[];
  /** Resolves with the next line that holds `text`. */
  next(text: string): Promise<string>;
}

export function createKeptLog(): KeptLog {
  const lines: string[] = [];
  const waiters = new Set<(line: string) => void>();
  const root = new LogRoot({
    format: 'text',
    levels: new Map(),
    write: (line) => {
      lines.push(line);
      for (const waiter of waiters) waiter(line);
    },
  });
  return {
    log: root.scope('wasm'),
    lines,
    next(text) {
      const { promise, resolve } = Promise.withResolvers<string>();
      const waiter = (line: string): void => {
        if (!line.includes(text)) return;
        waiters.delete(waiter);
        resolve(line);
      };
      waiters.add(waiter);
      return promise;
    },
  };
}
