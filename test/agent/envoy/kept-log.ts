import { type Logger, LogRoot } from '../../../agent/log.ts';

/** A logger whose lines are kept, and shown to `onLine` as they come. */
export function keptLog(onLine: (line: string) => void = () => {}): {
  readonly log: Logger;
  readonly lines: string[];
} {
  const lines: string[] = [];
  const root = new LogRoot({
    format: 'text',
    levels: new Map([['default', 'debug']]),
    write: (line) => {
      lines.push(line);
      onLine(line);
    },
  });
  return { log: root.scope('default'), lines };
}
