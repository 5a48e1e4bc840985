import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import test, { type TestContext } from 'node:test';
import { frame, type IstiodStream, type RawIstiod, startRawIstiod } from '../../agent/xds/raw-peers.ts';
import { encodeResponse, type Resource } from '../../support/control-plane/discovery-messages.ts';
import { staticCluster } from '../../support/control-plane/gateway-resources.ts';
import { ProtoWriter } from '../../support/control-plane/proto-writer.ts';
import { typeUrls } from '../../support/control-plane/type-urls.ts';
import { checkDropped, checkStop, checkStreamEnd, type ExpectedEnd } from './checks.ts';
import { modes } from './played-envoy.ts';
import { Scene } from './scene.ts';

const url = 'http://127.0.0.1:1/never-asked-for.wasm';
/** The agent's bound for one ECDS response (`agent/xds/response-path.ts`). */
const ecdsBoundBytes = 64 * 1024 * 1024;

/** gRPC framing with any flag and length. */
function header(flag: number, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes[0] = flag;
  bytes.writeUInt32BE(lengthBytes, 1);
  return bytes;
}

/** A protobuf varint. */
function varint(value: number): Buffer {
  const low = value % 128;
  return value < 128
    ? Buffer.of(low)
    : Buffer.concat([Buffer.of(low + 128), varint(Math.floor(value / 128))]);
}

function ecdsResponse(scene: Scene, resources: readonly Resource[] = [scene.target(url)]): Buffer {
  const response = { typeUrl: typeUrls.ecds, version: 'v', nonce: 'n', resources, removed: [] };
  return encodeResponse(scene.mode, response);
}

/** The start of an ECDS response of this length: framing, and the first resource up to its type. */
function largeEcdsResponse(scene: Scene, lengthBytes: number): Buffer {
  const typeUrl = new ProtoWriter().text(1, typeUrls.ecds).finish();
  const any = Buffer.concat([Buffer.of(0x12), varint(lengthBytes - 20), typeUrl]);
  const wrapper = Buffer.concat([Buffer.of(0x12), varint(lengthBytes - 10), any]);
  return Buffer.concat([header(0, lengthBytes), scene.mode === 'delta' ? wrapper : any]);
}

interface MessageCase extends ExpectedEnd {
  readonly input: string;
  readonly message: (scene: Scene) => Buffer;
}

/** Whole gRPC messages whose content is no response: the stream ends, because no nonce is left to answer. */
const messageCases: readonly MessageCase[] = [
  {
    input: 'an ECDS response that is cut inside a config',
    message: (scene) => ecdsResponse(scene).subarray(0, 300),
    code: 13,
    text: /istiod sent a response of 300 bytes that is no discovery response: a field of \d+ bytes runs over the end/,
    logLine:
      /\twarn\txdsproxy\tXDS stream ended\t.*side=istiod code=13 reason=istiod sent a response of 300 bytes/,
  },
  {
    input: 'an ECDS response that is cut at its end',
    message: (scene) => ecdsResponse(scene).subarray(0, -1),
    code: 13,
    text: /ECDS response from istiod does not decode \(\d+ bytes\): field at byte \d+ is longer than the message/,
    logLine:
      /\terror\txdsproxy\tECDS response does not decode\t.*reason=field at byte \d+ is longer than the message/,
  },
  {
    input: 'an ECDS response of 64 KB or more that begins with a resource of another type',
    message: (scene) => {
      const other = { ...scene.target(url), typeUrl: typeUrls.cds, value: Buffer.alloc(64 * 1024) };
      return ecdsResponse(scene, [other, scene.target(url)]);
    },
    code: 13,
    text: /that is named type\S+\.TypedExtensionConfig and begins with a resource of type type\S+\.Cluster/,
  },
  {
    input: 'a wire type that protobuf no longer has',
    message: () => Buffer.of(0x0b, 0x01, 0x02),
    code: 13,
    text: /is no discovery response: wire type 3 of field 1 is not used in discovery messages \(at byte 1\)/,
  },
  {
    input: 'a field that claims 4 GB',
    message: () => Buffer.of(0x12, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x00),
    code: 13,
    text: /is no discovery response: a field of 4294967295 bytes runs over the end of its message/,
  },
  {
    input: 'text in place of protobuf',
    message: () => Buffer.from('<html>502 Bad Gateway</html>'),
    code: 13,
    text: /istiod sent a response of 28 bytes that is no discovery response/,
  },
];

