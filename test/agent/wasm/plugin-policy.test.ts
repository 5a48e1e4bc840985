import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { anyPack, StructSchema } from '@bufbuild/protobuf/wkt';
import { permissivePolicy } from '../../../agent/policy/policy-data.ts';
import { loadJsonFilters } from '../../../agent/wasm/json-filters.ts';
import { typeUrls } from '../../../proto/type-urls.ts';
import { temporaryFolder } from '../../support/test-end.ts';
import { pluginModule } from '../../support/wasm-fixtures/plugin-module.ts';
import { allowAll, denyAll, policyOf } from '../policy/policy-fixture.ts';
import { publicKeyPem } from '../policy/signer-fixture.ts';
import { extensionResource } from './extension-fixtures.ts';
import { digest, moduleUrl, otherDigest, PolicedPlugin, pluginName } from './policed-plugin.ts';

/** A policy that allows the plugin's registry, on these terms. */
const allowing = (terms = '', more = ''): ReturnType<typeof policyOf> =>
  policyOf(`${denyAll}modules: [{ registry: reg.test, action: allow${terms} }]\n${more}`);
const denying = (terms = ''): ReturnType<typeof policyOf> =>
  policyOf(`${denyAll}modules: [{ repository: reg.test/jwt, action: deny${terms} }]\n`);
const signers = `signers: { release: { key: { publicKeys: [${JSON.stringify(publicKeyPem)}] } } }\n`;
const signature = { signer: 'release', proof: 'key' };
const refused = /^refused by policy: /;

before(loadJsonFilters);

describe('a module that the policy refuses', () => {
  test('is not asked for, and its fail strategy stands in', async (context) => {
    const plugin = await PolicedPlugin.open(context, await denying());
    plugin.push();
    assert.match(await plugin.events.next(), refused);
    assert.equal(await plugin.events.next(), 'fallback');
    plugin.accept();
    assert.deepEqual(plugin.questions.left, []);
    assert.equal(plugin.status.retry, 'none');
    assert.equal(plugin.status.isLastErrorOfPolicy, true);
    assert.match(await plugin.metrics.exposition(), /ferry_wasm_refusals_total\{reason="policy_refused"\} 1/);
  });

  for (const [terms, next] of [
    ['', 'an update that it may have'],
    [', onTightened: failStrategy', 'fallback'],
  ] as const) {
    test(`as an update${terms} leads to: ${next}`, async (context) => {
      const policy = await policyOf(
        `${denyAll}modules:\n  - { repository: reg.test/new, action: deny${terms} }\n  - { registry: reg.test, action: allow }\n`,
      );
      const plugin = await PolicedPlugin.open(context, policy);
      await plugin.run();
      plugin.push({ url: 'oci://reg.test/new:1' });
      assert.match(await plugin.events.next(), refused);
      if (next === 'fallback') {
        assert.equal(await plugin.events.next(), 'fallback');
        return;
      }
      assert.equal(plugin.status.inForce, 'plugin');
      plugin.push({ url: 'oci://reg.test/other:1' });
      (await plugin.questions.next()).find(otherDigest);
      assert.equal(await plugin.events.next(), 'plugin');
    });
  }

  test('as an update whose digest is not listed follows the rule that lists', async (context) => {
    const plugin = await PolicedPlugin.open(
      context,
      await allowing(`, sha256: [${digest}], onTightened: failStrategy`),
    );
    await plugin.run();
    plugin.push({ url: 'oci://reg.test/jwt:2' });
    (await plugin.questions.next()).find(otherDigest);
    assert.match(await plugin.events.next(), /lists others/);
    assert.equal(await plugin.events.next(), 'fallback');
  });

  test('by its digest is refused after each fetch, until the digest is listed', async (context) => {
    const plugin = await PolicedPlugin.open(context, await allowing(`, sha256: [${otherDigest}]`));
    plugin.push();
    (await plugin.questions.next()).find(digest, { source: 'cache' });
    assert.match(
      await plugin.events.next(),
      /has the digests d{64}, and modules\[0\] in \S+ line 3 lists others/,
    );
    assert.equal(await plugin.events.next(), 'fallback');
    plugin.accept();
    plugin.setPolicy(await allowing(`, sha256: [${otherDigest}, ${digest}]`));
    (await plugin.questions.next()).find(digest, { source: 'cache' });
    assert.equal(await plugin.events.next(), 'plugin');
    plugin.accept();
    assert.equal(await plugin.events.next(), 'ok');
  });

  test('may be listed by any digest of its chain', async (context) => {
    const plugin = await PolicedPlugin.open(context, await allowing(`, sha256: [${otherDigest}]`));
    plugin.push();
    (await plugin.questions.next()).find(digest, { digests: { index: [otherDigest], module: digest } });
    assert.equal(await plugin.events.next(), 'plugin');
  });
});

