/** Clients of the XDS socket that keep to the letter of HTTP/2, or not even that, to hurt the agent. */
import assert from 'node:assert/strict';
import test, { describe, type TestContext } from 'node:test';
import { peakRssMib, resetPeakRss } from '../../bench/process-usage.ts';
import { type Http2Abuser, openAbuser } from '../../support/http2-abuser.ts';
import {
  callHeaders,
  clientPreface,
  continuationFrame,
  dataFrame,
  frameFlags,
  frameTypes,
  headerBlock,
  headersFrame,
  http2Frame,
  indexedBomb,
  indexedCallHeaders,
  pingFrame,
  priorityFrame,
  repeatedCallHeaders,
  rstStreamFrame,
  settingIds,
  settingsFrame,
  windowUpdateFrame,
} from '../../support/http2-frames.ts';
import { forkRelay } from './forked-relay.ts';
import { clusterType, deltaRequest, deltaResponse } from './messages.ts';
import {
  deltaPath,
  frame,
  type IstiodStream,
  openRawEnvoy,
  type RawEnvoy,
  startRawIstiod,
} from './raw-peers.ts';

/** What one connection may cost at the most while it floods: windows, a thousand streams, and garbage not yet taken. */
const maxGrowthMib = 64;
const otherPath = '/not.ads/Method';

interface Scene {
  /** A well-behaved Envoy with a stream, on a connection of its own. */
  readonly envoy: RawEnvoy;
  readonly upstream: IstiodStream;
  readonly abuser: Http2Abuser;
  readonly pid: number;
  /** One exchange of the good connection. */
  readonly roundTrip: () => Promise<void>;
  /** The streams that istiod has seen since the good one. */
  readonly nextUpstream: () => Promise<IstiodStream>;
  readonly socketPath: string;
}

async function startScene(t: TestContext, options: { readonly isReading?: boolean } = {}): Promise<Scene> {
  const istiod = await startRawIstiod(t);
  const relay = await forkRelay(t, { discoveryAddress: istiod.address, maxConcurrentStreams: 100_000 });
  const envoy = openRawEnvoy(t, relay.config.socketPath);
  envoy.send(deltaRequest(clusterType));
  const upstream = await istiod.streams.next();
  await upstream.requests.next();
  upstream.send(deltaResponse(clusterType, 1_000_000));
  await envoy.responses.next();
  const abuser = await openAbuser(relay.config.socketPath, options);
  t.after(() => abuser.close());
  resetPeakRss(relay.pid);
  return {
    envoy,
    upstream,
    abuser,
    pid: relay.pid,
    roundTrip: () =>
      new Promise((resolve, reject) => {
        envoy.session.ping((error) => (error === null ? resolve() : reject(error)));
      }),
    nextUpstream: () => istiod.streams.next(),
    socketPath: relay.config.socketPath,
  };
}

/** The good stream still carries both directions, on the same connections as before. */
async function assertUnharmed(scene: Scene): Promise<void> {
  const request = deltaRequest(clusterType, { response_nonce: 'n' });
  scene.envoy.send(request);
  assert.deepEqual(await scene.upstream.requests.next(), request);
  const response = deltaResponse(clusterType, 300_000, 'later');
  scene.upstream.send(response);
  assert.deepEqual(await scene.envoy.responses.next(), response);
}

/** A stream that is opened now works, whatever became of the one before. */
async function assertServes(t: TestContext, scene: Scene): Promise<void> {
  const envoy = openRawEnvoy(t, scene.socketPath);
  const request = deltaRequest(clusterType, { node: { id: 'after the flood' } });
  envoy.send(request);
  for (;;) {
    const upstream = await scene.nextUpstream();
    const first = await Promise.race([upstream.requests.next(), upstream.closed]);
    if (!Buffer.isBuffer(first) || !first.equals(request)) continue;
    upstream.send(deltaResponse(clusterType));
    assert.deepEqual(await envoy.responses.next(), deltaResponse(clusterType));
    return;
  }
}

