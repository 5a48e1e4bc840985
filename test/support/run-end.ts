import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** As a shell tells them: 128 and the signal's number. */
const signalExitCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** A signal ends this program by `process.exit`, so that exit handlers kill its children and remove its files. */
export function exitOnSignals(): void {
  for (const [signal, code] of Object.entries(signalExitCodes)) {
    process.once(signal, () => process.exit(code));
  }
}

/** One folder for all files of this program, sockets and module caches included; gone when the process ends. */
export function holdTemporaryFolder(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `ferry-${name}-`));
  process.env['TMPDIR'] = folder;
  process.on('exit', () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  return folder;
}
