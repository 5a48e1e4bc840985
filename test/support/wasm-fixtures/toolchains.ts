import { execFile } from 'node:child_process';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A compiler of plugins, and how it compiles the source of its language in `sources/`. */
export interface Toolchain {
  /** Language and compiler, for the name of a test. */
  readonly name: string;
  /** Why it cannot be used on this machine; undefined when it can. Throws when the machine's answer makes no sense. */
  skipReason(): Promise<string | undefined>;
  /** Writes the plugin to `outputPath`. Throws Error with the compiler's messages. */
  build(outputPath: string): Promise<void>;
}

function source(name: string): string {
  return fileURLToPath(new URL(`sources/${name}`, import.meta.url));
}

/** What a command prints, or undefined when there is no such command. */
async function output(command: string, args: readonly string[]): Promise<string | undefined> {
  try {
    return (await run(command, args)).stdout;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** Debian names its compilers with their version when the package without one is not installed. */
const clangNames = ['clang', ...Array.from({ length: 9 }, (_, i) => `clang-${22 - i}`)];

/** A clang with the wasm32 target and its linker. */
async function findClang(): Promise<string | undefined> {
  for (const name of clangNames) {
    const targets = await output(name, ['--print-targets']);
    if (targets === undefined || !targets.includes('wasm32')) continue;
    const linker = (await output(name, ['--print-prog-name=wasm-ld']))?.trim() ?? '';
    if (await isThere(linker)) return name;
  }
  return undefined;
}

const rustTarget = 'wasm32-wasip1';
const firstGoVersion = [1, 24] as const;

/** Every compiler that there is a plugin for, AssemblyScript aside: that one is a package of ours. */
export const toolchains: readonly Toolchain[] = [
  {
    name: 'C, with clang and no C library',
    async skipReason() {
      return (await findClang()) === undefined ? 'there is no clang with a linker for wasm32' : undefined;
    },
    async build(outputPath) {
      const clang = (await findClang()) ?? 'clang';
      const options = ['--target=wasm32', '-nostdlib', '-O2', '-Wl,--no-entry'];
      await run(clang, [...options, source('plugin.c'), '-o', outputPath]);
    },
  },
  {
    name: 'C, with Emscripten',
    async skipReason() {
      return (await output('emcc', ['--version'])) === undefined ? 'there is no emcc' : undefined;
    },
    async build(outputPath) {
      const options = ['-O2', '--no-entry', '-sSTANDALONE_WASM', '-sERROR_ON_UNDEFINED_SYMBOLS=0'];
      await run('emcc', [...options, source('plugin.c'), '-o', outputPath]);
    },
  },
  {
    // As the C++ SDK of proxy-wasm links: memory that grows, of which the host is told.
    name: 'C++, with Emscripten and its standard library',
    async skipReason() {
      return (await output('em++', ['--version'])) === undefined ? 'there is no em++' : undefined;
    },
    async build(outputPath) {
      const options = ['-O2', '--no-entry', '-std=c++17', '-sSTANDALONE_WASM', '-sALLOW_MEMORY_GROWTH=1'];
      const undefinedSymbols = '-sERROR_ON_UNDEFINED_SYMBOLS=0';
      await run('em++', [...options, undefinedSymbols, source('plugin.cc'), '-o', outputPath]);
    },
  },
  {
    name: 'Rust, with its standard library',
    async skipReason() {
      const sysroot = await output('rustc', ['--print', 'sysroot']);
      if (sysroot === undefined) return 'there is no rustc';
      const library = join(sysroot.trim(), 'lib', 'rustlib', rustTarget);
      return (await isThere(library)) ? undefined : `rustc has no standard library for ${rustTarget}`;
    },
    async build(outputPath) {
      const options = ['--target', rustTarget, '--crate-type', 'cdylib', '--edition', '2021', '-O'];
      await run('rustc', [...options, '-C', 'panic=abort', source('plugin.rs'), '-o', outputPath]);
    },
  },
  {
    name: 'Go, with its runtime',
    async skipReason() {
      const version = await output('go', ['env', 'GOVERSION']);
      if (version === undefined) return 'there is no go';
      const [, major, minor] = /^go(\d+)\.(\d+)/.exec(version) ?? [];
      const isNewEnough = Number(major) === firstGoVersion[0] && Number(minor) >= firstGoVersion[1];
      return isNewEnough ? undefined : `${version.trim()} is older than go${firstGoVersion.join('.')}`;
    },
    async build(outputPath) {
      // No module is fetched, and no other version of Go.
      const env = { ...process.env, GOOS: 'wasip1', GOARCH: 'wasm', GOTOOLCHAIN: 'local', GOPROXY: 'off' };
      await run('go', ['build', '-buildmode=c-shared', '-o', outputPath, source('plugin.go')], { env });
    },
  },
];