describe('a policy that changes while a module is fetched', () => {
  test('ends the download of what it refuses now', async (context) => {
    const plugin = await PolicedPlugin.open(context, await allowing());
    plugin.push();
    const { signal, find } = await plugin.questions.next();
    plugin.setPolicy(await denying());
    assert.equal(signal.aborted, true);
    assert.match(await plugin.events.next(), refused);
    assert.equal(await plugin.events.next(), 'fallback');
    find();
    plugin.accept();
    assert.equal(plugin.status.inForce, 'fallback');
  });

  test('ends the wait for the next try of what it refuses now', async (context) => {
    const plugin = await PolicedPlugin.open(context, await allowing());
    plugin.push();
    (await plugin.questions.next()).fail('network');
    assert.equal(await plugin.events.next(), 'the registry says network');
    assert.equal(await plugin.events.next(), 'fallback');
    assert.equal(plugin.status.retry, 'waiting');
    plugin.setPolicy(await denying());
    assert.match(await plugin.events.next(), refused);
    assert.equal(plugin.status.retry, 'none');
    assert.deepEqual(plugin.questions.left, []);
  });

  test('has the module judged by the policy of now, also by its digest', async (context) => {
    const plugin = await PolicedPlugin.open(context, await allowing());
    plugin.push();
    const question = await plugin.questions.next();
    plugin.setPolicy(await allowing(`, sha256: [${otherDigest}]`));
    question.find();
    assert.match(await plugin.events.next(), refused);
    assert.equal(await plugin.events.next(), 'fallback');
    // Once more under the policy that came meanwhile.
    (await plugin.questions.next()).find();
    assert.match(await plugin.events.next(), refused);
    assert.deepEqual(plugin.questions.left, []);
  });

  test('counts up to the moment in which the config is sent', async (context) => {
    const folder = await PolicedPlugin.leaveBehind(context, await allowing());
    const plugin = await PolicedPlugin.open(context, await allowing(), folder);
    // What was kept before the restart is looked for on a slow disk, while the module is there.
    const release = plugin.holdDisk();
    plugin.push();
    (await plugin.questions.next()).find();
    await new Promise(setImmediate);
    plugin.setPolicy(await allowing(`, sha256: [${otherDigest}]`));
    release();
    (await plugin.questions.next()).find();
    assert.match(await plugin.events.next(), /lists others/);
    assert.equal(await plugin.events.next(), 'fallback');
  });

  test('has signatures looked for by the policy of now', async (context) => {
    const plugin = await PolicedPlugin.open(context, await allowing());
    plugin.push();
    const question = await plugin.questions.next();
    plugin.setPolicy(await allowing(', signers: [release]', signers));
    question.find();
    (await plugin.questions.next()).find(digest, { signature });
    assert.match(await plugin.events.next(), /no proven signature of release/);
  });
});

describe('an update that cannot be had', () => {
  for (const [terms, replaced] of [
    ['', false],
    [', onUpdateFailure: keep', false],
    [', onUpdateFailure: failStrategy', true],
  ] as const) {
    test(`${replaced ? 'replaces' : 'leaves'} what runs under the terms "${terms}"`, async (context) => {
      const plugin = await PolicedPlugin.open(context, await allowing(terms));
      await plugin.run();
      plugin.push({ url: 'oci://reg.test/jwt:2' });
      (await plugin.questions.next()).fail('not_found');
      assert.equal(await plugin.events.next(), 'the registry says not_found');
      assert.deepEqual(plugin.events.left, replaced ? ['fallback'] : []);
      assert.equal(plugin.status.retry, 'waiting');
    });
  }
});

