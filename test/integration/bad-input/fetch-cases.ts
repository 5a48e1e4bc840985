import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import type { TestContext } from 'node:test';
import { wasmModule } from '../../agent/fetch/module-bytes.ts';
import { pluginResource } from '../../agent/wasm/extension-fixtures.ts';
import type { Resource } from '../../support/control-plane/discovery-messages.ts';
import type { WasmPluginOptions } from '../../support/control-plane/extension-configs.ts';
import { httpGet } from '../../support/http-get.ts';
import { checkRefused, checkStop, type ExpectedFailure } from './checks.ts';
import { Scene } from './scene.ts';

/** Modules of these tests are small; what is over this is too large. */
const maxModuleBytes = 64 * 1024;
const attemptTimeoutMs = 1_500;

/** A page such as proxies and login walls answer with. */
export const html = '<!DOCTYPE html><html><body>Sign in</body></html>';

/** What no log line, verdict or page may show. */
export const secret = 'hunter2';

/** What istiod asks for. */
export interface Wanted extends Partial<WasmPluginOptions> {
  readonly url: string;
  /** The deadline of the whole fetch; default istiod's 30 s. */
  readonly timeoutSeconds?: number;
}

/** A place a module may come from, which does something wrong. */
export interface FetchCase<Place> extends ExpectedFailure {
  readonly input: string;
  /** `name` is good for paths and differs in each case. */
  readonly want: (place: Place, name: string) => Wanted | Promise<Wanted>;
}

/** A scene with low bounds and one attempt at each download, so that every case is short. */
export async function startFetchScene(test: TestContext): Promise<Scene> {
  return await Scene.start(test, {
    env: {
      ISTIO_WASM_MAX_BINARY_SIZE_BYTES: String(maxModuleBytes),
      WASM_HTTP_REQUEST_TIMEOUT: `${attemptTimeoutMs}ms`,
      WASM_HTTP_REQUEST_MAX_RETRIES: '1',
    },
  });
}

/** Runs every case on one agent, then looks at what is left of them. */
export async function runFetchCases<Place>(
  test: TestContext,
  options: { readonly scene: Scene; readonly place: Place; readonly cases: readonly FetchCase<Place>[] },
): Promise<void> {
  const { scene, place, cases } = options;
  for (const [index, { input, want, ...expected }] of cases.entries()) {
    await test.test(input, async () => {
      await scene.ready();
      const { url, timeoutSeconds, ...wanted } = await want(place, `case-${index}`);
      const resource =
        timeoutSeconds === undefined ? scene.target(url, wanted) : targetWithin(scene, url, timeoutSeconds);
      await checkRefused(scene, [resource], expected);
    });
  }
  await test.test('no half-written file is left, and no secret was shown', async () => {
    assert.deepEqual(await readdir(scene.workspace.path('var/lib/istio/data/ingest')), []);
    const verdicts = scene.controlPlane.journal.entries.flatMap((entry) =>
      entry.kind === 'request' ? (entry.request.error?.message ?? []) : [],
    );
    const { text: page } = await httpGet(`${scene.agent.statusUrl}/debug/wasm`);
    for (const shown of [...verdicts, ...scene.agent.logLines, page]) {
      assert.ok(!shown.includes(secret), shown);
    }
    assert.ok(verdicts.length >= cases.length);
  });
  await test.test('the agent still ends when it is told to', async () => checkStop(scene));
}

/** A whole module that is over the bound of these scenes by far, by its own size or once it is unpacked. */
export function bigModule(name: string, sizeBytes: number = maxModuleBytes): Buffer {
  return Buffer.concat([wasmModule(name), Buffer.alloc(sizeBytes)]);
}

/** A config with another deadline than istiod's. */
function targetWithin(scene: Scene, url: string, timeoutSeconds: number): Resource {
  const { typeUrl, value } = pluginResource({ name: scene.targetName, url, timeoutSeconds });
  return { name: scene.targetName, typeUrl, value: Buffer.from(value) };
}