interface WireCase extends ExpectedEnd {
  readonly input: string;
  /** `istiod` is a stream on which a good cluster has gone down already. */
  readonly play: (istiod: IstiodStream, scene: Scene) => void;
}

/** What breaks below the messages. */
const wireCases: readonly WireCase[] = [
  {
    input: 'a gRPC length prefix of 4 GB',
    play: ({ stream }) => stream.write(header(0, 2 ** 32 - 1)),
    code: 8,
    text: /istiod announced a message of 4294967295 bytes, the bound is 2147483647 bytes/,
  },
  {
    input: 'the compressed flag',
    play: ({ stream }, scene) => stream.write(frame(ecdsResponse(scene), 1)),
    code: 13,
    text: /istiod sent a message with compressed flag 1 although no compression was offered/,
  },
  {
    input: 'an ECDS response over the bound',
    play: ({ stream }, scene) => stream.write(largeEcdsResponse(scene, ecdsBoundBytes + 1)),
    code: 8,
    text: /a response of 67108865 bytes for type\.googleapis\.com\/envoy\.config\.core\.v3\.TypedExtensionConfig, the bound for this type is 67108864 bytes/,
  },
  {
    input: 'the connection cut in the middle of an ECDS response',
    play: ({ stream, session }, scene) => {
      stream.write(frame(ecdsResponse(scene)).subarray(0, 200), () => session.socket.destroy());
    },
    code: 14,
    text: /^error reading from server: EOF/,
    logLine: 'none',
  },
  {
    input: 'the stream reset in the middle of an ECDS response',
    play: ({ stream }, scene) => {
      stream.write(frame(ecdsResponse(scene)).subarray(0, 200), () => stream.close(2));
    },
    code: 13,
    text: /stream terminated by RST_STREAM with error code: INTERNAL_ERROR/,
  },
  {
    input: 'status OK in the middle of an ECDS response',
    play: (istiod, scene) => {
      istiod.stream.write(frame(ecdsResponse(scene)).subarray(0, 200));
      istiod.end({ 'grpc-status': '0' });
    },
    code: 13,
    text: /istiod ended the stream with OK in the middle of a message/,
  },
  {
    input: 'trailers without a status',
    play: (istiod) => istiod.end({ 'x-other': '1' }),
    code: 13,
    text: /istiod ended the stream with trailers that hold no grpc-status/,
  },
  {
    input: 'a status that is no number',
    play: (istiod) => istiod.end({ 'grpc-status': 'fine', 'grpc-message': 'really' }),
    code: 2,
    text: /istiod sent a malformed grpc-status; its message: really/,
  },
];

interface AnswerCase extends ExpectedEnd {
  readonly input: string;
  readonly headers: Readonly<Record<string, string | number>>;
}

/** What istiod, or something in its place, answers instead of a stream. */
const answerCases: readonly AnswerCase[] = [
  {
    input: 'a trailers-only error',
    headers: {
      ':status': 200,
      'content-type': 'application/grpc',
      'grpc-status': '16',
      'grpc-message': 'authentication failure: token expired',
    },
    code: 16,
    text: /authentication failure: token expired$/,
  },
  {
    input: 'HTTP 503 with an HTML page',
    headers: { ':status': 503, 'content-type': 'text/html' },
    code: 14,
    text: /unexpected HTTP status 503 from istiod \(content-type "text\/html"\): is the address that of istiod's gRPC port\?/,
  },
  {
    input: 'HTTP 200 with an HTML page',
    headers: { ':status': 200, 'content-type': 'text/html' },
    code: 2,
    text: /istiod answered with content-type "text\/html" instead of application\/grpc/,
  },
];

/** Envoy's next stream, to this raw istiod. */
async function meet(scene: Scene, istiod: RawIstiod): Promise<IstiodStream> {
  scene.switchboard.lead(istiod.address);
  scene.envoy.connect();
  const stream = await istiod.streams.next();
  for (const _ of [typeUrls.cds, typeUrls.lds, typeUrls.ecds]) await stream.requests.next();
  return stream;
}

