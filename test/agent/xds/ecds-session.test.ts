import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  FetchError,
  type FetchedModule,
  type ModuleRequest,
  type ModuleSource,
} from '../../../agent/fetch/types.ts';
import { LogRoot } from '../../../agent/log.ts';
import { LastKnownGood } from '../../../agent/wasm/last-known-good.ts';
import { ModulePreflight } from '../../../agent/wasm/module-preflight.ts';
import { PluginRollouts } from '../../../agent/wasm/plugin-rollouts.ts';
import { EcdsSession } from '../../../agent/xds/ecds-session.ts';
import type { GrpcStatus } from '../../../agent/xds/grpc-status.ts';
import type { InterceptedStream, StreamKind } from '../../../agent/xds/interceptor.ts';
import { MetricRegistry } from '../../../metrics/registry.ts';
import { WasmMetrics } from '../../../metrics/wasm-metrics.ts';
import { typeUrls } from '../../../proto/type-urls.ts';
import * as codec from '../../support/ecds-codec.ts';
import { appended, otherResource, pluginResource, unknownField } from '../wasm/extension-fixtures.ts';
import { MemoryIndex } from '../wasm/memory-index.ts';

const typeUrl = typeUrls.extensionConfig;
const digest = 'a'.repeat(64);

/** What came out on one side, decoded as far as the tests look. */
interface Seen {
  readonly nonce: string;
  readonly version: string;
  readonly names: readonly string[];
  readonly removed?: readonly string[];
  readonly failure?: string | undefined;
  readonly filterType?: string | undefined;
  readonly bytes: Uint8Array;
}

/** A module source whose answers the test gives. */
class ScriptedSource implements ModuleSource {
  readonly requests: {
    readonly request: ModuleRequest;
    readonly signal: AbortSignal;
    readonly resolve: (module: FetchedModule) => void;
    readonly reject: (error: unknown) => void;
  }[] = [];

  /** Nothing is: each answer is the test's. */
  atHand(): undefined {}

