import assert from 'node:assert/strict';
import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { decideModule } from '../../../agent/policy/policy.ts';
import { type Policy, permissivePolicy } from '../../../agent/policy/policy-data.ts';
import { PolicyFileError } from '../../../agent/policy/policy-problem.ts';
import { PolicyStore, type PolicyStoreOptions } from '../../../agent/policy/policy-store.ts';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { ConfigMapMount } from '../../support/config-map.ts';
import { createKeptLog, type KeptLog } from './kept-log.ts';
import { allowAll, createPolicyFolder, denyAll, type PolicyFolder } from './policy-fixture.ts';

interface Scene extends AsyncDisposable {
  readonly folder: PolicyFolder;
  readonly store: PolicyStore;
  readonly kept: KeptLog;
}

/** A store on a folder. By default only events make it read: what they miss is a failure. */
async function openStore(folder: PolicyFolder, options: Partial<PolicyStoreOptions> = {}): Promise<Scene> {
  const kept = createKeptLog();
  const store = await PolicyStore.open({
    path: folder.file,
    log: kept.log,
    debounceMs: 5,
    pollIntervalMs: 3_600_000,
    ...options,
  });
  return {
    folder,
    store,
    kept,
    [Symbol.asyncDispose]: async () => {
      await store.close();
      await folder[Symbol.asyncDispose]();
    },
  };
}

async function openText(text: string, options: Partial<PolicyStoreOptions> = {}): Promise<Scene> {
  const folder = await createPolicyFolder();
  await folder.write('policy.yaml', text);
  return openStore(folder, options);
}

/** Resolves with the next change of the policy in force. */
async function nextChange(store: PolicyStore): Promise<readonly [Policy, Policy]> {
  const { promise, resolve } = Promise.withResolvers<readonly [Policy, Policy]>();
  const stop = store.onChange((policy, before) => resolve([policy, before]));
  return promise.finally(stop);
}

/** Only what a test asks for is read: events come too late. */
const byHand = { debounceMs: 3_600_000 };

const refusedLine = 'the last good policy stays in force';
const isAllowed = (policy: Policy): boolean =>
  decideModule(policy, { kind: 'remote', url: 'oci://reg.test/a' }).allowed;

describe('the policy at start', () => {
  test('is permissive where no file is named, and nothing is watched', async () => {
    const { log, lines } = createKeptLog();
    const store = await PolicyStore.open({ path: undefined, log });
    await store.reload();
    assert.equal(store.current, permissivePolicy);
    assert.deepEqual(store.errors, []);
    assert.equal(store.status().file, undefined);
    await store.close();
    assert.deepEqual(lines, []);
  });

  test('is an error where the file is missing', async () => {
    await using folder = await createPolicyFolder();
    await assert.rejects(PolicyStore.open({ path: folder.file, log: createKeptLog().log }), (error) => {
      assert.ok(error instanceof PolicyFileError);
      assert.equal(error.code, 'unreadable');
      assert.ok(error.message.includes(`${folder.file}: the file does not exist`), error.message);
      return true;
    });
  });

  test('is an error with every fault where the file has some', async () => {
    await using folder = await createPolicyFolder();
    await folder.write('policy.yaml', `${denyAll}capz: {}\nmodules: 1\n`);
    await assert.rejects(PolicyStore.open({ path: folder.file, log: createKeptLog().log }), (error) => {
      assert.ok(error instanceof PolicyFileError);
      assert.equal(error.code, 'invalid');
      assert.match(
        error.message,
        /policy\.yaml:3:1: capz: is unknown; did you mean caps\?.*\n.*policy\.yaml:4:10: modules: /s,
      );
      return true;
    });
  });

  test('is told in the log and on the debug page', async () => {
    await using scene = await openText(denyAll, { now: () => 0 });
    const { store, kept } = scene;
    assert.match(kept.lines.join(''), /Wasm policy is in force\t.*defaultAction=deny ruleCount=0/);
    assert.deepEqual(store.status(), {
      file: scene.folder.file,
      generation: 1,
      revision: store.current.revision,
      loadedAt: '1970-01-01T00:00:00.000Z',
      problems: [],
      refusedAt: undefined,
    });
  });
});

