/** A control plane that keeps to the letter of HTTP/2, or not even that, to hurt the agent. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { describe, type TestContext } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import type { XdsConfig } from '../../../agent/config/agent-config.ts';
import { peakRssMib, resetPeakRss } from '../../bench/process-usage.ts';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { type AbusingServer, type Http2Abuser, startAbusingServer } from '../../support/http2-abuser.ts';
import {
  answerHeaders,
  continuationFrame,
  dataFrame,
  errorCodes,
  frameFlags,
  frameTypes,
  goawayFrame,
  headerBlock,
  headersFrame,
  http2Frame,
  indexedBomb,
  originFrame,
  pingFrame,
  pushPromiseFrame,
  rstStreamFrame,
  settingIds,
  settingsAckFrame,
  settingsFrame,
  windowUpdateFrame,
} from '../../support/http2-frames.ts';
import { temporaryFolder } from '../../support/test-end.ts';
import { type ForkedRelay, forkRelay } from './forked-relay.ts';
import { clusterType, deltaRequest, deltaResponse } from './messages.ts';
import { frame, openRawEnvoy, type RawEnvoy } from './raw-peers.ts';

/** What one connection may cost at the most while it floods: windows, Node's buffers, and garbage not yet taken. */
const maxGrowthMib = 64;
/** The one stream of each connection of the agent. */
const streamId = 1;

interface Scene {
  readonly server: AbusingServer;
  readonly relay: ForkedRelay;
  readonly envoy: RawEnvoy;
  /** istiod's end of that Envoy's stream, with the agent's request in. */
  readonly abuser: Http2Abuser;
  readonly roundTrip: () => Promise<void>;
}

async function startScene(
  t: TestContext,
  options: { readonly changes?: Partial<XdsConfig>; readonly server?: AbusingServer } = {},
): Promise<Scene> {
  const server = options.server ?? (await startAbusingServer());
  t.after(() => server.close());
  const relay = await forkRelay(
    t,
    { discoveryAddress: server.address, ...options.changes },
    { isSilent: true },
  );
  const envoy = openRawEnvoy(t, relay.config.socketPath);
  envoy.send(deltaRequest(clusterType));
  const abuser = await server.accept();
  assert.ok(await abuser.received(frameTypes.headers));
  abuser.send(settingsFrame([settingIds.initialWindowSize, 1_000_000]), settingsAckFrame);
  assert.ok(await abuser.received(frameTypes.data));
  // A second connection of the same client: what it asks of the process is answered by the same thread.
  const pulse = openRawEnvoy(t, relay.config.socketPath, { headers: { ':path': '/pulse' } });
  await pulse.ended;
  resetPeakRss(relay.pid);
  return {
    server,
    relay,
    envoy,
    abuser,
    roundTrip: () =>
      new Promise((resolve, reject) => {
        pulse.session.ping((error) => (error === null ? resolve() : reject(error)));
      }),
  };
}

/** A new stream of Envoy gets an answer, over a new connection. */
async function assertServes(t: TestContext, scene: Scene): Promise<void> {
  const envoy = openRawEnvoy(t, scene.relay.config.socketPath);
  envoy.send(deltaRequest(clusterType));
  const istiod = await scene.server.accept();
  istiod.send(settingsFrame(), settingsAckFrame);
  assert.ok(await istiod.received(frameTypes.data));
  const response = deltaResponse(clusterType, 9_000, 'after the flood');
  istiod.send(headersFrame(streamId, answerHeaders), dataFrame(streamId, frame(response)));
  assert.deepEqual(await envoy.responses.next(), response);
  assert.ok(scene.relay.isRunning());
}

function* repeat(count: number, make: (index: number) => Uint8Array): Generator<Uint8Array> {
  for (let index = 0; index < count; index += 1) yield make(index);
}

function* answered(frames: Iterable<Uint8Array>): Generator<Uint8Array> {
  yield headersFrame(streamId, answerHeaders);
  yield* frames;
}