async function growthMib(scene: Scene, attack: () => Promise<void>): Promise<number> {
  const before = peakRssMib(scene.pid);
  await attack();
  return peakRssMib(scene.pid) - before;
}

function* repeat(count: number, make: (index: number) => Uint8Array): Generator<Uint8Array> {
  for (let index = 0; index < count; index += 1) yield make(index);
}

const hello = Buffer.concat([clientPreface, settingsFrame()]);
/** Client streams have odd numbers. */
const streamId = (index: number): number => 1 + 2 * index;

interface Flood {
  readonly name: string;
  readonly frames: () => Iterable<Uint8Array>;
  /** The client takes no byte from its socket. */
  readonly isDeaf?: boolean;
  /** What has to become of the connection; undefined: either. */
  readonly outcome?: 'cut';
}

const floods: readonly Flood[] = [
  {
    name: 'a rapid reset of 200,000 streams',
    frames: () =>
      repeat(200_000, (index) =>
        Buffer.concat([
          headersFrame(streamId(index), callHeaders(otherPath)),
          rstStreamFrame(streamId(index)),
        ]),
      ),
    outcome: 'cut',
  },
  { name: '300,000 PINGs', frames: () => repeat(300_000, (index) => pingFrame(index)) },
  {
    name: '300,000 PINGs whose answers are not read',
    frames: () => repeat(300_000, (index) => pingFrame(index)),
    isDeaf: true,
  },
  {
    name: '300,000 SETTINGS',
    frames: () =>
      repeat(300_000, (index) => settingsFrame([settingIds.initialWindowSize, 65_535 + (index % 2)])),
  },
  {
    name: '300,000 SETTINGS whose answers are not read',
    frames: () =>
      repeat(300_000, (index) => settingsFrame([settingIds.initialWindowSize, 65_535 + (index % 2)])),
    isDeaf: true,
  },
  {
    name: 'a SETTINGS frame of 2,700 entries',
    frames: () => [
      settingsFrame(...Array.from({ length: 2_700 }, () => [settingIds.initialWindowSize, 65_535] as const)),
    ],
    outcome: 'cut',
  },
  {
    name: 'a header block of endless CONTINUATION frames',
    frames: function* () {
      yield headersFrame(1, callHeaders(otherPath), 0);
      yield* repeat(4_000, (index) => continuationFrame(1, headerBlock([`x-${index}`, 'v'.repeat(8_000)])));
    },
    outcome: 'cut',
  },
  {
    name: 'CONTINUATION frames without bytes',
    frames: function* () {
      yield headersFrame(1, callHeaders(otherPath), 0);
      yield* repeat(300_000, () => continuationFrame(1, Buffer.alloc(0)));
    },
    outcome: 'cut',
  },
  {
    name: 'header blocks of 12 KB that unfold to 45 MB each',
    frames: () =>
      repeat(200, (index) =>
        headersFrame(
          streamId(index),
          Buffer.concat([callHeaders(otherPath), indexedBomb('x-bomb', 'b'.repeat(3_900), 12_000)]),
        ),
      ),
  },
  {
    name: 'header tables grown to the largest size',
    frames: function* () {
      yield settingsFrame([settingIds.headerTableSize, 0xffff_ffff]);
      yield* repeat(5_000, (index) =>
        headersFrame(
          streamId(index),
          Buffer.concat([callHeaders(otherPath), indexedBomb('x-big', String(index).padStart(3_000), 1)]),
          frameFlags.endHeaders | frameFlags.endStream,
        ),
      );
    },
  },
  {
    name: '300,000 DATA frames without bytes',
    frames: function* () {
      yield headersFrame(1, callHeaders(otherPath));
      yield* repeat(300_000, () => dataFrame(1, Buffer.alloc(0)));
    },
  },
  {
    name: '300,000 PRIORITY frames',
    frames: () => repeat(300_000, (index) => priorityFrame(streamId(index), streamId(index + 7))),
  },
  {
    name: '300,000 window increments of one byte',
    frames: () => repeat(300_000, () => windowUpdateFrame(0, 1)),
  },
  {
    name: 'a window that overflows',
    frames: () => [windowUpdateFrame(0, 0x7fff_ffff), windowUpdateFrame(0, 0x7fff_ffff)],
    outcome: 'cut',
  },
  {
    name: 'a window increment of nothing',
    frames: () => [windowUpdateFrame(0, 0)],
    outcome: 'cut',
  },
  {
    name: 'frames of unknown types',
    frames: () =>
      repeat(300_000, (index) => http2Frame({ type: 0xf0 + (index % 8), payload: Buffer.alloc(32) })),
  },
  {
    name: 'a frame larger than was agreed',
    frames: () => [
      http2Frame({ type: frameTypes.data, streamId: 1, payload: Buffer.alloc(10), lengthBytes: 0xff_ffff }),
    ],
    outcome: 'cut',
  },
  {
    name: '50,000 calls of an unknown method whose answers are not read',
    frames: () => repeat(50_000, (index) => headersFrame(streamId(index), callHeaders(otherPath))),
    isDeaf: true,
  },
  {
    // Eleven bytes a stream: 200,000 of them fit into what is read from a socket at once.
    name: '200,000 ended calls in the fewest bytes',
    frames: function* () {
      yield headersFrame(1, indexedCallHeaders(otherPath));
      yield* repeat(200_000, (index) =>
        headersFrame(streamId(index + 1), repeatedCallHeaders, frameFlags.endHeaders | frameFlags.endStream),
      );
    },
    outcome: 'cut',
  },
  {
    name: '20,000 requests with the wrong verb, left half-open',
    frames: () =>
      repeat(20_000, (index) =>
        headersFrame(
          streamId(index),
          headerBlock([':method', 'PUT'], [':scheme', 'http'], [':authority', 'x'], [':path', deltaPath]),
        ),
      ),
  },
];