describe('a changed policy file', () => {
  test('is in force after the swap of a ConfigMap, again and again', async () => {
    const folder = await createPolicyFolder();
    const mount = await ConfigMapMount.create(folder.path, { 'policy.yaml': denyAll });
    await using scene = await openStore(folder);
    const { store } = scene;
    assert.equal(isAllowed(store.current), false);
    for (const [text, allowed] of [
      [allowAll, true],
      [denyAll, false],
      [allowAll, true],
    ] as const) {
      const before = store.current;
      const changed = nextChange(store);
      await mount.swap({ 'policy.yaml': text });
      const [policy, old] = await changed;
      assert.equal(old, before);
      assert.equal(policy, store.current);
      assert.equal(isAllowed(policy), allowed);
    }
  });

  test('is in force after an edit in place and after a rename over it', async () => {
    await using scene = await openText(denyAll);
    const { store, folder } = scene;
    const edited = nextChange(store);
    await folder.write('policy.yaml', allowAll);
    assert.equal(isAllowed((await edited)[0]), true);
    const renamed = nextChange(store);
    await folder.write('policy.new', denyAll);
    await rename(join(folder.path, 'policy.new'), folder.file);
    assert.equal(isAllowed((await renamed)[0]), false);
  });

  test('is found by looking where no event tells of it', async () => {
    const folder = await createPolicyFolder();
    const target = await folder.write('elsewhere/policy.yaml', denyAll);
    await symlink(target, folder.file);
    await using scene = await openStore(folder, { pollIntervalMs: 10 });
    const changed = nextChange(scene.store);
    await writeFile(target, allowAll);
    assert.equal(isAllowed((await changed)[0]), true);
  });

  test('is found in a folder that was taken away and made again', async () => {
    const folder = await createPolicyFolder();
    const home = join(folder.path, 'mount');
    const file = await folder.write('mount/policy.yaml', denyAll);
    await using scene = await openStore(folder, { path: file, pollIntervalMs: 10 });
    const { store, kept } = scene;
    const refused = kept.next(refusedLine);
    await rm(home, { recursive: true });
    await refused;
    const changed = nextChange(store);
    await mkdir(home);
    await writeFile(file, allowAll);
    assert.equal(isAllowed((await changed)[0]), true);
    // The new folder gives events too.
    const again = nextChange(store);
    await writeFile(file, denyAll);
    assert.equal(isAllowed((await again)[0]), false);
  });

  test('is in force also when only a file that it names has changed', async () => {
    const folder = await createPolicyFolder();
    const text = `${allowAll}registries: { reg.test: { caFile: tls/ca.pem } }\n`;
    await folder.write('tls/ca.pem', Authority.createRoot().certificate);
    await folder.write('policy.yaml', text);
    await using scene = await openStore(folder);
    const { store } = scene;
    const before = store.current.revision;
    const changed = nextChange(store);
    await folder.write('tls/ca.pem', Authority.createRoot().certificate);
    assert.notEqual((await changed)[0].revision, before);
  });
});