describe('a first load that takes long', () => {
  test('is held no longer than the policy wants, and comes when it is there', async (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const plugin = await PolicedPlugin.open(context, await allowing(', maxHold: 5s'));
    plugin.push({ timeoutSeconds: 30 });
    const { find } = await plugin.questions.next();
    context.mock.timers.tick(4_999);
    assert.deepEqual(plugin.events.left, []);
    context.mock.timers.tick(1);
    assert.equal(await plugin.events.next(), 'fallback');
    plugin.accept();
    assert.equal(plugin.status.state, 'preparing');
    find();
    assert.equal(await plugin.events.next(), 'plugin');
    plugin.accept();
    assert.equal(await plugin.events.next(), 'ok');
    assert.deepEqual(
      plugin.status.history.map(({ what }) => what),
      ['pushed', 'hold-expired', 'fallback', 'offered', 'accepted'],
    );
  });

  test('is held no longer than its own timeout where that is less', async (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const plugin = await PolicedPlugin.open(context, await allowing(', maxHold: 5s'));
    plugin.push({ timeoutSeconds: 3 });
    const question = await plugin.questions.next();
    context.mock.timers.tick(60_000);
    question.fail('timeout');
    assert.equal(await plugin.events.next(), 'the registry says timeout');
    assert.equal(await plugin.events.next(), 'fallback');
  });

  test('leaves what runs alone when it is an update', async (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const plugin = await PolicedPlugin.open(context, await allowing(', maxHold: 5s'));
    await plugin.run();
    plugin.push({ url: 'oci://reg.test/jwt:2' });
    const question = await plugin.questions.next();
    context.mock.timers.tick(60_000);
    question.find(otherDigest);
    assert.equal(await plugin.events.next(), 'plugin');
  });
});

