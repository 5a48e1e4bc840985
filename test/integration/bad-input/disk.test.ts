import assert from 'node:assert/strict';
import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import test, { type TestContext } from 'node:test';
import { wasmModule } from '../../agent/fetch/module-bytes.ts';
import { typeUrls } from '../../support/control-plane/type-urls.ts';
import type { Workspace } from '../../support/workspace.ts';
import { checkInForce, checkRefused, checkStop } from './checks.ts';
import { moduleFileOf } from './played-envoy.ts';
import { PrivateVolume } from './private-volume.ts';
import { Scene } from './scene.ts';

const dataFolder = 'var/lib/istio/data';

/** A scene whose data folder is a small volume; undefined, with the reason printed, where none can be mounted. */
async function sceneOnVolume(
  t: TestContext,
  options: string,
): Promise<{ readonly scene: Scene; readonly volume: PrivateVolume } | undefined> {
  let volume: PrivateVolume | string = '';
  const scene = await Scene.start(t, {
    env: { WASM_HTTP_REQUEST_MAX_RETRIES: '1' },
    prepare: async (workspace) => {
      const mountPoint = workspace.path('volume');
      await mkdir(mountPoint);
      volume = await PrivateVolume.mount(mountPoint, options);
      if (typeof volume === 'string') return {};
      t.after(volume[Symbol.asyncDispose].bind(volume));
      return { WASM_DATA_DIR: volume.path };
    },
  });
  if (typeof volume !== 'string') return { scene, volume };
  t.skip(volume);
  return undefined;
}

function targetFile(scene: Scene): string {
  const held = scene.envoy.held(typeUrls.ecds, scene.targetName);
  return moduleFileOf(held ?? Buffer.alloc(0)) ?? '';
}

/** Tries again where the agent wrote its index in between. */
async function deleteDataFolder(scene: Scene): Promise<void> {
  await rm(scene.workspace.path(dataFolder), { recursive: true, maxRetries: 5 });
}

test('a data folder that becomes read-only', async (t) => {
  const at = await sceneOnVolume(t, 'size=4m');
  if (at === undefined) return;
  const { scene, volume } = at;
  await scene.ready();
  await volume.remount('ro');
  await checkRefused(scene, [scene.target(await scene.origin.put('/new.wasm', wasmModule('new')))], {
    reason:
      /cannot write \S+\/ingest\/\S+: EROFS; the file system is read-only: mount a writable volume there/,
    isNeighbourCached: true,
    heal: async () => volume.remount('rw'),
  });
  await checkStop(scene);
});

test('a volume that fills up', async (t) => {
  const at = await sceneOnVolume(t, 'size=256k');
  if (at === undefined) return;
  const { scene, volume } = at;
  await scene.ready();
  const url = await scene.origin.put('/large.wasm', wasmModule('x'.repeat(1_000_000)));
  await checkRefused(scene, [scene.target(url)], {
    reason:
      /cannot write \S+\/ingest\/\S+: ENOSPC; the volume is full and no unused module is left to delete: free space or give it a larger one/,
    // With room, the plugin comes by itself: the fetch is tried again, and istiod gets its ACK.
    heal: async () => {
      await volume.remount('size=8m');
      await scene.controlPlane.waitForAck('ecds');
    },
  });
  await checkStop(scene);
});

test('a data folder that is deleted under the running agent', async (t) => {
  const scene = await Scene.start(t);
  await scene.ready();
  await deleteDataFolder(scene);
  await scene.pushGood();
  await deleteDataFolder(scene);
  // The same configs again, as after a restart of Envoy: what they need is fetched anew.
  await scene.reconnect();
  await checkInForce(scene);
  await checkStop(scene);
});

test('a module that is altered on disk between two uses', async (t) => {
  const scene = await Scene.start(t, { env: { WASM_HTTP_REQUEST_MAX_RETRIES: '1' } });

  await t.test('is fetched anew', async () => {
    await scene.ready();
    const path = targetFile(scene);
    const good = await readFile(path);
    await chmod(path, 0o640);
    await writeFile(path, 'altered');
    await scene.reconnect();
    assert.equal(targetFile(scene), path);
    assert.deepEqual(await readFile(path), good);
    await checkInForce(scene);
  });

  await t.test('is not given out while it cannot be fetched', async () => {
    const path = targetFile(scene);
    await chmod(path, 0o640);
    await writeFile(path, 'altered again');
    const before = scene.envoy.held(typeUrls.ecds, scene.targetName);
    scene.origin.http.script({ path: /target/ }, { kind: 'status', status: 500 });
    scene.envoy.connect();
    const { message } = await scene.controlPlane.waitForNack('ecds');
    assert.match(message, /status code 500/);
    assert.equal((await scene.seen(scene.targetName))?.inForce, 'plugin');
    assert.deepEqual(scene.envoy.held(typeUrls.ecds, scene.targetName), before);
    await assert.rejects(readFile(path), { code: 'ENOENT' });
    scene.origin.http.heal();
    // Tried again by itself, without a push.
    await scene.controlPlane.waitForAck('ecds');
    await checkInForce(scene);
    await scene.pushGood();
  });

  await t.test('the agent still ends when it is told to', async () => checkStop(scene));
});

const damagedIndexes: readonly (readonly [
  string,
  (workspace: Workspace, path: string) => Promise<unknown>,
  RegExp,
])[] = [
  [
    'that is garbage',
    (workspace, path) => workspace.write(path, Buffer.of(0xff, 0x00, 0x7b)),
    /the record index is damaged, it is set aside and starts empty\t.*reason=it is not JSON/,
  ],
  [
    'of a strange form',
    (workspace, path) => workspace.write(path, '{"version":1,"records":"none"}'),
    /the record index is damaged, it is set aside and starts empty\t.*reason=its records are not pairs of key and value/,
  ],
  [
    'that is a folder',
    (workspace, path) => mkdir(workspace.path(path)),
    /the record index is damaged, it is set aside and starts empty\t.*reason=it is not a regular file/,
  ],
];

for (const [input, damage, logLine] of damagedIndexes) {
  test(`an index file ${input}`, async (t) => {
    const prepare = async (workspace: Workspace) => {
      await damage(workspace, `${dataFolder}/modules.json`);
      return {};
    };
    const scene = await Scene.start(t, { prepare });
    await scene.ready();
    await scene.agent.waitForLog(logLine);
    await scene.reconnect();
    await checkInForce(scene);
    await checkStop(scene);
    const { version } = JSON.parse(
      await readFile(scene.workspace.path(`${dataFolder}/modules.json`), 'utf8'),
    );
    assert.equal(version, 1);
  });
}
