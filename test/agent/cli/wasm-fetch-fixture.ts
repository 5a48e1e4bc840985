import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { temporaryFolder } from '../../support/test-end.ts';
import { importedLog, pluginModule } from '../../support/wasm-fixtures/plugin-module.ts';
import { ImageRegistry } from '../fetch/image-registry.ts';
import { answer, startWebServer, type WebServer } from '../fetch/web-server.ts';
import { type CommandResult, runCommand } from './command-process.ts';

/** What an inspection tells as JSON, as far as tests look. */
export interface InspectionDocument {
  readonly verdict: string;
  readonly refusals: readonly string[];
  readonly policy: { readonly kind: string; readonly reason?: string };
  readonly signature: { readonly kind: string; readonly reason?: string; readonly signer?: string };
  readonly fetch: {
    readonly kind: string;
    readonly code?: string;
    readonly from?: string;
    readonly matchedPin?: string;
    readonly digests?: Readonly<Record<string, unknown>>;
    readonly trace?: { readonly steps: readonly { readonly kind: string; readonly taken: string }[] };
  };
  readonly module?: {
    readonly sizeBytes: number;
    readonly summary: { readonly imports: readonly { readonly module: string; readonly name: string }[] };
    readonly preflight: { readonly kind: string; readonly abi?: string };
  };
}

/** A module that Envoy would be given. */
export function goodModule(): Buffer {
  return Buffer.from(pluginModule({ imports: [importedLog] }));
}

/** A registry with a web server beside it, and the commands that fetch from them. */
export class FetchCommands {
  readonly registry = new ImageRegistry();
  readonly files = new Map<string, Uint8Array>();
  readonly folder: string;
  server!: WebServer;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async start(t: TestContext): Promise<FetchCommands> {
    const commands = new FetchCommands(await temporaryFolder(t));
    await mkdir(commands.temporaryFolder);
    commands.server = await startWebServer((request, response) => {
      const file = commands.files.get(request.target);
      return file === undefined ? commands.registry.handle(request, response) : answer(response, 200, file);
    });
    t.after(async () => commands.server.close());
    return commands;
  }

  /** `oci://` URL of a tag. */
  url(tag: string): string {
    return `oci://${this.server.host}/acme/plugin:${tag}`;
  }

  /** Where the commands make their temporary files. */
  get temporaryFolder(): string {
    return join(this.folder, 'tmp');
  }

  get dataFolder(): string {
    return join(this.folder, 'data');
  }

  async temporaryNames(): Promise<readonly string[]> {
    return readdir(this.temporaryFolder);
  }

  async run(words: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<CommandResult> {
    return runCommand(['wasm', ...words], { env: { ...this.#env(), ...env } });
  }

  async inspect(...words: string[]): Promise<CommandResult & { readonly document: InspectionDocument }> {
    const result = await this.run(['inspect', '--json', ...words]);
    if (result.stdout === '') throw new Error(`nothing was printed: ${result.stderr}`);
    return { ...result, document: JSON.parse(result.stdout) as InspectionDocument };
  }

  async pull(...words: string[]): Promise<CommandResult> {
    return this.run(['pull', '--data-folder', this.dataFolder, ...words]);
  }

  /** Runs a command, sends it a signal when `isDue` resolves, and tells how it ended. */
  async interrupt(
    words: readonly string[],
    name: NodeJS.Signals,
    isDue: Promise<void>,
  ): Promise<CommandResult> {
    return runCommand(['wasm', ...words], { env: this.#env(), interruption: { name, isDue } });
  }

  #env(): Readonly<Record<string, string>> {
    return { TMPDIR: this.temporaryFolder, WASM_DATA_DIR: this.dataFolder, HOME: this.folder };
  }
}