/** A good response of another type, seen by Envoy, before anything goes wrong. */
async function sendCluster(scene: Scene, istiod: IstiodStream): Promise<void> {
  const cluster = staticCluster('outbound|80||before.default.svc.cluster.local', { port: 80 });
  const response = { typeUrl: typeUrls.cds, version: 'v', nonce: 'n', resources: [cluster], removed: [] };
  istiod.send(encodeResponse(scene.mode, response));
  await scene.envoy.until('the cluster', () => scene.envoy.held(typeUrls.cds, cluster.name) !== undefined);
}

/** A server on loopback that ends with the test. */
async function startHttp1(t: TestContext): Promise<string> {
  const server = createServer((_, response) => response.end('hello'));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

for (const mode of modes) {
  test(`bad streams from istiod over ${mode}`, async (t) => {
    const scene = await Scene.start(t, { mode });
    const rawIstiod = await startRawIstiod(t);

    for (const { input, message, ...expected } of messageCases) {
      await t.test(input, async () => {
        await scene.disturb();
        const stream = scene.controlPlane.openStreams.at(-1);
        await checkStreamEnd(scene, () => stream?.sendBytes(message(scene)), expected);
      });
    }

    for (const { input, play, ...expected } of wireCases) {
      await t.test(input, async () => {
        await scene.disturb();
        const istiod = await meet(scene, rawIstiod);
        await sendCluster(scene, istiod);
        await checkStreamEnd(scene, () => play(istiod, scene), expected);
      });
    }

    for (const { input, headers, ...expected } of answerCases) {
      await t.test(input, async () => {
        await scene.disturb();
        const { stream } = await meet(scene, rawIstiod);
        await checkStreamEnd(scene, () => stream.respond(headers, { endStream: true }), expected);
      });
    }

    await t.test('a server that speaks HTTP/1.1', async () => {
      await scene.disturb();
      scene.switchboard.lead(await startHttp1(t));
      scene.envoy.connect();
      await checkStreamEnd(scene, () => undefined, {
        code: 14,
        text: /istiod at 127\.0\.0\.1:\d+ closed the connection before any HTTP\/2 settings: error reading server preface: /,
      });
    });

    await t.test('a response without a type is dropped, the stream goes on', async () => {
      await scene.ready();
      await checkDropped(scene, (stream) => stream.sendBytes(Buffer.alloc(0)), {
        logLine:
          /\terror\txdsproxy\tSkipping forwarding of a response to Envoy as its type is not a valid Envoy type\ttypeUrl= sizeBytes=0/,
      });
    });

    await t.test('a response of a type that is not for Envoy is dropped, the stream goes on', async () => {
      await scene.ready();
      const typeUrl = 'type.googleapis.com/example.Strange';
      const resources = [{ name: 'a', typeUrl, value: Buffer.from('a') }];
      await checkDropped(scene, (stream) => void stream.pushRaw({ typeUrl, resources }), {
        logLine:
          /\terror\txdsproxy\tSkipping forwarding of a response to Envoy .*\ttypeUrl=type\.googleapis\.com\/example\.Strange sizeBytes=\d+/,
      });
    });

    await t.test('extension configs in a response of another type are not shown to Envoy', async () => {
      await scene.ready();
      const reason = `the response is of type "${typeUrls.cds}", but its resources are of type ${typeUrls.ecds}`;
      await checkDropped(
        scene,
        (stream) => void stream.pushRaw({ typeUrl: typeUrls.cds, resources: [scene.target(url)] }),
        { logLine: /\terror\txdsproxy\tresponse from istiod is dropped\t.*but its resources are of type/ },
      );
      const nack = scene.controlPlane.journal.entries.findLast(
        (entry) => entry.kind === 'request' && entry.request.error !== undefined,
      );
      assert.ok(nack?.kind === 'request');
      assert.equal(nack.request.typeUrl, typeUrls.cds);
      assert.equal(nack.request.error?.message, reason);
    });

    await t.test('the agent still ends when it is told to', async () => checkStop(scene));
  });
}