interface Flood {
  readonly name: string;
  readonly frames: () => Iterable<Uint8Array>;
  /** Envoy's stream has to end with a failure; else it may live on. */
  readonly endsStream?: true;
}

const floods: readonly Flood[] = [
  { name: '300,000 PINGs', frames: () => repeat(300_000, (index) => pingFrame(index)) },
  {
    name: '300,000 SETTINGS',
    frames: () =>
      repeat(300_000, (index) => settingsFrame([settingIds.initialWindowSize, 65_535 + (index % 2)])),
  },
  {
    name: 'answers to 300,000 PINGs that were never sent',
    frames: () => repeat(300_000, (index) => pingFrame(index, frameFlags.ack)),
  },
  {
    name: 'a response header block of endless CONTINUATION frames',
    frames: function* () {
      yield headersFrame(streamId, answerHeaders, 0);
      yield* repeat(4_000, (index) =>
        continuationFrame(streamId, headerBlock([`x-${index}`, 'v'.repeat(8_000)])),
      );
    },
    endsStream: true,
  },
  {
    name: 'response headers of 12 KB that unfold to 45 MB',
    frames: () => [
      headersFrame(
        streamId,
        Buffer.concat([answerHeaders, indexedBomb('x-bomb', 'b'.repeat(3_900), 12_000)]),
      ),
    ],
    endsStream: true,
  },
  {
    name: '100,000 informational answers',
    frames: () =>
      repeat(100_000, () => headersFrame(streamId, headerBlock([':status', '103'], ['link', '<a>']))),
  },
  {
    name: 'response headers again and again',
    frames: () => repeat(10_000, () => headersFrame(streamId, answerHeaders)),
    endsStream: true,
  },
  {
    name: 'pushes of streams that were switched off',
    frames: () =>
      repeat(10_000, (index) =>
        pushPromiseFrame(
          streamId,
          2 + 2 * index,
          headerBlock([':method', 'GET'], [':scheme', 'http'], [':authority', 'x'], [':path', '/']),
        ),
      ),
    endsStream: true,
  },
  {
    name: '300,000 DATA frames without bytes',
    frames: () => answered(repeat(300_000, () => dataFrame(streamId, Buffer.alloc(0)))),
  },
  {
    name: 'DATA frames that are all padding',
    frames: () =>
      answered(
        repeat(100_000, () =>
          http2Frame({
            type: frameTypes.data,
            flags: frameFlags.padded,
            streamId,
            payload: Buffer.concat([Buffer.from([255]), Buffer.alloc(255)]),
          }),
        ),
      ),
  },
  {
    name: 'a message that runs over every window',
    frames: () =>
      answered([
        dataFrame(streamId, frame(deltaResponse(clusterType, 10_000_000)).subarray(0, 16_000)),
        ...repeat(12_000, () => dataFrame(streamId, Buffer.alloc(16_000, 'x'))),
      ]),
    endsStream: true,
  },
  {
    name: '500,000 gRPC messages of no bytes',
    frames: () =>
      answered(
        repeat(500, () => dataFrame(streamId, Buffer.concat(Array(1_000).fill(frame(Buffer.alloc(0)))))),
      ),
  },
  {
    name: 'GOAWAY again and again with 16 KB of text',
    frames: () =>
      repeat(5_000, () => goawayFrame(streamId, errorCodes.noError, Buffer.alloc(16_000, 'bye '))),
  },
  {
    name: 'a window increment of nothing',
    frames: () => [windowUpdateFrame(0, 0)],
    endsStream: true,
  },
  {
    name: 'a window that overflows',
    frames: () => [windowUpdateFrame(0, 0x7fff_ffff), windowUpdateFrame(0, 0x7fff_ffff)],
    endsStream: true,
  },
  {
    name: 'alternative services without end',
    frames: () =>
      repeat(50_000, (index) =>
        http2Frame({
          type: frameTypes.altsvc,
          payload: Buffer.concat([
            Buffer.from([0, 8]),
            Buffer.from('http://x'),
            Buffer.from(`h2=":${index}"`),
          ]),
        }),
      ),
  },
  {
    name: 'resets of streams that never were',
    frames: () => repeat(100_000, (index) => rstStreamFrame(3 + 2 * index)),
    endsStream: true,
  },
];

