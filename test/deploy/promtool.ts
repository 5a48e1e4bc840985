import { spawnSync } from 'node:child_process';

const program = 'promtool';

/** Why rules cannot be checked by Prometheus itself here; false when they can. */
export const promtoolSkip: string | false =
  spawnSync(program, ['--version']).error === undefined
    ? false
    : 'no promtool: install the Debian package prometheus';

/** Runs promtool; throws Error with all it printed when it finds a fault. */
export function runPromtool(words: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(program, words, { encoding: 'utf8', timeout: 30_000 });
  const printed = `${stdout}${stderr}`;
  if (status !== 0) throw new Error(`promtool ${words.join(' ')} ended with ${status}:\n${printed}`);
  return printed;
}
