import { spawn, spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const scene = fileURLToPath(new URL('pod-scene.ts', import.meta.url));
/** Ports and mounts of its own. */
const namespaces = ['--net', '--mount'];
const timeoutMs = 240_000;

/** Why a pod cannot be built here; false when it can. */
export function podSkipReason(): string | false {
  const { status, error, stderr } = spawnSync('unshare', [...namespaces, 'ip', 'link', 'set', 'lo', 'up'], {
    encoding: 'utf8',
  });
  return status === 0 ? false : `namespaces cannot be made here: ${error?.message ?? stderr.trim()}`;
}

/** Runs `pod-scene.ts` with these words behind its folder. Resolves with all that it wrote; rejects when it fails. */
export async function runPodScene(words: readonly string[]): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ferry-pod-'));
  try {
    const child = spawn('unshare', [...namespaces, process.execPath, scene, folder, ...words], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    const { promise, resolve, reject } = Promise.withResolvers<number | null>();
    child.once('error', reject);
    child.once('close', resolve);
    const code = await promise;
    if (code !== 0) throw new Error(`the pod failed with ${code}:\n${output}`);
    return output;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
