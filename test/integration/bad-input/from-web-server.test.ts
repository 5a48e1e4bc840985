import assert from 'node:assert/strict';
import test from 'node:test';
import { gzipSync } from 'node:zlib';
import { componentHeader, sha256, tarOf, wasmHeader, wasmModule } from '../../agent/fetch/module-bytes.ts';
import { startWebServer, type WebServer } from '../../agent/fetch/web-server.ts';
import type { Fault } from '../../support/fault.ts';
import type { HttpOrigin } from '../../support/http-origin.ts';
import {
  callLog,
  firstAddedFunction,
  importedFunction,
  importedLog,
  inner,
  pluginModule,
} from '../../support/wasm-fixtures/plugin-module.ts';
import { checkAccepted } from './checks.ts';
import {
  bigModule,
  type FetchCase,
  html,
  runFetchCases,
  secret,
  startFetchScene,
  type Wanted,
} from './fetch-cases.ts';
import { Scene } from './scene.ts';

/** What goes onto a connection as it is, and whether the connection ends after it. */
interface RawAnswer {
  readonly bytes: Buffer;
  readonly isEnd: boolean;
}

/** Where modules come from over HTTP. */
interface Web {
  readonly origin: HttpOrigin;
  /** Answers with raw bytes, by path. */
  readonly liar: WebServer;
  readonly rawAnswers: Map<string, RawAnswer>;
}

/** Its start section calls a host function, for which there is no context yet. */
const endingModule = pluginModule({
  imports: [importedLog],
  functions: [inner([], [], callLog)],
  start: firstAddedFunction(1),
});

/** A file with this content, on a web server that does these things wrong. */
async function file(
  { origin }: Web,
  name: string,
  content: Uint8Array | string,
  ...faults: readonly Fault[]
): Promise<Wanted> {
  const path = `/${name}.wasm`;
  const url = await origin.put(path, Buffer.from(content));
  if (faults.length > 0) origin.http.script({ path }, ...faults);
  return { url };
}

/** A file on a server whose every byte is given, status line included. The connection ends where that says so. */
function rawFile(web: Web, name: string, head: string, content: Uint8Array | string = ''): Wanted {
  const path = `/${name}.wasm`;
  const bytes = Buffer.concat([Buffer.from(head), Buffer.from(content)]);
  web.rawAnswers.set(path, { bytes, isEnd: head.includes('connection: close') });
  return { url: `${web.liar.url}${path}` };
}