  fetch(request: ModuleRequest, { signal }: { readonly signal: AbortSignal }): Promise<FetchedModule> {
    return new Promise((resolve, reject) => {
      this.requests.push({ request, signal, resolve, reject });
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  }

  answer(index: number, path = '/modules/a'): void {
    this.requests[index]?.resolve({
      path,
      digest,
      checksum: digest,
      sizeBytes: 8,
      source: 'oci',
      matchedPin: undefined,
    });
  }

  fail(index: number, code: FetchError['code'] = 'bad_url'): void {
    this.requests[index]?.reject(new FetchError(code, 'no such image'));
  }
}

class Bench {
  readonly kind: StreamKind;
  readonly source = new ScriptedSource();
  readonly references = new Map<string, readonly string[]>();
  readonly kept: MemoryIndex;
  readonly rollouts: PluginRollouts;
  down: Seen[] = [];
  up: Seen[] = [];
  ended: GrpcStatus | undefined;
  session: EcdsSession;
  readonly unrepaired = new Set<string>();
  #streams = 0;

  constructor(kind: StreamKind, kept = new MemoryIndex()) {
    this.kind = kind;
    this.kept = kept;
    const log = new LogRoot({ format: 'text', levels: new Map(), write: () => undefined }).scope('test');
    const metrics = new WasmMetrics(new MetricRegistry());
    this.rollouts = new PluginRollouts({
      source: this.source,
      preflight: new ModulePreflight({ metrics: metrics.plugins, log }),
      store: {
        get: async (wanted) => ({ digest: wanted, path: `/modules/${wanted}`, sizeBytes: 8 }),
        setReferences: (owner, digests) => void this.references.set(owner, [...digests]),
      },
      lastKnownGood: new LastKnownGood({ index: this.kept }),
      metrics,
      log,
    });
    this.session = this.connect();
  }

  connect(): EcdsSession {
    this.#streams += 1;
    const stream: InterceptedStream = {
      id: this.#streams,
      kind: this.kind,
      sendDownstream: (message) => void this.down.push(this.#seeResponse(message)),
      sendUpstream: (message) => void this.up.push(this.#seeRequest(message)),
      end: (status) => {
        this.ended = status;
      },
    };
    const log = new LogRoot({ format: 'text', levels: new Map(), write: () => undefined }).scope('test');
    this.session = new EcdsSession({ stream, rollouts: this.rollouts, unrepaired: this.unrepaired, log });
    return this.session;
  }

  /** istiod pushes. */
  push(nonce: string, resources: Record<string, codec.Any>, removedResources: string[] = []): void {
    const common = { typeUrl, nonce };
    this.session.onResponse(
      this.kind === 'sotw'
        ? codec.encodeResponse(
            codec.makeResponse({ ...common, versionInfo: nonce, resources: Object.values(resources) }),
          )
        : codec.encodeDeltaResponse(
            codec.makeDeltaResponse({
              ...common,
              systemVersionInfo: nonce,
              removedResources,
              resources: Object.entries(resources).map(([name, resource]) => ({
                $typeName: 'envoy.service.discovery.v3.Resource' as const,
                name,
                version: '',
                aliases: [],
                resource,
              })),
            }),
          ),
    );
  }

  subscribe(names: string[], unsubscribe: string[] = []): void {
    this.session.onRequest(
      this.kind === 'sotw'
        ? codec.encodeRequest(
            codec.makeRequest({
              typeUrl,
              resourceNames: names,
              responseNonce: this.down.at(-1)?.nonce ?? '',
            }),
          )
        : codec.encodeDeltaRequest(
            codec.makeDeltaRequest({
              typeUrl,
              resourceNamesSubscribe: names,
              resourceNamesUnsubscribe: unsubscribe,
            }),
          ),
    );
  }

  /** Envoy answers; state of the world always with all its names. */
  answer(nonce: string | undefined, names: string[], failure?: string): void {
    assert.ok(nonce !== undefined, 'there is a response to answer');
    const detail = failure === undefined ? {} : { errorDetail: codec.makeErrorDetail(failure) };
    this.session.onRequest(
      this.kind === 'sotw'
        ? codec.encodeRequest(
            codec.makeRequest({ typeUrl, resourceNames: names, responseNonce: nonce, ...detail }),
          )
        : codec.encodeDeltaRequest(codec.makeDeltaRequest({ typeUrl, responseNonce: nonce, ...detail })),
    );
  }

  /** Lets the promises of the source run. */
  async turn(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
  }

  /** What went up since the last look, as words. */
  verdicts(): string[] {
    const seen = this.up.splice(0);
    return seen.map(({ nonce, failure }) =>
      failure === undefined ? `ACK ${nonce}` : `NACK ${nonce} ${failure}`,
    );
  }

  #seeResponse(bytes: Uint8Array): Seen {
    const isSotw = this.kind === 'sotw';
    const response = isSotw ? codec.decodeResponse(bytes) : codec.decodeDeltaResponse(bytes);
    const anys = response.resources.map((resource) => ('typeUrl' in resource ? resource : resource.resource));
    const configs = anys.map((any) => codec.decodeExtensionConfig(any?.value ?? new Uint8Array()));
    return {
      nonce: response.nonce,
      version: 'versionInfo' in response ? response.versionInfo : response.systemVersionInfo,
      names: configs.map(({ name }) => name),
      removed: 'removedResources' in response ? response.removedResources : [],
      filterType: configs[0]?.typedConfig?.typeUrl,
      bytes,
    };
  }

  #seeRequest(bytes: Uint8Array): Seen {
    if (this.kind === 'sotw') {
      const request = codec.decodeRequest(bytes);
      const { responseNonce: nonce, versionInfo: version, resourceNames: names, errorDetail } = request;
      return { nonce, version, names, failure: errorDetail?.message, bytes };
    }
    const request = codec.decodeDeltaRequest(bytes);
    const { responseNonce: nonce, resourceNamesSubscribe: names, errorDetail } = request;
    return {
      nonce,
      version: '',
      names,
      removed: request.resourceNamesUnsubscribe,
      failure: errorDetail?.message,
      bytes,
    };
  }
}

for (const kind of ['sotw', 'delta'] as const) {
  describe(`ECDS over ${kind}`, () => {
    test('sends each resource alone, under its own nonce, and answers istiod once', () => {
      const bench = new Bench(kind);
      bench.subscribe(['a', 'b']);
      bench.up = [];
      bench.push('n1', { a: otherResource('a'), b: otherResource('b') });
      assert.deepEqual(
        bench.down.map(({ names }) => names),
        [['a'], ['b']],
      );
      assert.notEqual(bench.down[0]?.nonce, bench.down[1]?.nonce);
      assert.ok(!bench.down.some(({ nonce }) => nonce === 'n1'));
      bench.answer(bench.down[1]?.nonce, ['a', 'b']);
      assert.deepEqual(bench.verdicts(), []);
      bench.answer(bench.down[0]?.nonce, ['a', 'b']);
      assert.deepEqual(bench.verdicts(), ['ACK n1']);
    });

    test('a slow module holds back nothing but itself and the verdict', async () => {
      const bench = new Bench(kind);
      bench.subscribe(['slow', 'quick']);
      bench.up = [];
      bench.push('n1', { slow: pluginResource({ name: 'slow' }), quick: otherResource('quick') });
      assert.deepEqual(
        bench.down.map(({ names }) => names),
        [['quick']],
      );
      bench.answer(bench.down[0]?.nonce, ['slow', 'quick']);
      assert.deepEqual(bench.verdicts(), []);
      bench.source.answer(0);
      await bench.turn();
      assert.deepEqual(bench.down.at(-1)?.names, ['slow']);
      assert.equal(bench.down.at(-1)?.filterType, typeUrls.httpWasm);
      assert.deepEqual(bench.references.get('ecds:slow'), [digest]);
      bench.answer(bench.down.at(-1)?.nonce, ['slow', 'quick']);
      assert.deepEqual(bench.verdicts(), ['ACK n1']);
    });

    test("passes Envoy's own words up with the resource's name, and repairs Envoy at once", () => {
      const bench = new Bench(kind);
      bench.subscribe(['a']);
      bench.push('n1', { a: otherResource('a') });
      bench.answer(bench.down[0]?.nonce, ['a']);
      bench.up = [];
      bench.push('n2', { a: appended(otherResource('a'), unknownField('new')) });
      bench.answer(bench.down[1]?.nonce, ['a'], 'Unable to create Wasm plugin');
      assert.deepEqual(bench.verdicts(), ['NACK n2 a: Unable to create Wasm plugin']);
      assert.equal(bench.down.length, 3);
      const repair = bench.down[2];
      assert.equal(repair?.version, 'n1');
      assert.ok(!Buffer.from(repair?.bytes ?? []).includes('new'));
      bench.answer(repair?.nonce, ['a']);
      assert.deepEqual(bench.verdicts(), [], 'the ACK of the repair is nobody else’s business');
    });

    test('a module that cannot be had is a stand-in for Envoy and a NACK for istiod, the good one is not held', async () => {
      const bench = new Bench(kind);
      bench.subscribe(['bad', 'good']);
      bench.up = [];
      bench.push('n1', {
        bad: pluginResource({ name: 'bad', failurePolicy: 2 }),
        good: otherResource('good'),
      });
      bench.answer(bench.down[0]?.nonce, ['bad', 'good']);
      bench.source.fail(0);
      await bench.turn();
      assert.equal(bench.down.at(-1)?.filterType, typeUrls.httpRbac);
      assert.deepEqual(bench.verdicts(), ['NACK n1 bad: no such image']);
      bench.answer(bench.down.at(-1)?.nonce, ['bad', 'good']);
      assert.deepEqual(bench.verdicts(), []);
    });

    test('an update that cannot be had sends nothing: Envoy keeps what it runs', async () => {
      const bench = new Bench(kind);
      bench.subscribe(['a']);
      bench.push('n1', { a: pluginResource({ name: 'a' }) });
      bench.source.answer(0);
      await bench.turn();
      bench.answer(bench.down[0]?.nonce, ['a']);
      bench.up = [];
      bench.push('n2', { a: pluginResource({ name: 'a', url: 'oci://registry.example/other:1' }) });
      bench.source.fail(1);
      await bench.turn();
      assert.equal(bench.down.length, 1);
      assert.deepEqual(bench.verdicts(), ['NACK n2 a: no such image']);
      assert.deepEqual(bench.references.get('ecds:a'), [digest]);
    });

    test('after a restart the last known good plugin stands in, before the fallback', async () => {
      const before = new Bench(kind);
      before.subscribe(['a']);
      before.push('n1', { a: pluginResource({ name: 'a' }) });
      before.source.answer(0);
      await before.turn();
      before.answer(before.down[0]?.nonce, ['a']);
      const bench = new Bench(kind, before.kept);
      assert.deepEqual(bench.references.get('last-known-good:a'), [digest]);
      bench.subscribe(['a']);
      bench.up = [];
      bench.push('m1', { a: pluginResource({ name: 'a', url: 'oci://registry.example/gone:1' }) });
      bench.source.fail(0);
      await bench.turn();
      await bench.turn();
      assert.deepEqual(
        bench.down.map(({ filterType }) => filterType),
        [typeUrls.httpWasm],
      );
      assert.deepEqual(bench.verdicts(), ['NACK m1 a: no such image']);
    });

    test('a withdrawn plugin is not remembered', async () => {
      const bench = new Bench(kind);
      bench.subscribe(['a']);
      bench.push('n1', { a: pluginResource({ name: 'a' }) });
      bench.source.answer(0);
      await bench.turn();
      bench.answer(bench.down[0]?.nonce, ['a']);
      bench.push('n2', {});
      assert.deepEqual([...bench.kept.entries()], []);
      assert.deepEqual(bench.references.get('last-known-good:a'), []);
    });

    test('bytes that Envoy has refused are not offered again, and istiod hears why', () => {
      const bench = new Bench(kind);
      bench.subscribe(['a']);
      bench.push('n1', { a: otherResource('a') });
      bench.answer(bench.down[0]?.nonce, ['a'], 'bad filter');
      bench.up = [];
      const sentCount = bench.down.length;
      bench.push('n2', { a: otherResource('a') });
      assert.equal(bench.down.length, sentCount);
      const [verdict] = bench.verdicts();
      assert.match(verdict ?? '', /^NACK n2 a: bad filter \(Envoy refused exactly this config before/);
    });

    test('ends the stream after a repair when Envoy refused a listener update meanwhile', () => {
      const bench = new Bench(kind);
      const listenerNack =
        kind === 'sotw'
          ? codec.encodeRequest(
              codec.makeRequest({ responseNonce: 'l', errorDetail: codec.makeErrorDetail('bad') }),
            )
          : codec.encodeDeltaRequest(
              codec.makeDeltaRequest({ responseNonce: 'l', errorDetail: codec.makeErrorDetail('bad') }),
            );
      bench.subscribe(['a']);
      bench.push('n1', { a: otherResource('a') });
      bench.answer(bench.down[0]?.nonce, ['a']);
      bench.session.onListenerRequest(listenerNack);
      assert.equal(bench.ended, undefined, 'a listener refused for itself is none of our business');
      bench.push('n2', { a: appended(otherResource('a'), unknownField('new')) });
      bench.answer(bench.down[1]?.nonce, ['a'], 'bad filter');
      bench.session.onListenerRequest(listenerNack);
      assert.equal(bench.ended, undefined, 'the repair is not in force yet');
      bench.answer(bench.down[2]?.nonce, ['a']);
      assert.equal((bench.ended as GrpcStatus | undefined)?.code, 14);
    });

    test('a newer push takes the place of an older one that is still being fetched', async () => {
      const bench = new Bench(kind);
      bench.subscribe(['a']);
      bench.up = [];
      bench.push('n1', { a: pluginResource({ name: 'a' }) });
      bench.push('n2', { a: pluginResource({ name: 'a' }) });
      assert.equal(bench.source.requests[0]?.signal.aborted, true);
      assert.equal(bench.source.requests[1]?.signal.aborted, false);
      bench.source.answer(1);
      await bench.turn();
      assert.equal(bench.down.length, 1);
      bench.answer(bench.down[0]?.nonce, ['a']);
      assert.deepEqual(bench.verdicts(), ['ACK n2']);
    });

    test('passes an empty response on and answers it', () => {
      const bench = new Bench(kind);
      bench.subscribe(['a']);
      bench.push('n1', { a: otherResource('a') });
      bench.answer(bench.down[0]?.nonce, ['a']);
      bench.up = [];
      bench.push('n2', {});
      assert.deepEqual(bench.down[1]?.names, []);
      bench.answer(bench.down[1]?.nonce, ['a']);
      assert.deepEqual(bench.verdicts(), ['ACK n2']);
      assert.deepEqual(bench.rollouts.names(), []);
    });

    test('a resource absent from a push is withdrawn and its fetch ends', () => {
      const bench = new Bench(kind);
      bench.subscribe(['a', 'b']);
      bench.push('n1', { a: otherResource('a'), b: pluginResource({ name: 'b' }) });
      bench.push('n2', { a: otherResource('a') });
      assert.equal(bench.source.requests[0]?.signal.aborted, true);
      assert.deepEqual(bench.rollouts.names(), ['a']);
    });

    test('fields that no schema knows survive on the response, the wrapper and the config', () => {
      const bench = new Bench(kind);
      bench.subscribe(['a']);
      const resource = appended(otherResource('a'), unknownField('in the config'));
      const message =
        kind === 'sotw'
          ? codec.encodeResponse(
              codec.makeResponse({ typeUrl, nonce: 'n', versionInfo: 'v', resources: [resource] }),
            )
          : codec.encodeDeltaResponse(
              codec.makeDeltaResponse({
                typeUrl,
                nonce: 'n',
                systemVersionInfo: 'v',
                resources: [
                  {
                    $typeName: 'envoy.service.discovery.v3.Resource',
                    name: 'a',
                    version: '7',
                    aliases: ['z'],
                    resource,
                  },
                ],
              }),
            );
      bench.session.onResponse(Buffer.concat([message, unknownField('in the response')]));
      const bytes = Buffer.from(bench.down[0]?.bytes ?? []);
      assert.ok(bytes.includes('in the config'));
      assert.ok(bytes.includes('in the response'));
    });

    test('keeps the first request as it came, node and all', () => {
      const bench = new Bench(kind);
      const first =
        kind === 'sotw'
          ? codec.encodeRequest(codec.makeRequest({ typeUrl, resourceNames: ['a'], versionInfo: 'old' }))
          : codec.encodeDeltaRequest(
              codec.makeDeltaRequest({
                typeUrl,
                resourceNamesSubscribe: ['a'],
                initialResourceVersions: { a: '' },
              }),
            );
      const message = Buffer.concat([first, unknownField('node')]);
      bench.session.onRequest(message);
      assert.deepEqual(Buffer.from(bench.up[0]?.bytes ?? []), message);
    });

    test('a new stream starts with nonces of its own and keeps what Envoy runs', async () => {
      const bench = new Bench(kind);
      bench.subscribe(['a']);
      bench.push('n1', { a: pluginResource({ name: 'a' }) });
      bench.source.answer(0);
      await bench.turn();
      const oldNonce = bench.down[0]?.nonce;
      bench.answer(oldNonce, ['a']);
      bench.session.close();
      bench.connect();
      bench.down = [];
      bench.subscribe(['a']);
      bench.up = [];
      bench.push('m1', { a: pluginResource({ name: 'a', url: 'oci://registry.example/gone:1' }) });
      bench.source.fail(1);
      await bench.turn();
      assert.deepEqual(bench.down, [], 'Envoy still runs the plugin of the stream before');
      assert.deepEqual(bench.verdicts(), ['NACK m1 a: no such image']);
      bench.answer(oldNonce, ['a']);
      assert.deepEqual(bench.verdicts(), [], 'a nonce of the old stream means nothing');
    });

    test('a name that Envoy does not ask for any more is forgotten', () => {
      const bench = new Bench(kind);
      bench.subscribe(['a', 'b']);
      bench.push('n1', { a: otherResource('a'), b: pluginResource({ name: 'b' }) });
      bench.answer(bench.down[0]?.nonce, ['a', 'b']);
      bench.up = [];
      if (kind === 'sotw') bench.subscribe(['a']);
      else bench.subscribe([], ['b']);
      assert.equal(bench.source.requests[0]?.signal.aborted, true);
      assert.ok(bench.up.length >= 1);
      assert.ok(
        bench.up.some(({ nonce }) => nonce === 'n1'),
        'the push is settled by what is left',
      );
    });

    test('bytes that do not decode end the stream with a clear status, not the process', () => {
      const bench = new Bench(kind);
      bench.session.onResponse(Buffer.from([0x12, 0x7f, 0x01]));
      assert.equal(bench.ended?.code, 13);
      assert.match(bench.ended?.message ?? '', /does not decode/);
      bench.ended = undefined;
      bench.session.onRequest(Buffer.from([0x0a, 0x7f, 0x01]));
      assert.match(bench.ended === undefined ? '' : (bench.ended as GrpcStatus).message, /does not decode/);
    });

    test('a resource that does not decode is refused by name, the others go down', () => {
      const bench = new Bench(kind);
      bench.subscribe(['a', 'b']);
      bench.up = [];
      bench.push('n1', { a: codec.makeAny(typeUrl, Buffer.from([0x0a, 0x7f])), b: otherResource('b') });
      assert.deepEqual(
        bench.down.map(({ names }) => names),
        [['b']],
      );
      bench.answer(bench.down[0]?.nonce, ['a', 'b']);
      const [verdict] = bench.verdicts();
      assert.match(verdict ?? '', /^NACK n1 (a|resource 0 of version n1): extension config does not decode/);
    });
  });
}

describe('ECDS over sotw only', () => {
  test('an ACK and a NACK carry all names and the accepted version', async () => {
    const bench = new Bench('sotw');
    bench.subscribe(['a', 'b']);
    bench.push('n1', { a: otherResource('a'), b: otherResource('b') });
    for (const { nonce } of bench.down) bench.answer(nonce, ['a', 'b']);
    assert.deepEqual(bench.up.at(-1)?.names, ['a', 'b']);
    assert.equal(bench.up.at(-1)?.version, 'n1');
    bench.push('n2', { a: otherResource('a'), b: pluginResource({ name: 'b' }) });
    bench.answer(bench.down.at(-1)?.nonce, ['a', 'b']);
    bench.source.fail(0);
    await bench.turn();
    assert.deepEqual(bench.up.at(-1)?.names, ['a', 'b']);
    assert.equal(bench.up.at(-1)?.version, 'n1');
    assert.equal(bench.up.at(-1)?.nonce, 'n2');
    assert.ok(bench.up.at(-1)?.failure);
  });

  test('new names during a fetch go up under the current nonce; a later failure is a NACK of their answer', async () => {
    const bench = new Bench('sotw');
    bench.subscribe(['a']);
    bench.push('n1', { a: pluginResource({ name: 'a' }) });
    bench.up = [];
    bench.subscribe(['a', 'b']);
    assert.deepEqual(
      bench.up.map(({ nonce, names }) => [nonce, names]),
      [['n1', ['a', 'b']]],
    );
    bench.up = [];
    bench.source.fail(0);
    await bench.turn();
    // istiod is about to answer the new name: a NACK of the older response would be late.
    assert.deepEqual(bench.verdicts(), []);
    bench.push('n2', { b: otherResource('b') });
    bench.answer(bench.down.at(-1)?.nonce, ['a', 'b']);
    assert.deepEqual(bench.verdicts(), ['NACK n2 a: no such image']);
  });

  test('names that istiod has passed over are told again with the next response', () => {
    const bench = new Bench('sotw');
    bench.subscribe(['a']);
    bench.push('n1', { a: otherResource('a') });
    bench.answer(bench.down.at(-1)?.nonce, ['a']);
    bench.subscribe(['a', 'b']);
    bench.up = [];
    // Sent before istiod had read the request.
    bench.push('n2', { a: otherResource('a') });
    assert.deepEqual(
      bench.up.map(({ nonce, names, failure }) => [nonce, names, failure]),
      [['n2', ['a', 'b'], undefined]],
    );
    bench.push('n3', { b: otherResource('b') });
    for (const { nonce } of bench.down.slice(-2)) bench.answer(nonce, ['a', 'b']);
    bench.up = bench.up.slice(1);
    assert.deepEqual(bench.verdicts(), ['ACK n3']);
  });
});

describe('ECDS over delta only', () => {
  test('the answer to a subscribe withdraws nothing else', () => {
    const bench = new Bench('delta');
    bench.subscribe(['a']);
    bench.push('n1', { a: pluginResource({ name: 'a' }) });
    bench.subscribe(['b']);
    bench.push('n2', { b: otherResource('b') });
    assert.equal(bench.source.requests[0]?.signal.aborted, false);
    assert.deepEqual(bench.rollouts.names(), ['a', 'b']);
  });

  test('a failure that was told is not told again with a response that is about something else', async () => {
    const bench = new Bench('delta');
    bench.subscribe(['a']);
    bench.push('n1', { a: pluginResource({ name: 'a' }) });
    bench.source.fail(0);
    await bench.turn();
    await bench.turn();
    bench.up = [];
    bench.answer(bench.down[0]?.nonce, []);
    // istiod has deleted it, and its empty push crosses with a subscribe of Envoy.
    bench.subscribe(['b']);
    bench.push('n2', {});
    bench.push('n3', { b: otherResource('b') });
    for (const { nonce } of bench.down.slice(1)) bench.answer(nonce, []);
    assert.deepEqual(
      bench.verdicts().filter((verdict) => verdict.startsWith('NACK')),
      [],
    );
  });

  test('the verdict on a later partial push waits for what is still being fetched', async () => {
    const bench = new Bench('delta');
    bench.subscribe(['a']);
    bench.push('n1', { a: pluginResource({ name: 'a' }) });
    bench.subscribe(['b']);
    bench.push('n2', { b: otherResource('b') });
    bench.up = [];
    bench.answer(bench.down[0]?.nonce, []);
    assert.deepEqual(bench.verdicts(), []);
    bench.source.answer(0);
    await bench.turn();
    bench.answer(bench.down.at(-1)?.nonce, []);
    assert.deepEqual(bench.verdicts(), ['ACK n2']);
  });

  test('removed resources go down under a nonce of ours and are answered', () => {
    const bench = new Bench('delta');
    bench.subscribe(['a', 'b']);
    bench.push('n1', { a: otherResource('a'), b: otherResource('b') });
    for (const { nonce } of bench.down) bench.answer(nonce, []);
    bench.up = [];
    bench.push('n2', {}, ['b']);
    assert.deepEqual(bench.down.at(-1)?.removed, ['b']);
    bench.answer(bench.down.at(-1)?.nonce, []);
    assert.deepEqual(bench.verdicts(), ['ACK n2']);
  });
});
