/**
 * Holds the control plane against a real istiod: the recorded requests of agent and Envoy are sent to it byte for
 * byte, with the recorded clock and UUIDs, and every response must have the recorded bytes, in the recorded order.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ControlPlane } from '../../support/control-plane/control-plane.ts';
import type { XdsMode } from '../../support/control-plane/discovery-messages.ts';
import { type FailStrategy, wasmPlugin } from '../../support/control-plane/extension-configs.ts';
import { typeUrls } from '../../support/control-plane/type-urls.ts';
import { World } from '../../support/control-plane/world.ts';
import { type RecordedMark, type RecordedMessage, readCapture, skipWithoutCaptures } from './capture.ts';
import { XdsClient } from './xds-client.ts';

const captures: readonly { readonly name: string; readonly mode: XdsMode }[] = [
  { name: 'a-gateway-wasmplugin', mode: 'delta' },
  { name: 'a-gateway-wasmplugin', mode: 'sotw' },
  { name: 'b-fetch-failure', mode: 'delta' },
  { name: 'b-fetch-failure', mode: 'sotw' },
  { name: 'e-lua-trafficextension', mode: 'delta' },
  { name: 'i-istiod-restart', mode: 'delta' },
  { name: 'i-istiod-restart', mode: 'sotw' },
];

const failStrategies: Readonly<Record<number, FailStrategy>> = {
  1: 'FAIL_RELOAD',
  2: 'FAIL_CLOSE',
  3: 'FAIL_OPEN',
};

/** What istiod served under each version: the resources it sent then, and those of types it did not send then. */
function worldsByVersion(responses: readonly RecordedMessage[]): Map<string, World> {
  const worlds = new Map<string, World>();
  let world = World.empty;
  for (const version of new Set(responses.map((response) => response.version))) {
    const sent = responses.filter((response) => response.version === version);
    for (const { typeUrl } of sent) {
      world = world.without(typeUrl, ...world.list(typeUrl).map((resource) => resource.name));
    }
    world = world.with(...sent.flatMap((response) => response.resources));
    worlds.set(version, world);
  }
  return worlds;
}

function isResponse(record: RecordedMessage | RecordedMark): record is RecordedMessage {
  return record.kind === 'response';
}

/** One replay: sends, compares, and drives the world as the recorder drove istiod. */
class Replay {
  readonly #mode: XdsMode;
  readonly #responses: readonly RecordedMessage[];
  readonly #worlds: Map<string, World>;
  readonly #controlPlane: ControlPlane;
  #client: XdsClient | undefined;
  #connection = 0;
  #sentCount = 0;

  private constructor(mode: XdsMode, responses: readonly RecordedMessage[], controlPlane: ControlPlane) {
    this.#mode = mode;
    this.#responses = responses;
    this.#worlds = worldsByVersion(responses);
    this.#controlPlane = controlPlane;
  }

  static async start(mode: XdsMode, records: readonly (RecordedMessage | RecordedMark)[]): Promise<Replay> {
    const responses = records.filter(isResponse);
    const versions = [...new Set(responses.map((response) => response.version))];
    const times = versions.map((version) => new Date(version.split('/')[0] ?? ''));
    const uuids = responses.map((response) => response.nonce.slice(response.version.length));
    const world = worldsByVersion(responses).get(versions[0] ?? '') ?? World.empty;
    const controlPlane = await ControlPlane.start({
      world,
      now: () => times.shift() ?? assert.fail('more versions than recorded'),
      newUuid: () => uuids.shift() ?? assert.fail('more responses than recorded'),
    });
    return new Replay(mode, responses, controlPlane);
  }