describe('a running plugin that a stricter policy refuses', () => {
  test('is kept by default; page and metrics say so until it is allowed again', async (context) => {
    const plugin = await PolicedPlugin.open(context, await allowing());
    await plugin.run();
    plugin.setPolicy(await denying());
    assert.deepEqual(plugin.events.left, []);
    assert.equal(plugin.status.state, 'active');
    assert.match(
      plugin.status.policyRefusal ?? '',
      /is denied by modules\[0\] in \S+ line 3 \(deny repository reg\.test\/jwt\)/,
    );
    assert.equal(plugin.status.history.at(-1)?.what, 'kept');
    assert.match(await plugin.metrics.exposition(), /policy_kept\{plugin="shop\.jwt"\} 1/);
    plugin.setPolicy(await allowing());
    assert.equal(plugin.status.policyRefusal, undefined);
    assert.doesNotMatch(await plugin.metrics.exposition(), /policy_kept\{/);
    assert.deepEqual(plugin.events.left, []);
  });

  test('is kept when the same config is pushed again, which istiod hears refused', async (context) => {
    const plugin = await PolicedPlugin.open(context, await allowing());
    await plugin.run();
    plugin.setPolicy(await denying());
    plugin.push();
    assert.match(await plugin.events.next(), refused);
    assert.deepEqual(plugin.events.left, []);
    assert.equal(plugin.status.inForce, 'plugin');
  });

  test('is replaced where its rule wants that, and comes back when it is allowed', async (context) => {
    const plugin = await PolicedPlugin.open(context, await allowing());
    await plugin.run();
    plugin.setPolicy(await denying(', onTightened: failStrategy'));
    assert.match(await plugin.events.next(), refused);
    assert.equal(await plugin.events.next(), 'fallback');
    plugin.accept();
    assert.deepEqual(
      plugin.status.history.map(({ what }) => what),
      ['pushed', 'offered', 'accepted', 'stopped', 'fallback'],
    );
    plugin.setPolicy(await allowing());
    (await plugin.questions.next()).find();
    assert.equal(await plugin.events.next(), 'plugin');
  });

  test('is replaced with the next push where no stream was there', async (context) => {
    const plugin = await PolicedPlugin.open(context, await allowing());
    await plugin.run();
    plugin.setPolicy(await denying(', onTightened: failStrategy'));
    plugin.connect();
    plugin.push();
    const seen = [];
    for (let index = 0; index < 4; index += 1) seen.push((await plugin.events.next()).replace(/ .*/, ''));
    assert.deepEqual(seen, ['refused', 'fallback', 'refused', 'fallback']);
  });

  test('by its digest is replaced by a module that is listed, where the tag names one', async (context) => {
    const plugin = await PolicedPlugin.open(context, await allowing());
    await plugin.run();
    plugin.setPolicy(await allowing(`, onTightened: failStrategy, sha256: [${otherDigest}]`));
    assert.match(await plugin.events.next(), /lists others/);
    assert.equal(await plugin.events.next(), 'fallback');
    (await plugin.questions.next()).find(otherDigest);
    assert.equal(await plugin.events.next(), 'plugin');
  });
});

describe('a running plugin whose signature is asked for only now', () => {
  const strict = (terms = ''): ReturnType<typeof policyOf> =>
    allowing(`, signers: [release]${terms}`, signers);

  test('runs on when it has one, which is remembered', async (context) => {
    const plugin = await PolicedPlugin.open(context, await allowing());
    await plugin.run();
    plugin.setPolicy(await strict(', onTightened: failStrategy'));
    (await plugin.questions.next()).find(digest, { signature });
    await new Promise(setImmediate);
    assert.equal(plugin.status.policyRefusal, undefined);
    plugin.setPolicy(await strict());
    assert.deepEqual([plugin.questions.left, plugin.events.left], [[], []]);
  });

  for (const [terms, replaced] of [
    ['', false],
    [', onTightened: failStrategy', true],
  ] as const) {
    test(`without one is ${replaced ? 'replaced' : 'kept'} under the terms "${terms}"`, async (context) => {
      const plugin = await PolicedPlugin.open(context, await allowing());
      await plugin.run();
      plugin.setPolicy(await strict(terms));
      const told = plugin.kept.next('the policy refuses a plugin that runs');
      (await plugin.questions.next()).fail('unsigned');
      await told;
      if (replaced) {
        assert.match(await plugin.events.next(), /no proven signature of release/);
        assert.equal(await plugin.events.next(), 'fallback');
      } else {
        assert.deepEqual(plugin.events.left, []);
        assert.match(plugin.status.policyRefusal ?? '', /no proven signature of release/);
      }
    });
  }

  test('runs on while its registry does not answer, and is looked after again', async (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const plugin = await PolicedPlugin.open(context, await allowing());
    await plugin.run();
    plugin.setPolicy(await strict(', onTightened: failStrategy'));
    context.mock.timers.tick(1);
    const told = plugin.kept.next('could not be found out');
    (await plugin.questions.next()).fail('network');
    await told;
    assert.deepEqual(plugin.events.left, []);
    context.mock.timers.tick(1_000);
    (await plugin.questions.next()).fail('unsigned');
    assert.match(await plugin.events.next(), /no proven signature of release/);
  });
});

describe('a look after a tag that may have moved', () => {
  const rows = [
    ['whose digest is not listed', () => allowing(`, sha256: [${digest}]`), {}, /lists others/],
    [
      'that has not the signature which is asked for',
      () => allowing(', signers: [release]', signers),
      { signature },
      /no proven signature of release/,
    ],
  ] as const;
  for (const [what, policy, first, reason] of rows) {
    test(`offers no module ${what}, and what runs stays`, async (context) => {
      const plugin = await PolicedPlugin.open(context, await policy());
      const told = plugin.kept.next('could not be found out');
      await plugin.run({}, { ...first, recheckAfterMs: 1 });
      (await plugin.questions.next()).find(otherDigest, { recheckAfterMs: 60_000 });
      await told;
      const { state, inForce, runningDigest, lastError, history } = plugin.status;
      assert.deepEqual([state, inForce, runningDigest], ['active', 'plugin', digest]);
      assert.match(lastError ?? '', reason);
      assert.equal(history.at(-1)?.what, 'recheck-failed');
      assert.deepEqual(plugin.events.left, [], 'neither Envoy nor istiod hears of it');
    });
  }

  test('asks nobody for what the policy refuses by now', async (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const plugin = await PolicedPlugin.open(context, await allowing());
    await plugin.run({}, { recheckAfterMs: 1_000 });
    plugin.setPolicy(await denying());
    const told = plugin.kept.next('could not be found out');
    context.mock.timers.tick(1_250);
    await told;
    assert.match(plugin.status.lastError ?? '', refused);
    assert.deepEqual([plugin.questions.left, plugin.events.left], [[], []]);
  });

  test('comes with a policy that asks for it, without a push, and ends with one that does not', async (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const plugin = await PolicedPlugin.open(context, await allowing());
    await plugin.run();
    assert.equal(plugin.status.nextRecheckAt, undefined);
    plugin.setPolicy(await allowing(', pullPolicy: Always, pollInterval: 10s'));
    assert.notEqual(plugin.status.nextRecheckAt, undefined);
    context.mock.timers.tick(2_500);
    (await plugin.questions.next()).find(otherDigest, { recheckAfterMs: 10_000 });
    assert.equal(await plugin.events.next(), 'plugin');
    plugin.accept();
    assert.equal(plugin.status.runningDigest, otherDigest);
    plugin.setPolicy(await allowing(', pullPolicy: Always, pollInterval: 10s, maxHold: 1s'));
    context.mock.timers.tick(2_500);
    assert.deepEqual(plugin.questions.left, [], 'the interval is the same: nobody looks sooner');

    plugin.setPolicy(await allowing());
    context.mock.timers.tick(1);
    (await plugin.questions.next()).find(otherDigest, { source: 'cache' });
    await new Promise(setImmediate);
    assert.equal(plugin.status.nextRecheckAt, undefined);
    assert.deepEqual(plugin.events.left, [], 'istiod has one verdict on its push');
  });

  test('that is under way, or of a first load that fails, is not planned twice', async (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const plugin = await PolicedPlugin.open(context, await allowing());
    plugin.push();
    const question = await plugin.questions.next();
    plugin.setPolicy(await allowing(', pullPolicy: Always, pollInterval: 10s'));
    assert.equal(plugin.status.nextRecheckAt, undefined);
    question.fail('not_found');
    assert.equal(await plugin.events.next(), 'the registry says not_found');
    assert.equal(await plugin.events.next(), 'fallback');
    plugin.setPolicy(await allowing(', pullPolicy: Always, pollInterval: 20s'));
    assert.equal(plugin.status.nextRecheckAt, undefined, 'the next try is a load');
  });
});

describe('what is kept on disk', () => {
  const rows = [
    ['is used under a policy that allows it', () => allowing(), 'last-known-good'],
    ['is not used under one that denies it', () => denying(), 'fallback'],
    ['is not used where its digest is not listed', () => allowing(`, sha256: [${otherDigest}]`), 'fallback'],
    [
      'is not used where a signature is asked for that it has not',
      () => allowing(', signers: [release]', signers),
      'fallback',
    ],
  ] as const;
  for (const [what, policy, expected] of rows) {
    test(what, async (context) => {
      const folder = await PolicedPlugin.leaveBehind(context, await allowing());
      const plugin = await PolicedPlugin.open(context, await policy(), folder);
      plugin.push();
      if (expected === 'last-known-good' || what.includes('listed') || what.includes('signature'))
        (await plugin.questions.next()).fail('network');
      assert.match(await plugin.events.next(), /^refused by policy|^the registry says network/);
      assert.equal(await plugin.events.next(), expected);
    });
  }

  test('is used with the signature that it had, and not when the signer has another key', async (context) => {
    const signed = await allowing(', signers: [release]', signers);
    const folder = await PolicedPlugin.leaveBehind(context, signed, { signature });
    const [signer] = signed.signers;
    assert.ok(signer?.kind === 'key');
    const rotated = { ...signed, signers: [{ ...signer, publicKeys: ['another key'] }] };
    for (const [policy, expected] of [
      [rotated, 'fallback'],
      [signed, 'last-known-good'],
    ] as const) {
      const plugin = await PolicedPlugin.open(context, policy, folder);
      assert.equal(await plugin.runOffline(), expected);
      await plugin.close();
    }
  });

  test('by an agent that noted no origin is used without a policy only', async (context) => {
    const folder = await PolicedPlugin.leaveBehind(context, permissivePolicy);
    const path = join(folder, 'kept.json');
    const text = await readFile(path, 'utf8');
    assert.ok(text.includes('"origin"'));
    await writeFile(path, text.replace(/,"origin":\{[^}]*\}/, ''));
    for (const [policy, expected] of [
      [await allowing(), 'fallback'],
      [permissivePolicy, 'last-known-good'],
    ] as const) {
      const plugin = await PolicedPlugin.open(context, policy, folder);
      assert.equal(await plugin.runOffline(), expected);
      await plugin.close();
    }
  });

  test('has no user info and no query of its URL', async (context) => {
    const url = 'https://user:hunter2@web.test/a.wasm?token=hunter2';
    const folder = await PolicedPlugin.leaveBehind(context, permissivePolicy, {}, { url });
    const text = await readFile(join(folder, 'kept.json'), 'utf8');
    assert.match(text, /web\.test\/a\.wasm/);
    assert.doesNotMatch(text, /hunter2/);
  });
});