describe('a policy file with faults', () => {
  test('leaves the last good policy in force until it is mended', async () => {
    const folder = await createPolicyFolder();
    const mount = await ConfigMapMount.create(folder.path, { 'policy.yaml': denyAll });
    await using scene = await openStore(folder, { now: () => 0 });
    const { store, kept } = scene;
    const good = store.current;
    let changeCount = 0;
    store.onChange(() => {
      changeCount += 1;
    });

    const refused = kept.next('problem of the Wasm policy file');
    await mount.swap({ 'policy.yaml': `${allowAll}modulez: []\n` });
    assert.match(await refused, /policy\.yaml:3:1: modulez: is unknown; did you mean modules\?/);
    assert.equal(store.current, good);
    assert.deepEqual(
      store.errors.map(({ line, column, path }) => [line, column, path]),
      [[3, 1, 'modulez']],
    );
    const { problems, refusedAt } = store.status();
    assert.equal(problems.length, 1);
    assert.equal(refusedAt, '1970-01-01T00:00:00.000Z');
    assert.equal(changeCount, 0);

    const mended = nextChange(store);
    await mount.swap({ 'policy.yaml': allowAll });
    await mended;
    assert.deepEqual(store.errors, []);
    assert.equal(store.status().refusedAt, undefined);
    assert.equal(changeCount, 1);
  });

  test('that is deleted leaves the last good policy, and its return changes nothing', async () => {
    await using scene = await openText(denyAll);
    const { store, folder, kept } = scene;
    const good = store.current;
    const refused = kept.next('problem of the Wasm policy file');
    await rm(folder.file);
    assert.match(await refused, /the file does not exist/);
    assert.equal(store.current, good);
    const back = kept.next('good again');
    await folder.write('policy.yaml', denyAll);
    await back;
    assert.equal(store.current, good);
    assert.deepEqual(store.errors, []);
  });

  test('is mended by the file that was missing', async () => {
    await using scene = await openText(allowAll);
    const { store, folder, kept } = scene;
    await mkdir(join(folder.path, 'tls'));
    const refused = kept.next(refusedLine);
    await folder.write('policy.yaml', `${allowAll}registries: { reg.test: { caFile: tls/ca.pem } }\n`);
    await refused;
    const mended = nextChange(store);
    const pem = await folder.write('ca.new', Authority.createRoot().certificate);
    await rename(pem, join(folder.path, 'tls/ca.pem'));
    assert.equal((await mended)[0].registries.size, 1);
  });

  test('is logged once, not with every reading', async () => {
    await using scene = await openText(denyAll, byHand);
    const { store, folder, kept } = scene;
    await folder.write('policy.yaml', `${denyAll}capz: 1\n`);
    await store.reload();
    await store.reload();
    await store.reload();
    assert.equal(kept.lines.filter((line) => line.includes(refusedLine)).length, 1);
  });

  test('has none of its secrets in the log', async () => {
    await using scene = await openText(denyAll, byHand);
    const { store, folder, kept } = scene;
    const { key } = Authority.createRoot().issue(['client.test']);
    const secretLine = key.split('\n')[1] ?? '';
    const url = 'https://user:hunter2@web.test/?token=hunter2';
    await folder.write(
      'policy.yaml',
      `${denyAll}modules: [{ url: "${url}", action: allow }]\ndefaults: { maxHold: ${JSON.stringify(key)} }\n`,
    );
    await store.reload();
    const told = `${kept.lines.join('')}${JSON.stringify(store.status())}`;
    assert.match(told, /there is a private key/);
    assert.ok(!told.includes(secretLine) && !told.includes('hunter2'), told);
  });
});

describe('reloads', () => {
  test('that come together end with the newest file', async () => {
    await using scene = await openText(denyAll);
    const { store, folder } = scene;
    const changes: Policy[] = [];
    store.onChange((policy) => changes.push(policy));
    const running: Promise<void>[] = [];
    for (let round = 0; round < 20; round += 1) {
      await folder.write('policy.new', round % 2 === 0 ? allowAll : denyAll);
      await rename(join(folder.path, 'policy.new'), folder.file);
      running.push(store.reload(), store.reload());
    }
    await folder.write('policy.new', `${allowAll}caps: { maxMemoryPages: 7 }\n`);
    await rename(join(folder.path, 'policy.new'), folder.file);
    await store.reload();
    assert.equal(store.current.caps.maxMemoryPages, 7);
    await Promise.all(running);
    assert.equal(store.current.caps.maxMemoryPages, 7);
    assert.equal(changes.at(-1), store.current);
    // Each change is one: none is told twice.
    for (const [index, policy] of changes.entries()) {
      assert.notEqual(policy.revision, changes[index + 1]?.revision);
    }
  });

  test('of an unchanged file change nothing', async () => {
    await using scene = await openText(denyAll, byHand);
    const { store, folder } = scene;
    const before = store.current;
    await folder.write('policy.yaml', denyAll);
    await store.reload();
    assert.equal(store.current, before);
  });
});

describe('who listens to a policy', () => {
  test('hears of changes until it stops, whatever another listener does', async () => {
    await using scene = await openText(denyAll, byHand);
    const { store, folder, kept } = scene;
    const heard: string[] = [];
    store.onChange(() => {
      throw new Error('cannot take it');
    });
    const stop = store.onChange(() => heard.push('first'));
    store.onChange(() => heard.push('second'));
    await folder.write('policy.yaml', allowAll);
    await store.reload();
    stop();
    await folder.write('policy.yaml', denyAll);
    await store.reload();
    assert.deepEqual(heard, ['first', 'second', 'second']);
    assert.equal(kept.lines.filter((line) => line.includes('cannot take it')).length, 2);
  });

  test('hears nothing after the end, and the policy stays', async () => {
    await using scene = await openText(denyAll, byHand);
    const { store, folder } = scene;
    const before = store.current;
    store.onChange(() => assert.fail('heard a change'));
    await folder.write('policy.yaml', allowAll);
    await Promise.all([store.reload(), store.close()]);
    await store.reload();
    await store.close();
    assert.equal(store.current, before);
  });
});
