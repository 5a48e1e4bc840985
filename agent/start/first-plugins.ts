import { once } from 'node:events';
import { createServer as createWebServer, type Server as WebServer } from 'node:http';
import {
  type ClientHttp2Stream,
  connect as connectHttp2,
  createServer,
  type Http2Server,
  type ServerHttp2Stream,
} from 'node:http2';
import { type AddressInfo, connect, type Server } from 'node:net';
import {
  decodeDeltaRequest,
  decodeDeltaResponse,
  encodeDeltaRequest,
  makeDeltaRequest,
} from '../../proto/codec.ts';
import { typeUrls } from '../../proto/type-urls.ts';
import { encodeFrame, FrameSplitter } from '../xds/frames.ts';
import { methodPaths } from '../xds/request-metadata.ts';
import { samplePluginFiles, samplePluginUrls } from './sample-plugin.ts';

const pluginName = 'first.plugin';
const maxMessageBytes = 1024 * 1024;

/**
 * What a pod with plugins meets, on loopback: a control plane without TLS, a web server that is a registry too, and
 * Envoy's stream. For the recorder of V8's code: the agent's own code runs as it does in a pod.
 */
export class FirstPlugins implements Disposable {
  readonly #istiod: Http2Server;
  readonly #web: WebServer;
  /** Module URLs to push, one after the other. */
  readonly #urls: readonly string[];
  #pushCount = 0;

  private constructor(istiod: Http2Server, web: WebServer) {
    this.#istiod = istiod;
    this.#web = web;
    const { file, image } = samplePluginUrls(this.webHost);
    // Twice: a push of what is cached has a way of its own.
    this.#urls = [file, image, image];
  }

  /** Listens on free ports. */
  static async start(): Promise<FirstPlugins> {
    const files = await samplePluginFiles();
    const web = createWebServer((request, response) => {
      const file = files.get(request.url ?? '');
      response.writeHead(file === undefined ? 404 : 200, { 'content-type': file?.type ?? 'text/plain' });
      response.end(request.method === 'HEAD' ? undefined : file?.bytes);
    });
    const istiod = createServer();
    for (const server of [istiod, web]) await once(server.listen(0, '127.0.0.1'), 'listening');
    const plugins = new FirstPlugins(istiod, web);
    istiod.on('stream', (stream) => plugins.#serve(stream));
    return plugins;
  }

  get discoveryAddress(): string {
    return hostOf(this.#istiod);
  }

  /** Of the web server and registry, which has no TLS. */
  get webHost(): string {
    return hostOf(this.#web);
  }

  [Symbol.dispose](): void {
    this.#istiod.close();
    this.#web.close();
  }

  /**
   * Is Envoy on the agent's socket: resolves when it has acknowledged each plugin. Rejects when one comes as anything but
   * a Wasm filter, and when the stream ends before.
   */
  async play(socketPath: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const session = connectHttp2('http://xds', { createConnection: () => connect({ path: socketPath }) });
    session.on('error', reject);
    const stream = session.request({
      ':method': 'POST',
      ':path': methodPaths.delta,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    stream.on('error', reject);
    stream.on('close', () => reject(new Error('the agent has ended the stream of the first plugins')));
    const ask = (
      fields: { readonly resourceNamesSubscribe: string[] } | { readonly responseNonce: string },
    ) => send(stream, encodeDeltaRequest(makeDeltaRequest({ typeUrl: typeUrls.extensionConfig, ...fields })));
    let answeredCount = 0;
    onMessage(stream, (message) => {
      const text = Buffer.from(message).toString('latin1');
      if (!text.includes(typeUrls.httpWasm)) {
        reject(new Error(`the agent refuses the plugin ${this.#urls[answeredCount]}: ${text}`));
        return;
      }
      ask({ responseNonce: decodeDeltaResponse(message).nonce });
      answeredCount += 1;
      if (answeredCount === this.#urls.length) resolve();
    });
    ask({ resourceNamesSubscribe: [pluginName] });
    try {
      await promise;
    } finally {
      session.destroy();
    }
  }

  /** One push for the subscription, then one for each verdict. */
  #serve(stream: ServerHttp2Stream): void {
    // The agent's to tell.
    stream.on('error', () => undefined);
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
    onMessage(stream, (message) => {
      const url = this.#urls[this.#pushCount];
      if (decodeDeltaRequest(message).typeUrl !== typeUrls.extensionConfig || url === undefined) return;
      this.#pushCount += 1;
      send(stream, pluginResponse(url, String(this.#pushCount)));
    });
  }
}

function hostOf(server: Server): string {
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function send(stream: ClientHttp2Stream | ServerHttp2Stream, message: Uint8Array): void {
  for (const part of encodeFrame(message)) stream.write(part);
}

function onMessage(stream: ClientHttp2Stream | ServerHttp2Stream, take: (message: Uint8Array) => void): void {
  let parts: Buffer[] = [];
  const splitter = new FrameSplitter({
    maxMessageBytes,
    sink: {
      onMessageStart: () => {
        parts = [];
      },
      onMessageData: (part) => parts.push(part),
      onMessageEnd: () => take(Buffer.concat(parts)),
    },
  });
  stream.on('data', (chunk: Buffer) => splitter.push(chunk));
}

/** An encoded `DeltaDiscoveryResponse` with one plugin, as istiod makes it of a WasmPlugin. */
function pluginResponse(url: string, version: string): Buffer {
  const timeout = Buffer.from([0x08, 30]);
  const remote = field(1, field(1, url), field(2, '_'), field(3, timeout));
  const vm = field(3, field(2, 'envoy.wasm.runtime.v8'), field(3, field(2, remote)));
  const settings = anyOf('type.googleapis.com/google.protobuf.StringValue', field(1, `{"v":${version}}`));
  const filter = anyOf(typeUrls.httpWasm, field(1, field(1, pluginName), vm, field(4, settings)));
  const config = anyOf(typeUrls.extensionConfig, field(1, pluginName), field(2, filter));
  const resource = field(2, field(3, pluginName), field(1, version), field(2, config));
  return Buffer.concat([field(1, version), resource, field(4, typeUrls.extensionConfig), field(5, version)]);
}

function anyOf(typeUrl: string, ...value: readonly Buffer[]): Buffer {
  return Buffer.concat([field(1, typeUrl), field(2, ...value)]);
}

const lengthDelimited = 2;

/** A length-delimited field of a protobuf message, of at most 16 KiB. */
function field(number: number, ...contents: readonly (string | Buffer)[]): Buffer {
  const content = Buffer.concat(
    contents.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)),
  );
  const { length } = content;
  const size = length < 0x80 ? [length] : [(length & 0x7f) | 0x80, length >> 7];
  return Buffer.concat([Buffer.from([(number << 3) | lengthDelimited, ...size]), content]);
}
