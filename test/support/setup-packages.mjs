import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runTool, withLock } from './setup-command.mjs';
import { looksOffline, outputTail, SetupError } from './setup-error.mjs';

/** TypeScript runs as it is from this Node version on. */
const firstSuitableMajor = 24;

/**
 * What is wrong with node_modules, as a phrase, or undefined when it is what package-lock.json says. npm writes
 * node_modules/.package-lock.json when an installation is complete, so that file is the stamp: it also notices
 * packages that were added by hand, and an installation that was made by hand is not repeated.
 */
export async function packagesProblem(root) {
  const wanted = await readLock(join(root, 'package-lock.json'));
  if (wanted === undefined) {
    throw new SetupError(
      `${root} has no readable package-lock.json. Run this inside a whole clone of the repository.`,
    );
  }
  const installed = await readLock(join(root, 'node_modules', '.package-lock.json'));
  if (installed === undefined) return 'not installed yet';
  for (const [path, entry] of Object.entries(wanted)) {
    if (path === '') continue;
    const present = installed[path];
    if (present === undefined) {
      // An optional package for another system is left out.
      if (entry.optional === true || entry.devOptional === true) continue;
      return `${path} is missing`;
    }
    // An entry for a platform that the registry did not carry when it was made has no integrity.
    const isSame = entry.integrity === undefined || present.integrity === entry.integrity;
    if (present.version !== entry.version || !isSame) return `${path} is not ${entry.version}`;
  }
  const extra = Object.keys(installed).find((path) => wanted[path] === undefined);
  if (extra !== undefined) return `${extra} is not in package-lock.json`;
  return existsSync(join(root, 'node_modules', '.bin')) ? undefined : 'incomplete';
}

async function readLock(path) {
  try {
    return JSON.parse(await readFile(path, 'utf8')).packages;
  } catch {
    return undefined;
  }
}

/** Runs `npm ci` when node_modules is not what package-lock.json says. Two at once in one clone wait for each other. */
export async function preparePackages(root, steps, signal) {
  if ((await packagesProblem(root)) === undefined) return;
  await steps.run('Node packages', async (step) => {
    const onWait = () => step.note('(another setup is installing them)');
    await withLock(join(root, 'node_modules'), { signal, onWait }, async () => {
      const problem = await packagesProblem(root);
      if (problem === undefined) return;
      step.note('(npm ci)');
      step.detail(`npm ci, ${problem}`);
      await installPackages(root, signal);
    });
  });
}

async function installPackages(root, signal) {
  // Under `npm run` this is the very npm that started us; other package managers set it too.
  const npmScript = process.env.npm_execpath;
  const isNpm = npmScript !== undefined && /npm-cli\.[cm]?js$/.test(npmScript) && existsSync(npmScript);
  const [command, ...args] = isNpm ? [process.execPath, npmScript] : ['npm'];
  const { code, output } = await runTool(
    command,
    [...args, 'ci', '--no-audit', '--no-fund', '--progress=false'],
    {
      cwd: root,
      signal,
    },
  );
  if (code === 0) return;
  if (code === undefined) {
    throw new SetupError(
      'npm was not found. It comes with Node: install Node 20 or newer from your distribution or nodejs.org.',
    );
  }
  const cause = looksOffline(output)
    ? 'The package registry cannot be reached. Check the network, a proxy, or the `registry` setting of npm.'
    : 'If package.json was edited, run `npm install` to bring package-lock.json in line, then try again.';
  throw new SetupError(`npm ci failed in ${root}. ${cause} The end of its output:\n${outputTail(output)}`);
}

/** The Node that runs TypeScript: the one installed with the packages, else the running one when it is new enough. */
export function findNode(root) {
  const installed = join(root, 'node_modules', '.bin', 'node');
  if (existsSync(installed)) return installed;
  if (Number(process.versions.node.split('.')[0]) >= firstSuitableMajor) return process.execPath;
  throw new SetupError(
    `Node ${firstSuitableMajor} is needed. The packages bring it for Linux on x64 and arm64, but not for this machine ` +
      `(${process.platform} ${process.arch}), and the running Node is ${process.version}. ` +
      `Install Node ${firstSuitableMajor} and run this with it.`,
  );
}