describe('an istiod that floods', () => {
  for (const flood of floods) {
    test(`${flood.name}: memory stays bounded, and Envoy's next stream is served`, async (t) => {
      const scene = await startScene(t);
      const before = peakRssMib(scene.relay.pid);
      const poured = await scene.abuser.pour(flood.frames(), scene.roundTrip);
      if (poured === 'taken') await scene.abuser.settled();
      if (flood.endsStream === true) {
        const { grpcStatus } = await scene.envoy.ended;
        assert.ok(grpcStatus !== undefined && grpcStatus > 0, `status ${grpcStatus}`);
      }
      await assertServes(t, scene);
      const grown = peakRssMib(scene.relay.pid) - before;
      t.diagnostic(`RSS grew by ${grown.toFixed(1)} MiB`);
      assert.ok(grown < maxGrowthMib, `RSS grew by ${grown.toFixed(1)} MiB`);
    });
  }
});

test('origins without end, over TLS: memory stays bounded, and the next stream is served', async (t) => {
  const authority = Authority.createRoot();
  const { certificate, key } = authority.issue(['127.0.0.1']);
  const rootPath = join(await temporaryFolder(t), 'root.pem');
  await writeFile(rootPath, authority.certificate);
  const server = await startAbusingServer((onConnection) =>
    createTlsServer({ key, cert: certificate, ALPNProtocols: ['h2'] }).on('secureConnection', onConnection),
  );
  const scene = await startScene(t, {
    server,
    changes: {
      tls: {
        serverName: '127.0.0.1',
        root: { kind: 'file', path: rootPath },
        clientCertificate: undefined,
        compliance: undefined,
      },
    },
  });
  const before = peakRssMib(scene.relay.pid);
  const poured = await scene.abuser.pour(
    repeat(6_000, (index) =>
      originFrame(
        Array.from({ length: 100 }, (_, each) => `https://${'x'.repeat(100)}-${index}-${each}.example`),
      ),
    ),
    scene.roundTrip,
  );
  if (poured === 'taken') await scene.abuser.settled();
  await assertServes(t, scene);
  const grown = peakRssMib(scene.relay.pid) - before;
  assert.ok(grown < maxGrowthMib, `RSS grew by ${grown.toFixed(1)} MiB`);
});

test('an istiod that grants a byte at a time gets each request whole, and Envoy is held back meanwhile', async (t) => {
  const server = await startAbusingServer();
  t.after(() => server.close());
  const relay = await forkRelay(t, { discoveryAddress: server.address });
  const envoy = openRawEnvoy(t, relay.config.socketPath);
  const istiod = await server.accept();
  istiod.send(settingsFrame([settingIds.initialWindowSize, 0]), settingsAckFrame);
  assert.equal(await istiod.settled(), 'alive');
  const request = frame(deltaRequest(clusterType, { node: { id: 'n'.repeat(300) } }));
  envoy.stream.write(request);
  const received: Buffer[] = [];
  for (let index = 0; index < request.length; index += 1) {
    const next = istiod.next(({ type }) => type === frameTypes.data);
    istiod.send(windowUpdateFrame(streamId, 1));
    const data = await next;
    assert.equal(data?.payload.length, 1);
    received.push(data.payload);
  }
  assert.deepEqual(Buffer.concat(received), request);
});

test('an istiod that stops in the middle of a frame is found dead, and the stream ends with a reason', async (t) => {
  const scene = await startScene(t, { changes: { keepaliveIntervalMs: 100, keepaliveTimeoutMs: 100 } });
  const whole = dataFrame(streamId, frame(deltaResponse(clusterType)));
  scene.abuser.send(headersFrame(streamId, answerHeaders), whole.subarray(0, whole.length - 4));
  const { grpcStatus, grpcMessage } = await scene.envoy.ended;
  assert.equal(grpcStatus, 14);
  assert.match(grpcMessage ?? '', /keepalive|PING/i);
});
