import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type WasmPlugin, wasmPlugin } from '../support/control-plane/extension-configs.ts';
import type { Fault } from '../support/fault.ts';
import { httpGet } from '../support/http-get.ts';
import { buildHeaderPlugin } from '../support/plugin-build.ts';
import { poll } from '../support/polling.ts';
import { Gateway, modes, skipReason } from './gateway.ts';

const repository = 'wasm/header';
const blobs = { path: /\/blobs\// } as const;
const anything = { path: /\/v2\// } as const;
const healDeadlineMs = 30_000;

/** A gateway whose plugin shows in a response header which build and which configuration answers. */
class Chaos {
  readonly gateway: Gateway;
  #generation = 0;

  private constructor(gateway: Gateway) {
    this.gateway = gateway;
  }

  static async start(
    t: TestContext,
    mode: 'delta' | 'sotw',
    env: Record<string, string> = {},
  ): Promise<Chaos> {
    return new Chaos(await Gateway.start(t, { mode, agent: { env } }));
  }

  /** Puts a build under a tag. */
  async publish(tag: string): Promise<string> {
    const { path } = await buildHeaderPlugin(tag);
    return (await this.gateway.registry.pushImage({ repository, tag, layout: 'compat', wasm: path })).url;
  }

  /** Pushes a new configuration of a build; returns what answers must show when it is in force. */
  push(url: string, label: string, extra: Partial<Parameters<typeof wasmPlugin>[0]> = {}) {
    this.#generation += 1;
    const plugin: WasmPlugin = wasmPlugin({
      name: 'header',
      url,
      pluginConfig: { response_headers: { 'x-generation': String(this.#generation) } },
      resourceVersion: String(this.#generation),
      ...extra,
    });
    const { version } = this.gateway.apply([plugin]);
    return { version, name: plugin.name, shown: `${label}/${this.#generation}` };
  }

  /** `build/generation` of one answer, `none` without the plugin. */
  async shown(): Promise<string> {
    const { headers, status } = await httpGet(`${this.gateway.url}/productpage`);
    if (status !== 200) return `status ${status}`;
    const build = headers['x-plugin-build'];
    return build === undefined ? 'none' : `${build}/${headers['x-generation'] ?? ''}`;
  }

  async until(shown: string): Promise<void> {
    await poll(
      async () => {
        const seen = await this.shown();
        return seen === shown ? { done: true, value: undefined } : { done: false, seen };
      },
      { what: `Answers by ${shown}`, deadlineMs: healDeadlineMs },
    );
  }

  /** What istiod was told was about its newest push, and each push had one NACK at most. */
  assertVerdicts(): void {
    const { entries } = this.gateway.controlPlane.journal;
    const nackCounts = new Map<string, number>();
    for (const entry of entries) {
      if (entry.kind !== 'request' || !entry.request.typeUrl.endsWith('.TypedExtensionConfig')) continue;
      assert.notEqual(entry.verdict, 'stale_nack', 'an older push is never answered with a NACK');
      if (entry.verdict !== 'nack') continue;
      const key = `${entry.streamId} ${entry.request.nonce}`;
      nackCounts.set(key, (nackCounts.get(key) ?? 0) + 1);
    }
    for (const [nonce, count] of nackCounts) assert.equal(count, 1, nonce);
  }

  /** Requests without pause until `stop` is called; gives all that they showed. */
  watch(): { stop: () => Promise<ReadonlySet<string>> } {
    const stopped = new AbortController();
    const seen = new Set<string>();
    const running = (async () => {
      while (!stopped.signal.aborted) seen.add(await this.shown());
    })();
    return {
      async stop() {
        stopped.abort();
        await running;
        return seen;
      },
    };
  }
}

for (const mode of modes) {
  describe(`chaos over ${mode}`, { skip: skipReason }, () => {
    const faults: readonly [string, Fault, object][] = [
      ['a registry that resets connections', { kind: 'disconnect' }, anything],
      ['a registry in trouble', { kind: 'status', status: 503 }, anything],
      ['a rate limit', { kind: 'status', status: 429, headers: { 'retry-after': '1' } }, anything],
      [
        'a proxy page in the place of the module',
        { kind: 'status', status: 200, body: '<html>login</html>' },
        blobs,
      ],
      ['a truncated blob', { kind: 'cut', afterBytes: 1_000 }, blobs],
      ['an altered blob', { kind: 'wrong-bytes', atByte: 500 }, blobs],
    ];
    for (const [name, fault, match] of faults) {
      test(`${name}: the update waits, the old build serves, then it heals by itself`, async (t) => {
        const chaos = await Chaos.start(t, mode);
        const { controlPlane, registry } = chaos.gateway;
        const first = chaos.push(await chaos.publish('one'), 'one');
        await chaos.until(first.shown);
        await controlPlane.waitForAck('ecds', { version: first.version });
        const url = await chaos.publish('two');
        registry.http.script(match, fault);
        const watching = chaos.watch();
        const second = chaos.push(url, 'two');
        const nack = await controlPlane.waitForNack('ecds', { version: second.version, timeoutMs: 40_000 });
        assert.ok(nack.message.startsWith(`${second.name}: `), nack.message);
        assert.equal(await chaos.shown(), first.shown);
        registry.http.heal();
        // A content fault is tried again after minutes: a new push is what an operator would do.
        const status = await chaos.gateway.plugin(second.name);
        const isSlow = Date.parse(String(status?.['nextRetryAt'])) - Date.now() > 10_000;
        const last = isSlow ? chaos.push(url, 'two') : second;
        await chaos.until(last.shown);
        await controlPlane.waitForAck('ecds', { version: last.version });
        const seen = await watching.stop();
        assert.deepEqual(
          [...seen].sort(),
          [first.shown, last.shown].sort(),
          'no request was lost or unfiltered',
        );
        chaos.assertVerdicts();
      });
    }

    test('a slow trickle: the old build serves until the new one is whole', async (t) => {
      const chaos = await Chaos.start(t, mode);
      const { controlPlane, registry } = chaos.gateway;
      const first = chaos.push(await chaos.publish('one'), 'one');
      await chaos.until(first.shown);
      const url = await chaos.publish('two');
      const drops = Array.from({ length: 60 }, (_, index) => ({
        kind: 'stall' as const,
        afterBytes: (index + 1) * 100,
        until: () => sleep(50),
      }));
      registry.http.script(blobs, ...drops);
      const watching = chaos.watch();
      const second = chaos.push(url, 'two');
      await chaos.until(second.shown);
      await controlPlane.waitForAck('ecds', { version: second.version });
      const seen = await watching.stop();
      assert.deepEqual([...seen].sort(), [first.shown, second.shown].sort());
      assert.equal(controlPlane.counter('pilot_total_xds_rejects', 'ecds'), 0);
      chaos.assertVerdicts();
    });

    test('a newer push ends a trickle that would not', async (t) => {
      const chaos = await Chaos.start(t, mode);
      const { controlPlane, registry } = chaos.gateway;
      const urls = [await chaos.publish('one'), await chaos.publish('two')];
      const first = chaos.push(urls[0] ?? '', 'one');
      await chaos.until(first.shown);
      const stalled = Promise.withResolvers<void>();
      const until = async (): Promise<void> => {
        stalled.resolve();
        await new Promise(() => undefined);
      };
      registry.http.script({ ...blobs, times: 1 }, { kind: 'stall', afterBytes: 1_000, until });
      chaos.push(urls[1] ?? '', 'two');
      await stalled.promise;
      const last = chaos.push(await chaos.publish('three'), 'three');
      await chaos.until(last.shown);
      await controlPlane.waitForAck('ecds', { version: last.version });
      chaos.assertVerdicts();
    });

    test('a clock that jumps, forth and back: what fails heals, what runs stays, over a restart too', async (t) => {
      const dayMs = 86_400_000;
      const env = {
        NODE_OPTIONS: `--import=${new URL('../support/shifted-clock.ts', import.meta.url).href}`,
        CLOCK_JUMPS_MS: `${30 * dayMs},${-60 * dayMs}`,
      };
      const chaos = await Chaos.start(t, mode, env);
      const { controlPlane, registry } = chaos.gateway;
      const urls = [await chaos.publish('one'), await chaos.publish('two')];
      let last = chaos.push(urls[0] ?? '', 'one');
      await chaos.until(last.shown);
      await controlPlane.waitForAck('ecds', { version: last.version });
      const watching = chaos.watch();
      const shown = new Set([last.shown]);
      for (const [index, label, jump] of [
        [1, 'two', /clock jump 1 to/],
        [0, 'one', /clock jump 2 to/],
      ] as const) {
        registry.http.script(anything, { kind: 'status', status: 503 });
        last = chaos.push(urls[index] ?? '', label, { imagePullPolicy: 'Always' });
        shown.add(last.shown);
        await controlPlane.waitForNack('ecds', { version: last.version, timeoutMs: 40_000 });
        // While the next try is waited for.
        chaos.gateway.agent.signal('SIGUSR2');
        await chaos.gateway.agent.waitForLog(jump);
        registry.http.heal();
        await chaos.until(last.shown);
        await controlPlane.waitForAck('ecds', { version: last.version });
      }
      const seen = await watching.stop();
      assert.deepEqual([...seen].sort(), [...shown].sort());
      await registry.close();
      await chaos.gateway.restartAgent('kill');
      await chaos.until(last.shown);
      chaos.assertVerdicts();
    });

    test('two pushes a second while the registry flaps: the newest wins, no request is lost', async (t) => {
      const chaos = await Chaos.start(t, mode);
      const { registry, controlPlane } = chaos.gateway;
      const urls = [await chaos.publish('one'), await chaos.publish('two')];
      const first = chaos.push(urls[0] ?? '', 'one');
      await chaos.until(first.shown);
      const watching = chaos.watch();
      let last = first;
      for (let round = 0; round < 16; round++) {
        if (round % 3 === 0) registry.http.script(anything, { kind: 'disconnect' });
        else registry.http.heal();
        const index = round % 2;
        last = chaos.push(urls[index] ?? '', index === 0 ? 'one' : 'two', { imagePullPolicy: 'Always' });
        await sleep(500);
      }
      registry.http.heal();
      await chaos.until(last.shown);
      await controlPlane.waitForAck('ecds', { version: last.version, timeoutMs: healDeadlineMs });
      const seen = await watching.stop();
      assert.ok(!seen.has('none'), 'no request passed unfiltered');
      assert.ok(![...seen].some((shown) => shown.startsWith('status')), [...seen].join(' '));
      chaos.assertVerdicts();
    });

    test('a tag that moves is followed with Always', async (t) => {
      const chaos = await Chaos.start(t, mode);
      const { registry } = chaos.gateway;
      const [one, two] = await Promise.all([buildHeaderPlugin('one'), buildHeaderPlugin('two')]);
      const image = { repository, tag: 'moving', layout: 'compat' } as const;
      const { url } = await registry.pushImage({ ...image, wasm: one.path });
      await chaos.until(chaos.push(url, 'one', { imagePullPolicy: 'Always' }).shown);
      await registry.pushImage({ ...image, wasm: two.path });
      await chaos.until(chaos.push(url, 'two', { imagePullPolicy: 'Always' }).shown);
    });

    test('killed at random moments, agent and Envoy come back with the right plugin', async (t) => {
      const chaos = await Chaos.start(t, mode);
      const { registry } = chaos.gateway;
      const urls = [await chaos.publish('one'), await chaos.publish('two')];
      const endings = ['kill', 'kill-agent', 'kill-envoy'] as const;
      for (let round = 0; round < 6; round++) {
        const index = round % 2;
        // Some ends come while a module is written.
        if (index === 1)
          registry.http.script(blobs, { kind: 'stall', afterBytes: 500, until: () => sleep(100) });
        const pushed = chaos.push(urls[index] ?? '', index === 0 ? 'one' : 'two');
        await sleep(Math.random() * 200);
        await chaos.gateway.restartAgent(endings[round % endings.length] ?? 'kill');
        await chaos.until(pushed.shown);
        registry.http.heal();
      }
      const last = chaos.push(urls[0] ?? '', 'one');
      await chaos.until(last.shown);
      await chaos.gateway.controlPlane.waitForAck('ecds', { version: last.version });
      chaos.assertVerdicts();
    });

    test('a full disk keeps the old build in force and heals when there is room', async (t) => {
      const volume = mkdtempSync(join(tmpdir(), 'ferry-volume-'));
      t.after(() => {
        spawnSync('umount', ['-l', volume]);
        rmSync(volume, { recursive: true, force: true });
      });
      const probe = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', volume]);
      if (probe.status !== 0) {
        t.skip('a small file system cannot be mounted here');
        return;
      }

      const chaos = await Chaos.start(t, mode, { WASM_DATA_DIR: join(volume, 'data') });
      const { controlPlane } = chaos.gateway;
      const first = chaos.push(await chaos.publish('one'), 'one');
      await chaos.until(first.shown);
      await controlPlane.waitForAck('ecds', { version: first.version });
      spawnSync('sh', ['-c', `cat /dev/zero > ${volume}/filler`]);
      const second = chaos.push(await chaos.publish('two'), 'two');
      const nack = await controlPlane.waitForNack('ecds', { version: second.version, timeoutMs: 40_000 });
      assert.match(nack.message, /space|full/i);
      assert.equal(await chaos.shown(), first.shown);
      spawnSync('rm', [join(volume, 'filler')]);
      await chaos.until(second.shown);
      await controlPlane.waitForAck('ecds', { version: second.version });
      chaos.assertVerdicts();
    });
  });
}