describe('a client of the XDS socket that floods', () => {
  for (const flood of floods) {
    test(`${flood.name}: memory stays bounded and Envoy's stream is unharmed`, async (t) => {
      const scene = await startScene(t, { isReading: flood.isDeaf !== true });
      const grown = await growthMib(scene, async () => {
        scene.abuser.send(hello);
        const poured = await scene.abuser.pour(flood.frames(), scene.roundTrip);
        const end = poured === 'taken' && flood.isDeaf !== true ? await scene.abuser.settled() : poured;
        if (flood.outcome !== undefined) assert.equal(end, flood.outcome);
        await assertUnharmed(scene);
      });
      t.diagnostic(`RSS grew by ${grown.toFixed(1)} MiB`);
      assert.ok(grown < maxGrowthMib, `RSS grew by ${grown.toFixed(1)} MiB`);
    });
  }
});

test('ADS streams opened and reset 50,000 times: the agent lives and the next stream is served', async (t) => {
  const scene = await startScene(t);
  const grown = await growthMib(scene, async () => {
    scene.abuser.send(hello);
    await scene.abuser.pour(
      repeat(50_000, (index) =>
        Buffer.concat([
          headersFrame(streamId(index), callHeaders(deltaPath)),
          rstStreamFrame(streamId(index)),
        ]),
      ),
      scene.roundTrip,
    );
    await assertServes(t, scene);
  });
  assert.ok(grown < maxGrowthMib, `RSS grew by ${grown.toFixed(1)} MiB`);
});

test('ten thousand ADS streams left open on one connection: only the last counts, and the next stream is served', async (t) => {
  const scene = await startScene(t);
  const grown = await growthMib(scene, async () => {
    scene.abuser.send(hello);
    await scene.abuser.pour(
      repeat(10_000, (index) => headersFrame(streamId(index), callHeaders(deltaPath))),
      scene.roundTrip,
    );
    await scene.abuser.settled();
    await assertServes(t, scene);
  });
  assert.ok(grown < maxGrowthMib, `RSS grew by ${grown.toFixed(1)} MiB`);
});

