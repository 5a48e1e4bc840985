/** Process of the web server that modules are downloaded from. */
import { randomFillSync } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { HttpOrigin } from '../support/http-origin.ts';
import { buildPlugin } from '../support/plugin-build.ts';
import { Registry } from '../support/registry.ts';
import { customSectionHeader } from '../support/wasm-section.ts';
import { serveCalls } from './worker-process.ts';

/** Calls of the process. */
export interface ModuleOriginCalls {
  start(options: undefined): Promise<void>;
  /**
   * Makes a module that no agent has seen: the plugin of the tests, grown to exactly `sizeBytes` by a custom section
   * whose bytes differ from module to module. Only the newest module of a size can be downloaded.
   */
  serve(options: { readonly sizeBytes: number }): Promise<{ readonly url: string }>;
  /** So many modules of this size, all new and all different, as files of a web server. */
  serveMany(options: { readonly sizeBytes: number; readonly count: number }): Promise<{
    readonly urls: readonly string[];
  }>;
  /** The same as `serve`, as an image of a registry without TLS. */
  serveImage(options: { readonly sizeBytes: number }): Promise<{ readonly url: string }>;
  /** How often modules have been asked for since the last call: their files, or the layers of their images. */
  takeRequestCount(options: undefined): number;
}

/** Bytes of the section that are new in each module. */
const distinctBytes = 32;

interface ModuleBuffer {
  readonly bytes: Buffer;
  readonly distinctStart: number;
}

const modules = new Map<number, ModuleBuffer>();
let origin: HttpOrigin | undefined;
let registry: Registry | undefined;
let moduleCount = 0;

async function makeModule(sizeBytes: number): Promise<ModuleBuffer> {
  const plugin = await readFile((await buildPlugin()).path);
  const header = customSectionHeader('padding', sizeBytes - plugin.length);
  if (header === undefined || sizeBytes - plugin.length - header.length < distinctBytes) {
    throw new RangeError(
      `A module of ${sizeBytes} bytes is too small for the plugin of ${plugin.length} bytes.`,
    );
  }
  const bytes = Buffer.allocUnsafe(sizeBytes);
  bytes.set(plugin, 0);
  bytes.set(header, plugin.length);
  const distinctStart = plugin.length + header.length;
  randomFillSync(bytes, distinctStart);
  return { bytes, distinctStart };
}

function running(): HttpOrigin {
  if (origin === undefined) throw new Error('The module origin has not been started.');
  return origin;
}

function runningRegistry(): Registry {
  if (registry === undefined) throw new Error('The module origin has not been started.');
  return registry;
}

async function nextModule(sizeBytes: number): Promise<Buffer> {
  const module = modules.get(sizeBytes) ?? (await makeModule(sizeBytes));
  modules.set(sizeBytes, module);
  randomFillSync(module.bytes, module.distinctStart, distinctBytes);
  moduleCount += 1;
  return module.bytes;
}

serveCalls<ModuleOriginCalls>({
  async start() {
    origin = await HttpOrigin.start();
    registry = await Registry.start();
  },
  async serve({ sizeBytes }) {
    const bytes = await nextModule(sizeBytes);
    return { url: await running().put(`/module-${moduleCount}.wasm`, bytes) };
  },
  async serveMany({ sizeBytes, count }) {
    const urls: string[] = [];
    for (let index = 0; index < count; index += 1) {
      // The next module is made in the same memory, and all of these are to be had at once.
      const bytes = Buffer.from(await nextModule(sizeBytes));
      urls.push(await running().put(`/module-${moduleCount}.wasm`, bytes));
    }
    return { urls };
  },
  async serveImage({ sizeBytes }) {
    const wasm = await nextModule(sizeBytes);
    const image = { repository: 'bench/module', tag: `v${moduleCount}`, layout: 'compat', wasm } as const;
    return { url: (await runningRegistry().pushImage(image)).url };
  },
  takeRequestCount() {
    const layers = { method: 'GET', path: /\/blobs\// };
    const count = running().http.count({ method: 'GET' }) + runningRegistry().http.count(layers);
    running().http.forgetRequests();
    runningRegistry().http.forgetRequests();
    return count;
  },
});