const httpCases: readonly FetchCase<Web>[] = [
  {
    input: 'HTML with status 200',
    want: (at, name) => file(at, name, html),
    reason:
      /fetched Wasm binary from \S+ is invalid: it is an HTML page; check that the URL names the file and not a page about it/,
  },
  {
    input: 'JSON with status 200',
    want: (at, name) => file(at, name, '{"errors":[]}'),
    reason: /is invalid: it is JSON text, probably an error answer/,
  },
  { input: 'an empty file', want: (at, name) => file(at, name, ''), reason: /is invalid: it is empty/ },
  ...[404, 401, 403, 500].map((status) => ({
    input: `status ${status} with an HTML page`,
    want: (at: Web, name: string) => file(at, name, '', { kind: 'status', status, body: html }),
    reason: new RegExp(`status code ${status}`),
  })),
  ...[503, 429].map((status) => ({
    input: `status ${status} with Retry-After: 120`,
    want: (at: Web, name: string) =>
      file(at, name, '', { kind: 'status', status, headers: { 'retry-after': '120' } }),
    reason: new RegExp(`status code ${status}`),
    logLine: /\tinfo\twasm\tWasm module will be fetched again\t.*attemptCount=1 inMs=1[2-8]\d{4}$/,
  })),
  {
    input: 'a file of bytes that are nothing known',
    want: (at, name) => file(at, name, 'not a module'),
    reason: /is invalid: it is neither Wasm, gzip nor tar \(first bytes 6e 6f 74 20\)/,
  },
  {
    input: 'Wasm that is cut inside its magic and version',
    want: (at, name) => file(at, name, wasmHeader.subarray(0, 6)),
    reason: /is invalid: it is cut off after 6 bytes/,
  },
  {
    input: 'a WebAssembly component',
    want: (at, name) => file(at, name, Buffer.concat([componentHeader, Buffer.alloc(8)])),
    reason: /is invalid: it is a WebAssembly component; build a core module/,
  },
  {
    input: 'a module without a proxy-wasm ABI',
    want: (at, name) => file(at, name, wasmHeader),
    reason: /was not given to Envoy, which could not run it: It exports no ABI version: .*\(no_abi_export\)/,
  },
  {
    input: 'a module that imports what Envoy does not have',
    want: (at, name) =>
      file(at, name, pluginModule({ imports: [importedFunction('env', 'host_magic', [], [])] })),
    reason: /It imports the function "env"\."host_magic", which Envoy does not offer.*\(unknown_import\)/,
  },
  {
    input: 'a module that would end Envoy',
    want: (at, name) => file(at, name, endingModule),
    reason: /Its start section calls "env"\."proxy_log".*\(crash_class_start_hostcall\)/,
  },
  {
    input: 'gzip data that is cut',
    want: (at, name) => file(at, name, gzipSync(wasmModule(name)).subarray(0, 20)),
    reason: /is invalid: gzip data cannot be unpacked: unexpected end of file/,
  },
  {
    input: 'gzip data with a wrong checksum',
    want: (at, name) => {
      const bytes = gzipSync(wasmModule(name));
      bytes.writeUInt32LE(7, bytes.length - 8);
      return file(at, name, bytes);
    },
    reason: /is invalid: gzip data cannot be unpacked: incorrect data check/,
  },
  {
    input: 'a gzip bomb',
    want: (at, name) => file(at, name, gzipSync(bigModule(name, 20_000_000))),
    reason:
      /its gzip content is larger than 65536 bytes; shrink the module or raise ISTIO_WASM_MAX_BINARY_SIZE_BYTES/,
  },
  {
    input: 'a file over the size cap',
    want: (at, name) => file(at, name, bigModule(name)),
    reason: /more than 65536 bytes are served; shrink the module or raise ISTIO_WASM_MAX_BINARY_SIZE_BYTES/,
  },
  {
    input: 'a file over the size cap that does not say its size',
    want: (at, name) => rawFile(at, name, 'HTTP/1.1 200 OK\r\n\r\n', bigModule(name)),
    reason: /more than 65536 bytes are served; shrink the module or raise ISTIO_WASM_MAX_BINARY_SIZE_BYTES/,
  },
  {
    input: 'a tar archive without a file',
    want: async (at, name) => file(at, name, await tarOf({ name: 'folder', type: 'directory' })),
    reason: /the tar archive holds no regular file.*put the module into it \(seen: "folder"\)/,
  },
  {
    input: 'archives nested too deep',
    want: async (at, name) => file(at, name, gzipSync(gzipSync(gzipSync(wasmModule(name))))),
    reason: /archives nested deeper than 2 are not unpacked \(found gzip > gzip > gzip\)/,
  },
  {
    input: 'the connection reset before an answer',
    want: (at, name) => file(at, name, wasmModule(name), { kind: 'disconnect' }),
    reason: /GET http:\S+: read ECONNRESET/,
  },
  {
    input: 'the connection cut in the middle of the file',
    want: (at, name) => file(at, name, wasmModule(name), { kind: 'cut', afterBytes: 10 }),
    reason: /GET http:\S+: reading the answer: other side closed/,
  },
  {
    input: 'a content-length longer than the file',
    want: (at, name) =>
      rawFile(
        at,
        name,
        'HTTP/1.1 200 OK\r\ncontent-length: 1000\r\nconnection: close\r\n\r\n',
        wasmModule(name),
      ),
    reason: /reading the answer: Response body length does not match content-length header/,
  },
  {
    input: 'a content-length shorter than the file',
    want: (at, name) => ({
      ...rawFile(
        at,
        name,
        'HTTP/1.1 200 OK\r\ncontent-length: 12\r\nconnection: close\r\n\r\n',
        wasmModule(name),
      ),
      sha256: sha256(wasmModule(name)),
    }),
    reason:
      /has checksum [0-9a-f]{64}, which does not match: [0-9a-f]{64} \(digests that would match: module [0-9a-f]{64}\)/,
  },
  {
    input: 'a content-length that is no number',
    want: (at, name) =>
      rawFile(at, name, 'HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n', wasmModule(name)),
    reason: /Response does not match the HTTP\/1\.1 protocol \(Invalid character in Content-Length\)/,
  },
  {
    input: 'an answer that is no HTTP',
    want: (at, name) => rawFile(at, name, 'SSH-2.0-OpenSSH_9.6\r\n'),
    reason: /Response does not match the HTTP\/1\.1 protocol \(Expected HTTP\/, RTSP\/ or ICE\/\)/,
  },
  {
    input: 'headers without end',
    want: (at, name) => rawFile(at, name, `HTTP/1.1 200 OK\r\nx-padding: ${'x'.repeat(100_000)}\r\n`),
    reason: /GET http:\S+: Headers Overflow Error/,
  },
  {
    input: 'a body that trickles past the deadline of an attempt',
    want: (at, name) =>
      file(at, name, wasmModule(name), {
        kind: 'stall',
        afterBytes: 9,
        until: () => new Promise(() => undefined),
      }),
    reason: /reading the answer: no complete answer within the time limit/,
  },
  {
    input: 'a redirect loop',
    want: (at, name) => file(at, name, '', { kind: 'redirect', location: `/${name}.wasm` }),
    reason: /redirect from http:\S+ refused: stopped after 10 redirects; point the URL at the final place/,
  },
  {
    input: 'a redirect to a link-local address',
    want: (at, name) =>
      file(at, name, '', { kind: 'redirect', location: 'http://169.254.169.254/latest/meta-data' }),
    reason: /connection blocked: resolved IP 169\.254\.169\.254 is link-local/,
  },
  {
    input: 'a redirect to another scheme',
    want: (at, name) => file(at, name, '', { kind: 'redirect', location: 'file:///etc/passwd' }),
    reason: /refused: it leads to the scheme file; only http and https are followed/,
  },
  {
    input: 'a redirect that names no URL',
    want: (at, name) => file(at, name, '', { kind: 'redirect', location: 'http://[' }),
    reason: /refused: its Location is not a URL/,
  },
  {
    input: 'a port where nobody listens',
    want: () => ({ url: 'http://127.0.0.1:1/a.wasm' }),
    reason: /connect ECONNREFUSED 127\.0\.0\.1:1/,
  },
  {
    input: 'https at a port that speaks http',
    want: (at) => ({ url: `${at.liar.url.replace('http:', 'https:')}/a.wasm` }),
    reason: /wrong version number[\s\S]*\(the server may not speak TLS at this port\)/,
  },
  {
    input: 'a module of another sha256 than pinned',
    want: async (at, name) => ({ ...(await file(at, name, wasmModule(name))), sha256: 'a'.repeat(64) }),
    reason: /which does not match: a{64} \(digests that would match: module [0-9a-f]{64}\)/,
  },
  {
    input: 'a sha256 that is none',
    want: async (at, name) => ({ ...(await file(at, name, wasmModule(name))), sha256: 'sha256:ABC' }),
    reason: /the sha256 "sha256:ABC" is not 64 lower-case hex digits without a prefix/,
  },
];