test('a client that grants no window holds back its own stream only', async (t) => {
  const scene = await startScene(t);
  const { abuser } = scene;
  abuser.send(
    Buffer.concat([clientPreface, settingsFrame([settingIds.initialWindowSize, 0])]),
    headersFrame(1, callHeaders(deltaPath)),
    dataFrame(1, frame(deltaRequest(clusterType))),
  );
  const upstream = await scene.nextUpstream();
  await upstream.requests.next();
  const grown = await growthMib(scene, async () => {
    const push = frame(deltaResponse(clusterType, 50_000_000));
    upstream.send();
    let acceptedBytes = 0;
    for (let at = 0; at < push.length; at += 65_536) {
      upstream.stream.write(push.subarray(at, at + 65_536), () => {
        acceptedBytes = at;
      });
    }
    for (let index = 0; index < 300; index += 1) await scene.roundTrip();
    assert.ok(acceptedBytes < 8_000_000, `istiod could send ${acceptedBytes} bytes`);
    // Byte by byte: each increment is one DATA frame of one byte, and no more than that.
    const before = abuser.receivedCounts.get(frameTypes.data) ?? 0;
    await abuser.pour(
      repeat(2_000, () => windowUpdateFrame(1, 1)),
      scene.roundTrip,
    );
    await abuser.settled();
    assert.ok((abuser.receivedCounts.get(frameTypes.data) ?? 0) - before <= 2_000);
    await assertServes(t, scene);
  });
  assert.ok(grown < maxGrowthMib, `RSS grew by ${grown.toFixed(1)} MiB`);
});

test('connections that stay silent, half a preface or half a frame cost little, and Envoy is served', async (t) => {
  const scene = await startScene(t);
  const grown = await growthMib(scene, async () => {
    const starts: readonly Buffer[] = [
      Buffer.alloc(0),
      clientPreface.subarray(0, 10),
      Buffer.concat([hello, headersFrame(1, callHeaders(deltaPath)).subarray(0, 20)]),
    ];
    for (let index = 0; index < 300; index += 1) {
      const abuser = await openAbuser(scene.socketPath);
      t.after(() => abuser.close());
      abuser.send(starts[index % starts.length] ?? Buffer.alloc(0));
    }
    await assertUnharmed(scene);
  });
  assert.ok(grown < maxGrowthMib, `RSS grew by ${grown.toFixed(1)} MiB`);
});

test('a connection that never finishes its preface is ended by the keepalive', async (t) => {
  const istiod = await startRawIstiod(t);
  const relay = await forkRelay(t, {
    discoveryAddress: istiod.address,
    keepaliveIntervalMs: 100,
    keepaliveTimeoutMs: 100,
  });
  for (const start of [Buffer.alloc(0), clientPreface.subarray(0, 10), clientPreface]) {
    const abuser = await openAbuser(relay.config.socketPath);
    t.after(() => abuser.close());
    abuser.send(start);
    await abuser.closed;
  }
});

test('a request whose bytes trickle in is put together, however small its DATA frames are', async (t) => {
  const scene = await startScene(t);
  const request = deltaRequest(clusterType, { node: { id: 'n'.repeat(5_000) } });
  scene.abuser.send(hello, headersFrame(1, callHeaders(deltaPath)));
  const upstream = await scene.nextUpstream();
  const bytes = frame(request);
  const poured = await scene.abuser.pour(
    repeat(bytes.length, (index) => dataFrame(1, bytes.subarray(index, index + 1))),
    scene.roundTrip,
  );
  assert.equal(poured, 'taken');
  assert.deepEqual(await upstream.requests.next(), request);
});
