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
import { typeUrls } from '../../proto/type-urls.ts';
import { MessageWriter, messageIn } from '../../proto/wire.ts';
import { encodeFrame, FrameSplitter } from '../xds/frames.ts';
import { methodPaths } from '../xds/request-metadata.ts';
import { samplePluginFiles, samplePluginUrls } from './sample-plugin.ts';

const pluginName = 'first.plugin';
const maxMessageBytes = 1024 * 1024;

// Of DeltaDiscoveryRequest and DeltaDiscoveryResponse.
const requestFields = { typeUrl: 2, subscribe: 3, nonce: 6 } as const;
const responseFields = { version: 1, resources: 2, typeUrl: 4, nonce: 5 } as const;

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
    const ask = (field: number, text: string) =>
      send(
        stream,
        new MessageWriter().text(requestFields.typeUrl, typeUrls.extensionConfig).text(field, text).finish(),
      );
    let answeredCount = 0;
    onMessage(stream, (message) => {
      const text = message.toString('latin1');
      if (!text.includes(typeUrls.httpWasm)) {
        reject(new Error(`the agent refuses the plugin ${this.#urls[answeredCount]}: ${text}`));
        return;
      }
      ask(requestFields.nonce, textIn(message, responseFields.nonce));
      answeredCount += 1;
      if (answeredCount === this.#urls.length) resolve();
    });
    ask(requestFields.subscribe, pluginName);
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
      const isForPlugins = textIn(message, requestFields.typeUrl) === typeUrls.extensionConfig;
      if (!isForPlugins || url === undefined) return;
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

function onMessage(stream: ClientHttp2Stream | ServerHttp2Stream, take: (message: Buffer) => void): void {
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

function textIn(message: Buffer, field: number): string {
  return messageIn(message, field)?.toString('utf8') ?? '';
}

/** An encoded `DeltaDiscoveryResponse` with one plugin, as istiod makes it of a WasmPlugin. */
function pluginResponse(url: string, version: string): Buffer {
  const message = () => new MessageWriter();
  const anyOf = (typeUrl: string, value: MessageWriter) => message().text(1, typeUrl).message(2, value);
  const timeout = message().varint(1, 30);
  const remote = message().message(1, message().text(1, url).text(2, '_').message(3, timeout));
  const code = message().message(2, remote);
  const vm = message().text(2, 'envoy.wasm.runtime.v8').message(3, code);
  const text = message().text(1, `{"v":${version}}`);
  const settings = anyOf('type.googleapis.com/google.protobuf.StringValue', text);
  const plugin = message().text(1, pluginName).message(3, vm).message(4, settings);
  const filter = anyOf(typeUrls.httpWasm, message().message(1, plugin));
  const config = anyOf(typeUrls.extensionConfig, message().text(1, pluginName).message(2, filter));
  const resource = message().text(3, pluginName).text(1, version).message(2, config);
  return message()
    .text(responseFields.version, version)
    .message(responseFields.resources, resource)
    .text(responseFields.typeUrl, typeUrls.extensionConfig)
    .text(responseFields.nonce, version)
    .finish();
}
