import { readFile } from 'node:fs/promises';

/** What a plugin answered in place of the upstream. */
export interface LocalResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
}

/** The part of the WebAssembly JavaScript interface used here; Node's type definitions leave it to the browser's. */
interface WebAssemblyInterface {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
}
const { Module, Instance } = (globalThis as unknown as { WebAssembly: WebAssemblyInterface }).WebAssembly;

interface PluginExports {
  readonly memory: { readonly buffer: ArrayBuffer };
  _initialize(): void;
  proxy_on_memory_allocate(size: number): number;
  proxy_on_context_create(id: number, parent: number): void;
  proxy_on_configure(id: number, size: number): number;
  proxy_on_request_headers(id: number, count: number, isEnd: number): number;
  proxy_on_done(id: number): number;
  proxy_on_delete(id: number): void;
}

const notFound = 1;
const ok = 0;

/**
 * Enough of a proxy-wasm host (ABI 0.2.1) to ask a header filter quickly about many configurations. That the plugin
 * also works in Envoy is shown with Envoy.
 */
export class PluginHost {
  readonly errors: string[] = [];
  readonly #exports: PluginExports;
  #configuration = '';
  #requestHeaders: Readonly<Record<string, string>> = {};
  #localResponse: LocalResponse | undefined;
  #nextId = 1;

  private constructor(module: object) {
    const instance = new Instance(module, {
      env: {
        proxy_log: (_level: number, text: number, size: number) => {
          this.errors.push(this.#text(text, size));
          return ok;
        },
        proxy_get_buffer_bytes: (
          _type: number,
          start: number,
          length: number,
          out: number,
          sizeOut: number,
        ) => this.#handOver(Buffer.from(this.#configuration).subarray(start, start + length), out, sizeOut),
        proxy_get_header_map_value: (
          _map: number,
          key: number,
          size: number,
          out: number,
          sizeOut: number,
        ) => {
          const value = this.#requestHeaders[this.#text(key, size)];
          return value === undefined ? notFound : this.#handOver(Buffer.from(value), out, sizeOut);
        },
        proxy_send_local_response: (status: number, ...rest: readonly number[]) => {
          this.#localResponse = { status, headers: this.#headerMap(rest[4] ?? 0) };
          return ok;
        },
      },
    });
    this.#exports = instance.exports as PluginExports;
    this.#exports._initialize();
  }

  static async load(path: string): Promise<PluginHost> {
    return new PluginHost(new Module(await readFile(path)));
  }

  get memoryBytes(): number {
    return this.#exports.memory.buffer.byteLength;
  }

  /** Makes a root context. Its id, or undefined when the plugin refused the configuration. */
  configure(configuration: unknown): number | undefined {
    const id = this.#create(0);
    this.#configuration = typeof configuration === 'string' ? configuration : JSON.stringify(configuration);
    const size = Buffer.byteLength(this.#configuration);
    return this.#exports.proxy_on_configure(id, size) === 1 ? id : undefined;
  }

  /** One request through a stream of this root: the plugin's own answer, or undefined when it lets it pass. */
  request(root: number, headers: Readonly<Record<string, string>>): LocalResponse | undefined {
    const id = this.#create(root);
    this.#requestHeaders = { ':method': 'GET', ...headers };
    this.#localResponse = undefined;
    this.#exports.proxy_on_request_headers(id, 0, 1);
    this.#end(id);
    return this.#localResponse;
  }

  /** The plugin's configuration is gone, as after an update. */
  delete(root: number): void {
    this.#end(root);
  }

  #create(parent: number): number {
    const id = this.#nextId;
    this.#nextId += 1;
    this.#exports.proxy_on_context_create(id, parent);
    return id;
  }

  #end(id: number): void {
    this.#exports.proxy_on_done(id);
    this.#exports.proxy_on_delete(id);
  }

  #handOver(bytes: Uint8Array, out: number, sizeOut: number): number {
    const address = this.#exports.proxy_on_memory_allocate(bytes.byteLength);
    const memory = Buffer.from(this.#exports.memory.buffer);
    memory.set(bytes, address);
    memory.writeUInt32LE(address, out);
    memory.writeUInt32LE(bytes.byteLength, sizeOut);
    return ok;
  }

  #text(address: number, size: number): string {
    return Buffer.from(this.#exports.memory.buffer, address, size).toString('utf8');
  }

  #headerMap(address: number): Record<string, string> {
    const memory = Buffer.from(this.#exports.memory.buffer);
    const count = memory.readUInt32LE(address);
    const headers: Record<string, string> = {};
    let at = address + 4 + 8 * count;
    for (let i = 0; i < count; i += 1) {
      const nameSize = memory.readUInt32LE(address + 4 + 8 * i);
      const valueSize = memory.readUInt32LE(address + 8 + 8 * i);
      const name = this.#text(at, nameSize);
      headers[name] = this.#text(at + nameSize + 1, valueSize);
      at += nameSize + valueSize + 2;
    }
    return headers;
  }
}
