import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The agent as it is on disk, ready to be run by this Node. */
export interface FerryProgram {
  /** Arguments of Node: its flags, then the script. */
  readonly nodeArguments: readonly string[];
  /** What the image's start script adds to the environment. */
  readonly environment: Readonly<Record<string, string>>;
  readonly kind: 'bundle' | 'source';
  /** The bundle is older than some source file: what is measured is not what is in the tree. */
  readonly isStale: boolean;
}

const repository = fileURLToPath(new URL('../../', import.meta.url));
const bundlePath = join(repository, 'dist/start.cjs');
const sourcePath = join(repository, 'agent/cli/main.ts');
/** The start script of the image: the one place where the flags of Node and its variables are written down. */
const launcherPath = join(repository, 'deploy/image/ferry-agent');
const sourceFolders = ['agent', 'cache', 'metrics', 'proto'];

/** The bundle when there is one, else the source; undefined when the agent is not in the tree. */
export function findFerry(): FerryProgram | undefined {
  const { flags, environment } = readLauncher();
  if (existsSync(bundlePath)) {
    const isStale = newestSourceMs() > statSync(bundlePath).mtimeMs;
    return { nodeArguments: [...flags, bundlePath], environment, kind: 'bundle', isStale };
  }
  if (!existsSync(sourcePath)) return undefined;
  return { nodeArguments: [...flags, sourcePath], environment, kind: 'source', isStale: false };
}

/** What stands between `node` and the bundle in the start script, and the variables it gives a default. */
function readLauncher(): Pick<FerryProgram, 'environment'> & { readonly flags: readonly string[] } {
  const launcher = readFileSync(launcherPath, 'utf8');
  const flags = /^exec \S*node((?: --\S+)*) \S+start\.cjs /m.exec(launcher)?.[1];
  if (flags === undefined) {
    throw new Error(
      `${launcherPath} has no line "exec .../node <flags> .../start.cjs"; the flags are unknown.`,
    );
  }
  const defaults = launcher.matchAll(/^export (\w+)="\$\{\1:-([^}]*)\}"$/gm);
  return {
    flags: flags
      .trim()
      .split(/ +/)
      .filter((flag) => flag !== ''),
    environment: Object.fromEntries([...defaults].map(([, name = '', value = '']) => [name, value])),
  };
}

function newestSourceMs(): number {
  const times = sourceFolders.flatMap((folder) =>
    readdirSync(join(repository, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => statSync(join(entry.parentPath, entry.name)).mtimeMs),
  );
  return Math.max(...times);
}