  async step(record: RecordedMessage | RecordedMark): Promise<void> {
    switch (record.kind) {
      case 'mark':
        await this.#checkMetrics(record);
        break;
      case 'request':
        if (record.connection !== this.#connection) await this.#connect(record.connection);
        this.#client?.sendBytes(record.bytes);
        this.#sentCount += 1;
        break;
      case 'response':
        await this.#applyVersion(record.version);
        assert.deepEqual((await this.#client?.next())?.bytes, record.bytes, `line ${record.line}`);
        break;
      default:
        record satisfies never;
    }
  }

  async close(): Promise<void> {
    await this.#settled();
    assert.equal(this.#client?.waitingCount, 0, 'more responses than recorded');
    await this.#client?.close();
    await this.#controlPlane.close();
  }

  /** A connection after the first one follows a restart of istiod. */
  async #connect(connection: number): Promise<void> {
    if (this.#connection !== 0) {
      await this.#settled();
      await this.#controlPlane.stop();
      await this.#client?.close();
      const first = this.#responses.find((response) => response.connection === connection);
      this.#controlPlane.applyWorld(this.#worlds.get(first?.version ?? '') ?? World.empty);
      await this.#controlPlane.start();
    }
    this.#connection = connection;
    this.#client = new XdsClient(this.#controlPlane.address, this.#mode);
  }

  /** An EnvoyFilter made istiod push all types, clusters included; everything else only what it concerns. */
  async #applyVersion(version: string): Promise<void> {
    if (version === this.#controlPlane.version) return;
    await this.#settled();
    const sent = this.#responses.filter((response) => response.version === version);
    const isWhole = sent.some((response) => response.typeUrl === typeUrls.cds);
    const world = this.#worlds.get(version) ?? World.empty;
    this.#controlPlane.applyWorld(world, isWhole ? { types: [] } : {});
    assert.equal(this.#controlPlane.version, version);
  }

  /** Resolves when the control plane has taken every request that was sent. */
  async #settled(): Promise<void> {
    const { journal } = this.#controlPlane;
    await journal.waitFor(`${this.#sentCount} requests`, () => {
      const taken = journal.entries.filter((entry) => entry.kind === 'request').length;
      return taken === this.#sentCount ? taken : undefined;
    });
  }

  async #checkMetrics({ text, line }: RecordedMark): Promise<void> {
    const [, metrics] = /^istiod metrics: (.+)$/.exec(text) ?? [];
    if (metrics === undefined) return;
    await this.#settled();
    const mine = this.#controlPlane.metrics().match(/^pilot_total_xds_rejects.+$/gm) ?? [];
    assert.equal(mine.length === 0 ? 'no reject counters' : mine.join(' '), metrics, `line ${line}`);
  }
}

describe('as a real istiod did', { skip: skipWithoutCaptures }, () => {
  for (const { name, mode } of captures) {
    test(`it answers the requests of ${name} (${mode}) with the recorded bytes`, async () => {
      const records = readCapture(name, mode);
      const replay = await Replay.start(mode, records);
      try {
        for (const record of records) await replay.step(record);
      } finally {
        await replay.close();
      }
    });

    test(`it makes the WasmPlugins of ${name} (${mode}) with the recorded bytes`, () => {
      let comparedCount = 0;
      for (const record of readCapture(name, mode)) {
        if (record.kind !== 'response' || record.typeUrl !== typeUrls.ecds) continue;
        for (const [index, wasm] of record.wasm.entries()) {
          if (wasm?.remote === undefined) continue;
          const [namespace = '', pluginName = ''] = (wasm.name.split('~')[0] ?? '').split('.');
          const configuration = wasm.configuration?.value;
          const plugin = wasmPlugin({
            namespace,
            name: pluginName,
            source: wasm.name.includes('~') ? 'WasmPlugin' : 'TrafficExtension',
            url: wasm.remote.uri,
            sha256: wasm.remote.sha256,
            failStrategy: failStrategies[wasm.failure_policy] ?? assert.fail(`line ${record.line}`),
            ...(configuration === undefined
              ? {}
              : { pluginConfig: JSON.parse(configuration) as Record<string, unknown> }),
          });
          assert.deepEqual(plugin.resource, record.resources[index], `line ${record.line}`);
          comparedCount += 1;
        }
      }
      assert.ok(comparedCount > 0, 'the recording has no WasmPlugin');
    });
  }
});
