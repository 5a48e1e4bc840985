import { stat } from 'node:fs/promises';
import { type Answer, type Content, ScriptedServer, type ScriptedServerOptions } from './scripted-server.ts';

export interface HttpOriginOptions {
  /** PEM texts; absent: plain HTTP. */
  readonly tls?: NonNullable<ScriptedServerOptions['tls']>;
}

/** A web server on loopback that serves module files; faults, counts and the request log are those of `http`. */
export class HttpOrigin implements AsyncDisposable {
  readonly http: ScriptedServer;
  readonly #contents: Map<string, Content>;

  private constructor(http: ScriptedServer, contents: Map<string, Content>) {
    this.http = http;
    this.#contents = contents;
  }

  /** Starts an origin without files on a free port. */
  static async start(options: HttpOriginOptions = {}): Promise<HttpOrigin> {
    const contents = new Map<string, Content>();
    const http = await ScriptedServer.start({
      ...options,
      answer: (request) => answerFile(contents.get(request.path)),
    });
    return new HttpOrigin(http, contents);
  }

  /** Serves a file (it must stay) or bytes under a path such as `/plugin.wasm`. Returns the URL. */
  async put(path: string, source: string | Uint8Array): Promise<string> {
    const content: Content =
      typeof source === 'string'
        ? { kind: 'file', path: source, sizeBytes: (await stat(source)).size }
        : { kind: 'bytes', bytes: source };
    this.#contents.set(path, content);
    return `${this.http.url}${path}`;
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    await this.http.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function answerFile(content: Content | undefined): Answer {
  if (content === undefined) {
    return { status: 404, content: { kind: 'bytes', bytes: Buffer.from('404 page not found\n') } };
  }
  return { status: 200, headers: { 'content-type': 'application/wasm' }, content };
}
