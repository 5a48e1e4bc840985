/** The relay as a process, fed with mutated messages over real sockets: what comes out is compared with a model. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { findRequestType, MessageTypeScanner } from '../../../agent/xds/message-type.ts';
import { isForwardedToEnvoy } from '../../../agent/xds/type-urls.ts';
import { type ForkedRelay, forkRelay } from '../../agent/xds/forked-relay.ts';
import {
  deltaPath,
  frame,
  openRawEnvoy,
  type RawIstiod,
  sotwPath,
  startRawIstiod,
} from '../../agent/xds/raw-peers.ts';
import { SeededRandom } from '../../support/seeded-random.ts';
import { chunked, mutate } from './mutation.ts';
import { wireCorpus } from './wire-corpus.ts';

const timeMs = 20_000;
/** What one process may take in addition, whatever it was sent: the heap finds its size, and no more. */
const maxGrowthBytes = 64 * 1024 * 1024;
type Kind = 'sotw' | 'delta';

interface Exchange {
  /** What istiod sends, and what Envoy must get of it. */
  readonly responses: readonly Buffer[];
  readonly passed: readonly Buffer[];
  /** True when the last response cannot be read, and ends the stream. */
  readonly isBroken: boolean;
}

/** Responses up to the first that is no message. The scanner is held against a reader of its own in another target. */
function planExchange(random: SeededRandom, kind: Kind): Exchange {
  const responses: Buffer[] = [];
  const passed: Buffer[] = [];
  for (let count = random.integer(1, 6); count > 0; count -= 1) {
    const message = mutate(random, wireCorpus().responses[kind]);
    responses.push(message);
    const scanner = new MessageTypeScanner('response', kind, message.length);
    if (message.length > 0) scanner.push(message);
    const type = scanner.finish();
    if (type.state === 'malformed') return { responses, passed, isBroken: true };
    if (type.state === 'known' && isForwardedToEnvoy(type.typeUrl)) passed.push(message);
  }
  return { responses, passed, isBroken: false };
}

async function runExchange(
  t: TestContext,
  parts: { readonly relay: ForkedRelay; readonly istiod: RawIstiod },
  random: SeededRandom,
): Promise<void> {
  const kind = random.pick(['sotw', 'delta'] as const);
  const envoy = openRawEnvoy(t, parts.relay.config.socketPath, {
    headers: { ':path': kind === 'sotw' ? sotwPath : deltaPath },
  });
  try {
    const request = random.pick(wireCorpus().requests[kind]);
    envoy.send(request);
    const upstream = await parts.istiod.streams.next();
    assert.deepEqual(await upstream.requests.next(), request);
    const exchange = planExchange(random, kind);
    upstream.send();
    const bytes = Buffer.concat(exchange.responses.map((message) => frame(message)));
    for (const chunk of chunked(bytes, random)) if (chunk.length > 0) upstream.stream.write(chunk);
    if (!exchange.isBroken) upstream.end({ 'grpc-status': '0' });
    const end = await envoy.ended;
    for (const message of exchange.passed) assert.deepEqual(await envoy.responses.next(), message);
    assert.equal(envoy.responses.pendingCount, 0);
    assert.equal(end.grpcStatus, exchange.isBroken ? 13 : 0, end.grpcMessage);
    await upstream.closed;

    // The other direction, to another stream: a request that cannot be read ends it, any other is passed as it is.
    const back = openRawEnvoy(t, parts.relay.config.socketPath, {
      headers: { ':path': kind === 'sotw' ? sotwPath : deltaPath },
    });
    const next = await parts.istiod.streams.next();
    const changed = mutate(random, wireCorpus().requests[kind]);
    back.stream.write(frame(changed));
    if (findRequestType(changed, kind).state === 'malformed') assert.equal((await back.ended).grpcStatus, 13);
    else assert.deepEqual(await next.requests.next(), changed);
    back.session.destroy();
    await next.closed;
  } finally {
    envoy.session.destroy();
  }
}

test('the relay passes mutated messages as they are, refuses what is none, and stays as small as it was', async (t) => {
  const seed = Date.now() % 2 ** 31;
  t.diagnostic(`seed ${seed}`);
  const random = new SeededRandom(seed);
  const istiod = await startRawIstiod(t);
  const relay = await forkRelay(t, { discoveryAddress: istiod.address }, { isSilent: true });
  const startedAtMs = performance.now();
  let count = 0;
  let afterWarmUpBytes = 0;
  while (performance.now() - startedAtMs < timeMs) {
    await runExchange(t, { relay, istiod }, random).catch((error: unknown) => {
      throw new Error(`exchange ${count} of seed ${seed}: ${String(error)}`, { cause: error });
    });
    count += 1;
    if (afterWarmUpBytes === 0 && performance.now() - startedAtMs > timeMs / 4) {
      afterWarmUpBytes = await relay.rssBytes();
    }
  }
  t.diagnostic(`${count} exchanges`);
  const grown = (await relay.rssBytes()) - afterWarmUpBytes;
  assert.ok(grown < maxGrowthBytes, `RSS grew by ${grown} bytes in ${count} exchanges`);
});
