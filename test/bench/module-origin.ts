/** Process of the web server that modules are downloaded from. */
import { randomFillSync } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { HttpOrigin } from '../support/http-origin.ts';
import { buildPlugin } from '../support/plugin-build.ts';
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
  /** How often modules have been asked for since the last call. */
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

serveCalls<ModuleOriginCalls>({
  async start() {
    origin = await HttpOrigin.start();
  },
  async serve({ sizeBytes }) {
    const module = modules.get(sizeBytes) ?? (await makeModule(sizeBytes));
    modules.set(sizeBytes, module);
    randomFillSync(module.bytes, module.distinctStart, distinctBytes);
    moduleCount += 1;
    return { url: await running().put(`/module-${moduleCount}.wasm`, module.bytes) };
  },
  takeRequestCount() {
    const count = running().http.count({ method: 'GET' });
    running().http.forgetRequests();
    return count;
  },
});
