import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** Folders of the container that the agent expects under its working directory. */
const containerFolders = [
  'etc/istio/config',
  'etc/istio/pod',
  'etc/istio/proxy',
  'var/lib/istio/data',
  'var/lib/istio/envoy',
  'var/run/secrets/credential-uds',
  'var/run/secrets/istio',
  'var/run/secrets/tokens',
  'var/run/secrets/workload-spiffe-uds',
];

/** A temporary folder laid out like the root of the proxy container. */
export interface Workspace extends AsyncDisposable {
  /** Absolute and short: Unix socket paths under it stay below the 108 bytes that Linux allows. */
  readonly root: string;
  /** Absolute path of `./etc/...` or `var/...` inside. */
  path(relative: string): string;
  /** Writes a file, and its folder when that is missing. Returns the absolute path. */
  write(relative: string, contents: string | Uint8Array): Promise<string>;
  /** Removes all. Safe twice. */
  close(): Promise<void>;
}

/** Makes a workspace. Close it at the end of the test. */
export async function createWorkspace(): Promise<Workspace> {
  const root = await mkdtemp(join(tmpdir(), 'ferry-'));
  await Promise.all(containerFolders.map((folder) => mkdir(join(root, folder), { recursive: true })));
  const close = (): Promise<void> => rm(root, { recursive: true, force: true, maxRetries: 3 });
  return {
    root,
    path: (relative) => join(root, relative),
    async write(relative, contents) {
      const path = join(root, relative);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, contents);
      return path;
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}