const urlCases: readonly FetchCase<Web>[] = [
  {
    input: 'an http URL without a host',
    want: () => ({ url: 'http://' }),
    reason:
      /fail to parse Wasm module fetch url: http:\/\/, error: it is not an absolute URL; use https:\/\/host\/path/,
  },
  {
    input: 'an http URL with a broken host',
    want: () => ({ url: 'http://[::1/a.wasm' }),
    reason: /fail to parse Wasm module fetch url: http:\/\/\[::1\/a\.wasm, error: it is not an absolute URL/,
  },
  {
    input: 'an http URL with a port that is none',
    want: () => ({ url: 'http://127.0.0.1:99999/a.wasm' }),
    reason:
      /fail to parse Wasm module fetch url: http:\/\/127\.0\.0\.1:99999\/a\.wasm, error: it is not an absolute URL/,
  },
  {
    input: 'a URL with a line break',
    want: () => ({ url: 'http://127.0.0.1/a\nb.wasm' }),
    reason:
      /fail to parse Wasm module fetch url: http:\/\/127\.0\.0\.1\/a\ufffdb\.wasm, error: it holds a control character; remove it/,
  },
  {
    input: 'an OCI reference in capitals',
    want: () => ({ url: 'oci://127.0.0.1:5000/Team/Plugin:v1' }),
    reason: /the repository "Team\/Plugin" is not 1 to 255 lower-case letters, digits/,
  },
  {
    input: 'an OCI reference with a bad digest',
    want: () => ({ url: 'oci://127.0.0.1:5000/team/plugin@sha256:abc' }),
    reason: /the digest is not "sha256:" with 64 lower-case hex digits/,
  },
  {
    input: 'an OCI reference with a bad tag',
    want: () => ({ url: 'oci://127.0.0.1:5000/team/plugin:v 1' }),
    reason: /the tag "v 1" is not 1 to 128 letters, digits, "_", "\." and "-"/,
  },
  {
    input: 'a scheme that is not supported',
    want: () => ({ url: 'ftp://127.0.0.1/a.wasm' }),
    reason: /unsupported Wasm module downloading URL scheme: ftp \(use oci:\/\/, https:\/\/ or http:\/\/\)/,
  },
  {
    input: 'a URL of 300,000 characters',
    want: () => ({ url: `ftp://${'x'.repeat(300_000)}` }),
    reason: /ftp:\/\/x{900,}.* \.\.\. \(\d+ characters\) \.\.\. .*URL scheme: ftp \(use oci:\/\//,
  },
  {
    input: 'a URL with a password that leads nowhere',
    want: () => ({ url: `http://user:${secret}@127.0.0.1:1/a.wasm?token=${secret}` }),
    reason:
      /cannot fetch Wasm module http:\/\/127\.0\.0\.1:1\/a\.wasm: .*connect ECONNREFUSED 127\.0\.0\.1:1/,
  },
];

test('bad input from web servers, and bad URLs', async (t) => {
  const scene = await startFetchScene(t);
  const rawAnswers = new Map<string, RawAnswer>();
  const liar = await startWebServer(({ target }, { socket }) => {
    const { bytes, isEnd } = rawAnswers.get(target) ?? { bytes: Buffer.alloc(0), isEnd: true };
    socket?.write(bytes);
    if (isEnd) socket?.end();
  });
  t.after(() => liar.close());
  const place = { origin: scene.origin, liar, rawAnswers };
  await runFetchCases(t, { scene, place, cases: [...httpCases, ...urlCases] });
});

test('a large file from a server that closes its connection after it is accepted', async (t) => {
  const scene = await Scene.start(t);
  await scene.ready();
  // Just over what the client reads ahead: it stops reading with the last bytes, and then comes the end.
  const content = wasmModule('x'.repeat(100_000));
  const server = await startWebServer((_, { socket }) => {
    socket?.end(Buffer.concat([Buffer.from('HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n'), content]));
  });
  t.after(() => server.close());
  await Promise.race([
    checkAccepted(scene, scene.target(`${server.url}/large.wasm`)),
    scene.agent.exited.then(({ code }) => assert.fail(`the agent ended with ${code}`)),
  ]);
});
