import assert from 'node:assert/strict';
import { FetchError, type FetchedModule, type ModuleSource } from '../../../agent/fetch/types.ts';
import { LogRoot } from '../../../agent/log.ts';
import { loadJsonFilters } from '../../../agent/wasm/json-filters.ts';
import { type KeptConfig, LastKnownGood } from '../../../agent/wasm/last-known-good.ts';
import { ModulePreflight } from '../../../agent/wasm/module-preflight.ts';
import { PluginRollouts } from '../../../agent/wasm/plugin-rollouts.ts';
import { EcdsSession } from '../../../agent/xds/ecds-session.ts';
import type { InterceptedStream, StreamKind } from '../../../agent/xds/interceptor.ts';
import type { RecordIndex } from '../../../cache/types.ts';
import { MetricRegistry } from '../../../metrics/registry.ts';
import { WasmMetrics } from '../../../metrics/wasm-metrics.ts';
import { messageIn } from '../../../proto/wire.ts';
import {
  decodeRequest,
  decodeResponse,
  encodeRequest,
} from '../../support/control-plane/discovery-messages.ts';
import { typeUrls } from '../../support/control-plane/type-urls.ts';
import * as codec from '../../support/ecds-codec.ts';
import type { SeededRandom } from '../../support/seeded-random.ts';
import { batchTarget } from './batch.ts';
import { mutate } from './mutation.ts';
import { wireCorpus } from './wire-corpus.ts';

const digest = 'a'.repeat(64);
/** Of a response, in both forms. */
const nonceField = 5;
const maxMessageCount = 12;
/** Far more than the few pushes of one session can ask for. */
const maxAnswerCount = 2_000;
const log = new LogRoot({ format: 'text', levels: new Map(), write: () => undefined }).scope('fuzz');

await loadJsonFilters();

/** Gives each module at once, or refuses it at once. */
class RandomSource implements ModuleSource {
  readonly #random: SeededRandom;

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  atHand(): undefined {}

  fetch(): Promise<FetchedModule> {
    if (this.#random.chance(0.3)) return Promise.reject(new FetchError('bad_url', 'fuzz'));
    return Promise.resolve({
      path: '/modules/a',
      digest,
      checksum: digest,
      sizeBytes: 8,
      source: 'oci',
      matchedPin: undefined,
    });
  }
}

/** A record index without a disk. */
function memoryIndex(): RecordIndex<KeptConfig> {
  const records = new Map<string, KeptConfig>();
  return {
    get: (key) => records.get(key),
    set: (key, entry) => void records.set(key, entry),
    delete: (key) => void records.delete(key),
    entries: () => records,
    flush: () => Promise.resolve(),
  };
}

/** A session between an istiod and an Envoy that send what they like. Every message it makes is looked at. */
class FuzzedSession {
  readonly #kind: StreamKind;
  readonly #rollouts: PluginRollouts;
  readonly #session: EcdsSession;
  readonly #nonces: string[] = [];
  #answerCount = 0;
  /** Both peers send only sound messages: then another decoder than ours must be able to read what comes out. */
  readonly #isSound: boolean;
  isEnded = false;

  constructor(kind: StreamKind, random: SeededRandom, options: { readonly isSound: boolean }) {
    this.#kind = kind;
    this.#isSound = options.isSound;
    const metrics = new WasmMetrics(new MetricRegistry());
    this.#rollouts = new PluginRollouts({
      source: new RandomSource(random),
      preflight: new ModulePreflight({ metrics: metrics.plugins, log }),
      store: {
        get: async (wanted) => ({ digest: wanted, path: `/modules/${wanted}`, sizeBytes: 8 }),
        setReferences: () => undefined,
      },
      lastKnownGood: new LastKnownGood({ index: memoryIndex() }),
      metrics,
      log,
    });
    const stream: InterceptedStream = {
      id: 1,
      kind,
      sendDownstream: (message) => this.#seeResponse(Buffer.from(message)),
      sendUpstream: (message) => this.#seeRequest(Buffer.from(message)),
      end: () => {
        this.isEnded = true;
      },
    };
    this.#session = new EcdsSession({ stream, rollouts: this.#rollouts, unrepaired: new Set(), log });
  }

  push(message: Buffer): void {
    this.#session.onResponse(message);
  }

  /** Envoy: any request, or an answer to a response it was sent. */
  request(random: SeededRandom): void {
    const nonce = random.chance(0.7) && this.#nonces.length > 0 ? random.pick(this.#nonces) : 'unknown';
    const answer = encodeRequest(this.#kind, {
      typeUrl: typeUrls.ecds,
      nonce,
      names: this.#kind === 'sotw' ? ['a'] : [],
      ...(random.chance(0.4) ? { error: { code: 13, message: 'no' } } : {}),
    });
    const isAnswer = this.#isSound || random.chance(0.7);
    const message = isAnswer ? answer : mutate(random, [answer, ...wireCorpus().requests[this.#kind]]);
    this.#session.onRequest(message);
  }

  async close(): Promise<void> {
    this.#session.close();
    await this.#rollouts.close();
  }

  #seeResponse(message: Buffer): void {
    // Where istiod sends no message, a part of it that nobody looked at may be none either.
    const nonce = this.#isSound
      ? this.#soundNonce(message)
      : (messageIn(message, nonceField)?.toString() ?? '');
    assert.ok(!this.#nonces.includes(nonce), 'a nonce is used once');
    this.#nonces.push(nonce);
    this.#count();
  }

  #soundNonce(message: Buffer): string {
    const { nonce } =
      this.#kind === 'sotw' ? codec.decodeResponse(message) : codec.decodeDeltaResponse(message);
    assert.equal(decodeResponse(this.#kind, message).nonce, nonce);
    return nonce;
  }

  #seeRequest(message: Buffer): void {
    if (this.#isSound) decodeRequest(this.#kind, message);
    this.#count();
  }

  #count(): void {
    this.#answerCount += 1;
    assert.ok(this.#answerCount < maxAnswerCount, 'messages without end');
  }
}

/** Whatever both sides send, the session throws nothing, answers in messages that others can read, and comes to rest. */
export const ecdsSessionTarget = batchTarget('ecds-session', async (random) => {
  const kind = random.pick(['sotw', 'delta'] as const);
  const isSound = random.chance(0.25);
  const session = new FuzzedSession(kind, random, { isSound });
  const responses = wireCorpus().responses[kind];
  for (let count = random.integer(1, maxMessageCount); count > 0 && !session.isEnded; count -= 1) {
    if (random.chance(0.5)) session.push(isSound ? random.pick(responses) : mutate(random, responses));
    else session.request(random);
    // Fetches that have settled are taken up.
    await new Promise((resolve) => setImmediate(resolve));
  }
  await session.close();
});
