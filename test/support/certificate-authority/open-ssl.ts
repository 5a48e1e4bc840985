import { execFile, spawn, spawnSync } from 'node:child_process';
import { text } from 'node:stream/consumers';
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

/** The same with a text on standard input, such as a request for `s_client`; gives standard output and error. */
export async function openSslExchange(input: string, ...words: readonly string[]): Promise<string> {
  const child = spawn('openssl', [...words], { stdio: 'pipe', timeout: 30_000 });
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return `${stdout}${stderr}`;
}
