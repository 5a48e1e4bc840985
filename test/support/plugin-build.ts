import { createCipheriv, createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { cacheFolder } from './cache-folder.mjs';
import { customSectionHeader } from './wasm-section.ts';

/** A module file in the cache folder. It is shared by all tests: never change or delete it. */
export interface BuiltModule {
  /** Absolute. */
  readonly path: string;
  readonly sizeBytes: number;
}

const assemblyFolder = fileURLToPath(new URL('../plugin/assembly/', import.meta.url));

/** Envoy calls `_initialize`; there is no host function to abort with, so a failed check traps. */
const compilerFlags = [
  '--runtime',
  'incremental',
  '--use',
  'abort=',
  '--exportStart',
  '_initialize',
  '-Oz',
  '--noAssert',
];

/** Bytes of padding written at a time. */
const paddingChunkBytes = 256 * 1024;

/** Builds under way in this process, by file name: whoever asks for the same one joins. */
const flights = new Map<string, Promise<BuiltModule>>();

/**
 * Builds the basic-auth plugin (test/plugin/assembly/index.ts), or takes it from the cache when its sources, the
 * compiler and the flags are the same. Throws Error with the compiler's messages.
 */
export function buildPlugin(): Promise<BuiltModule> {
  return compile('basic-auth', 'index.ts', {});
}

/** Builds a sound module without a proxy-wasm ABI export: Envoy refuses it. */
export function buildPluginWithoutAbi(): Promise<BuiltModule> {
  return compile('no-abi', 'no-abi.ts', {});
}

/** Builds the plugin whose VM traps at a request with the header `x-trap`; all others pass. */
export function buildTrappingPlugin(): Promise<BuiltModule> {
  return compile('trap', 'trap.ts', {});
}

/**
 * Builds the plugin that adds `x-plugin-build: <label>` and the headers of its configuration
 * (`{"response_headers": {...}}`) to each response. Different labels are different modules.
 */
export function buildHeaderPlugin(label: string): Promise<BuiltModule> {
  const source = `export const BUILD_LABEL = ${JSON.stringify(label)};\n`;
  return compile('response-header', 'response-header.ts', { 'build-label.ts': source });
}

/**
 * The basic-auth plugin grown to exactly `sizeBytes` by a custom section of bytes that do not compress; the same
 * bytes for the same size on every machine. Written as a stream. Throws RangeError when the plugin alone is larger.
 */
export async function paddedModule(sizeBytes: number): Promise<BuiltModule> {
  const plugin = await buildPlugin();
  const head = customSectionHeader('padding', sizeBytes - plugin.sizeBytes);
  if (head === undefined) {
    throw new RangeError(
      `A module of ${sizeBytes} bytes was asked for, but the plugin has ${plugin.sizeBytes}.`,
    );
  }
  const header: Uint8Array = head;
  const source = await digestOf(plugin.path);
  return cached(`padded-${sizeBytes}-${source.slice(0, 16)}.wasm`, async (temporaryPath) => {
    const paddingBytes = sizeBytes - plugin.sizeBytes - header.byteLength;
    async function* parts(): AsyncGenerator<Uint8Array> {
      yield* createReadStream(plugin.path) as AsyncIterable<Uint8Array>;
      yield header;
      yield* incompressibleBytes(paddingBytes);
    }
    await pipeline(Readable.from(parts(), { objectMode: false }), createWriteStream(temporaryPath));
  });
}

/** A fixed pseudo-random sequence: the key stream of AES-CTR under a zero key. */
function* incompressibleBytes(sizeBytes: number): Generator<Uint8Array> {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16));
  const zeros = Buffer.alloc(paddingChunkBytes);
  for (let left = sizeBytes; left > 0; left -= paddingChunkBytes) {
    yield cipher.update(zeros.subarray(0, Math.min(left, paddingChunkBytes)));
  }
}

/** `replaced` holds the text of source files that this build wants in place of those on disk. */
async function compile(
  name: string,
  entry: string,
  replaced: Readonly<Record<string, string>>,
): Promise<BuiltModule> {
  const sources = new Map<string, string>();
  for (const file of (await readdir(assemblyFolder)).filter((each) => each.endsWith('.ts')).sort()) {
    sources.set(file, replaced[file] ?? (await readFile(join(assemblyFolder, file), 'utf8')));
  }
  const compiler = new URL('../package.json', import.meta.resolve('assemblyscript'));
  const { version } = JSON.parse(await readFile(compiler, 'utf8')) as { version: string };
  const identity = JSON.stringify([version, compilerFlags, entry, [...sources]]);
  const key = createHash('sha256').update(identity).digest('hex');
  return cached(`${name}-${key.slice(0, 16)}.wasm`, async (temporaryPath) => {
    await writeFile(temporaryPath, await runCompiler(entry, sources));
  });
}

async function runCompiler(entry: string, sources: ReadonlyMap<string, string>): Promise<Uint8Array> {
  const { default: asc } = await import('assemblyscript/asc');
  let binary: Uint8Array | undefined;
  const messages = asc.createMemoryStream();
  const { error } = await asc.main([entry, ...compilerFlags, '--outFile', 'out.wasm'], {
    stdout: messages,
    stderr: messages,
    readFile: (file) => sources.get(file) ?? null,
    listFiles: () => [],
    writeFile: (_file, contents) => {
      if (typeof contents !== 'string') binary = contents;
    },
  });
  if (error !== null || binary === undefined) {
    throw new Error(`The plugin test/plugin/assembly/${entry} does not compile:\n${messages.toString()}`, {
      cause: error,
    });
  }
  return binary;
}

/** The file of this name in the cache; `write` makes it under a temporary name when it is not there. */
function cached(name: string, write: (temporaryPath: string) => Promise<void>): Promise<BuiltModule> {
  const flight = flights.get(name) ?? make(name, write).finally(() => flights.delete(name));
  flights.set(name, flight);
  return flight;
}

async function make(name: string, write: (temporaryPath: string) => Promise<void>): Promise<BuiltModule> {
  const folder = join(cacheFolder(), 'plugins');
  const path = join(folder, name);
  const present = await stat(path).catch(() => undefined);
  if (present !== undefined) return { path, sizeBytes: present.size };
  await mkdir(folder, { recursive: true });
  const temporaryPath = `${path}.${process.pid}.tmp`;
  try {
    await write(temporaryPath);
    await rename(temporaryPath, path);
  } finally {
    await rm(temporaryPath, { force: true });
  }
  return { path, sizeBytes: (await stat(path)).size };
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}