describe('modules that need no download', () => {
  test('are refused where the default denies, and come when they are allowed', async (context) => {
    const plugin = await PolicedPlugin.open(context, await policyOf(denyAll));
    plugin.push({ code: 'inline' });
    assert.match(
      await plugin.events.next(),
      /the inline module matches no rule and defaultAction in \S+ line 2 is deny/,
    );
    assert.equal(await plugin.events.next(), 'fallback');
  });

  test('as files are known by the bytes they have', async (context) => {
    const path = join(await temporaryFolder(context), 'a.wasm');
    const bytes = pluginModule();
    await writeFile(path, bytes);
    const listing = (sha256: string): ReturnType<typeof policyOf> =>
      policyOf(`${denyAll}local: { action: allow, onTightened: failStrategy, sha256: [${sha256}] }\n`);
    const plugin = await PolicedPlugin.open(context, await listing(otherDigest));
    plugin.push({ code: 'local', path });
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    assert.ok((await plugin.events.next()).includes(`has the sha256 ${sha256}, and local in`));
    assert.equal(await plugin.events.next(), 'fallback');
    plugin.accept();
    plugin.setPolicy(await listing(sha256));
    assert.equal(await plugin.events.next(), 'plugin');
    plugin.accept();
    assert.equal(await plugin.events.next(), 'ok');
    plugin.setPolicy(await listing(otherDigest));
    assert.match(await plugin.events.next(), refused);
    assert.equal(await plugin.events.next(), 'fallback');
  });

  test('as files are read when their bytes are asked for only now', async (context) => {
    const path = join(await temporaryFolder(context), 'a.wasm');
    const bytes = pluginModule();
    await writeFile(path, bytes);
    const plugin = await PolicedPlugin.open(context, await policyOf(`${denyAll}local: { action: allow }\n`));
    plugin.push({ code: 'local', path });
    assert.equal(await plugin.events.next(), 'plugin');
    plugin.accept();
    assert.equal(await plugin.events.next(), 'ok');
    plugin.setPolicy(
      await policyOf(
        `${denyAll}local: { action: allow, onTightened: failStrategy, sha256: [${otherDigest}] }\n`,
      ),
    );
    assert.match(await plugin.events.next(), refused);
    assert.equal(await plugin.events.next(), 'fallback');
  });

  for (const [where, typeUrl, text] of [
    ['inside of another filter', typeUrls.udpaTypedStruct, 'envoy.extensions.filters.http.wasm.v3.Wasm'],
    ['under an unusual type URL', 'example.com/envoy.extensions.filters.http.wasm.v3.Wasm', ''],
  ] as const) {
    test(`${where} are what the default action says`, async (context) => {
      const inner = anyPack(StructSchema, create(StructSchema, { fields: {} }));
      const value = Buffer.concat([inner.value, Buffer.from(text)]);
      const any = extensionResource('composite', { ...inner, typeUrl, value });
      const plugin = await PolicedPlugin.open(context, await policyOf(denyAll));
      plugin.push({}, any);
      assert.match(await plugin.events.next(), /Wasm inside of another filter matches no rule/);
      assert.deepEqual(plugin.events.left, []);
      plugin.setPolicy(await policyOf(allowAll));
      assert.equal(await plugin.events.next(), 'plugin');
      plugin.accept();
      assert.equal(await plugin.events.next(), 'ok');
    });
  }
});

test('without a policy nothing is refused, not even what no rule could be read for', async (context) => {
  const plugin = await PolicedPlugin.open(context, permissivePolicy);
  plugin.push({ url: 'oci://reg.test//a%2fb' });
  (await plugin.questions.next()).find();
  assert.equal(await plugin.events.next(), 'plugin');
  plugin.accept();
  assert.equal(plugin.status.name, pluginName);
  assert.notEqual(plugin.status.url, moduleUrl);
});
