import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import type { ModuleSource } from '../../../agent/fetch/types.ts';
import { LogRoot } from '../../../agent/log.ts';
import { LastKnownGood } from '../../../agent/wasm/last-known-good.ts';
import { ModulePreflight } from '../../../agent/wasm/module-preflight.ts';
import { PluginRollouts } from '../../../agent/wasm/plugin-rollouts.ts';
import { ecdsInterceptor } from '../../../agent/xds/ecds-interceptor.ts';
import type { StreamInterceptor } from '../../../agent/xds/interceptor.ts';
import { MetricRegistry } from '../../../metrics/registry.ts';
import { WasmMetrics } from '../../../metrics/wasm-metrics.ts';
import { typeUrls } from '../../../proto/type-urls.ts';
import { MessageWriter } from '../../../proto/wire.ts';
import * as codec from '../../support/ecds-codec.ts';
import { otherResource, structResource } from '../wasm/extension-fixtures.ts';
import { MemoryIndex } from '../wasm/memory-index.ts';

const typeUrl = typeUrls.extensionConfig;
const log = new LogRoot({ format: 'text', levels: new Map(), write: () => undefined }).scope('test');

const noSource: ModuleSource = {
  atHand: () => undefined,
  fetch: () => Promise.reject(new Error('nothing is to be fetched')),
};

function openRollouts(): PluginRollouts {
  const metrics = new WasmMetrics(new MetricRegistry());
  return new PluginRollouts({
    source: noSource,
    preflight: new ModulePreflight({ metrics: metrics.plugins, log }),
    store: { get: async () => undefined, setReferences: () => undefined },
    lastKnownGood: new LastKnownGood({ index: new MemoryIndex() }),
    metrics,
    log,
  });
}

/** What goes to Envoy, by the name of its config, and what goes to istiod, by its nonce. */
class RecordedStream {
  readonly sent: string[] = [];
  readonly interceptor: StreamInterceptor;
  isEnded = false;
  #onSent: () => void = () => undefined;

  constructor() {
    const factory = ecdsInterceptor({ loadRollouts: async () => openRollouts(), log });
    this.interceptor = factory.open({
      id: 1,
      kind: 'delta',
      sendDownstream: (message) => {
        const [resource] = codec.decodeDeltaResponse(message).resources;
        this.#add(`down ${resource?.name}`);
      },
      sendUpstream: (message) => {
        const { resourceNamesSubscribe } = codec.decodeDeltaRequest(message);
        this.#add(`up ${resourceNamesSubscribe.join(' ')}`);
      },
      end: () => {
        this.isEnded = true;
      },
    });
  }

  /** Resolves when so many messages have been sent. */
  async count(wanted: number): Promise<void> {
    while (this.sent.length < wanted) {
      await new Promise<void>((resolve) => {
        this.#onSent = resolve;
      });
    }
  }

  #add(text: string): void {
    this.sent.push(text);
    this.#onSent();
  }

  subscribe(name: string): void {
    const message = codec.makeDeltaRequest({ typeUrl, resourceNamesSubscribe: [name] });
    this.interceptor.onRequest(codec.encodeDeltaRequest(message));
  }

  push(name: string, resource: codec.Any): void {
    const $typeName = 'envoy.service.discovery.v3.Resource' as const;
    const wrapper = { $typeName, name, aliases: [], version: 'v', resource };
    const message = codec.makeDeltaResponse({ typeUrl, nonce: `n-${name}`, resources: [wrapper] });
    this.interceptor.onResponse(codec.encodeDeltaResponse(message));
  }
}

describe('messages while something is loaded for the first of them', () => {
  let stream!: RecordedStream;

  before(async () => {
    stream = new RecordedStream();
    stream.subscribe('lua');
    assert.deepEqual(stream.sent, []);
    await stream.count(1);
    assert.deepEqual(stream.sent, ['up lua']);
  });

  test('a filter in JSON form holds up what comes behind it, in order', async () => {
    stream.sent.length = 0;
    stream.push('struct', structResource('udpa', { config: { name: 'n' } }, 'struct'));
    stream.push('lua', otherResource('lua'));
    stream.subscribe('other');
    assert.deepEqual(stream.sent, []);
    await stream.count(3);
    assert.deepEqual(stream.sent, ['down struct', 'down lua', 'up other']);
    assert.equal(stream.isEnded, false);
  });

  test('the next one waits for nothing', () => {
    stream.sent.length = 0;
    stream.push('another', structResource('xds', { config: { name: 'n' } }, 'another'));
    assert.deepEqual(stream.sent, ['down another']);
  });

  test('a message that is none ends the stream', () => {
    stream.interceptor.onResponse(new MessageWriter().text(2, 'x').finish());
    assert.equal(stream.isEnded, true);
  });

  test('a closed stream takes nothing', () => {
    const other = new RecordedStream();
    other.subscribe('a');
    other.interceptor.close();
    other.subscribe('b');
    assert.deepEqual(other.sent, []);
  });
});
