import { execFile, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Why tests that ask OpenSSL's program must be skipped; undefined when it is there. */
export function openSslSkipReason(): string | undefined {
  return spawnSync('openssl', ['version']).status === 0 ? undefined : 'there is no openssl on this machine';
}

/** Output of `openssl` with these arguments. Throws Error with its own words when it says no. */
export async function openSsl(...words: readonly string[]): Promise<string> {
  const { stdout, stderr } = await run('openssl', [...words]);
  return `${stdout}${stderr}`;
}
