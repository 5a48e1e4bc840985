import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  decideModule,
  judgeRunning,
  type ModuleSubject,
  refuseDigests,
  registryFor,
} from '../../../agent/policy/policy.ts';
import { permissivePolicy } from '../../../agent/policy/policy-data.ts';
import { Authority } from '../../support/certificate-authority/authority.ts';
import { allowAll, denyAll, digestA, digestB, policyOf } from './policy-fixture.ts';
import { publicKeyPem } from './signer-fixture.ts';

const digest = '0123456789abcdef'.repeat(4);
const remote = (url: string): ModuleSubject => ({ kind: 'remote', url });

const signers = `signers:\n  release:\n    key:\n      publicKeys:\n        - |\n${publicKeyPem.replaceAll(/^(?=.)/gm, '          ')}`;

/** The rule, by name, that decides on each URL of a document; "+" allows, "-" refuses. */
type Table = readonly (readonly [url: string, decision: string])[];

async function check(text: string, table: Table): Promise<void> {
  const policy = await policyOf(text);
  const decisions = table.map(([url]) => {
    const { allowed, rule } = decideModule(policy, remote(url));
    return [url, `${allowed ? '+' : '-'} ${rule.name}`];
  });
  assert.deepEqual(decisions, table);
}

describe('without a policy file', () => {
  test('everything is allowed as it comes, odd URLs too', () => {
    for (const subject of [
      remote('oci://reg.test/a'),
      remote('https://web.test/a//b%2f'),
      remote('nonsense'),
      { kind: 'local', path: '../x', sha256: undefined },
      { kind: 'inline', sha256: undefined },
    ] as const) {
      const decision = decideModule(permissivePolicy, subject);
      assert.ok(decision.allowed);
      assert.deepEqual(
        [decision.signers, decision.sha256, decision.mirrors, decision.layouts],
        [[], undefined, [], []],
      );
      assert.deepEqual(
        [decision.pullPolicy, decision.maxHoldMs, decision.onUpdateFailure, decision.onTightened],
        [undefined, undefined, 'keep', 'keep'],
      );
    }
  });
});

describe('the rules for a module', () => {
  test('are asked in order, and the first that matches counts', async () => {
    await check(
      `${denyAll}modules:
  - { repository: reg.test/team/bad, action: deny }
  - { url: "oci://reg.test/team/", action: allow }
  - { url: "https://web.test/wasm", action: allow }
  - { registry: "other.test:5000", action: allow }
`,
      [
        ['oci://reg.test/team/bad:v1', '- modules[0]'],
        ['oci://reg.test/team/good', '+ modules[1]'],
        ['oci://reg.test/team', '+ modules[1]'],
        ['oci://reg.test/teammate/a', '- defaultAction'],
        ['https://web.test/wasm/a.wasm', '+ modules[2]'],
        ['https://web.test/wasm', '+ modules[2]'],
        ['https://web.test/wasm2/a.wasm', '- defaultAction'],
        ['http://web.test/wasm/a.wasm', '- defaultAction'],
        ['https://web.test:8443/wasm/a.wasm', '- defaultAction'],
        ['oci://other.test:5000/a', '+ modules[3]'],
        ['https://other.test:5000/a', '+ modules[3]'],
        ['oci://other.test/a', '- defaultAction'],
      ],
    );
  });

  test('for one tag or digest are for that alone', async () => {
    await check(
      `${denyAll}modules:
  - { url: "oci://reg.test/a:v1", action: allow }
  - { url: "oci://reg.test/a@sha256:${digest}", action: allow }
  - { url: "oci://reg.test/b:latest", action: allow }
`,
      [
        ['oci://reg.test/a:v1', '+ modules[0]'],
        ['oci://reg.test/a:v2', '- defaultAction'],
        ['oci://reg.test/a', '- defaultAction'],
        [`oci://reg.test/a@sha256:${digest}`, '+ modules[1]'],
        [`oci://reg.test/a:v1@sha256:${digest}`, '+ modules[1]'],
        [`oci://reg.test/a:v1@sha256:${digestA}`, '- defaultAction'],
        ['oci://reg.test/a/b:v1', '- defaultAction'],
        [`https://reg.test/v2/a/manifests/v1`, '- defaultAction'],
        ['oci://reg.test/b', '+ modules[2]'],
      ],
    );
  });

  test('on Docker Hub hold for all its names', async () => {
    await check(
      `${denyAll}modules:
  - { url: "oci://docker.io/acme/", action: allow }
  - { repository: "registry-1.docker.io/library/nginx", action: allow }
`,
      [
        ['oci://acme/a', '+ modules[0]'],
        ['oci://index.docker.io/acme/a:v1', '+ modules[0]'],
        ['oci://acme', '- defaultAction'],
        ['oci://nginx', '+ modules[1]'],
        ['oci://docker.io/nginx:v1', '+ modules[1]'],
        ['oci://someone/nginx', '- defaultAction'],
      ],
    );
  });

  test('do not let plain http in by naming a registry', async () => {
    await check(
      `${denyAll}modules:
  - { registry: plain.test, action: allow }
  - { registry: tls.test, action: allow }
  - { url: "http://web.test/", action: allow }
registries: { plain.test: { plainHttp: true } }
`,
      [
        ['http://plain.test/a', '+ modules[0]'],
        ['http://tls.test/a', '- modules[1]'],
        ['https://tls.test/a', '+ modules[1]'],
        ['http://web.test/a', '+ modules[2]'],
        ['https://web.test/a', '- defaultAction'],
      ],
    );
  });

  test('with signers allow http modules only by their sha256', async () => {
    const policy = await policyOf(`${denyAll}modules:
  - { url: "https://reg.test/pinned", action: allow, signers: [release], sha256: [${digestA}] }
  - { registry: reg.test, action: allow, signers: [release] }
${signers}`);
    const pinned = decideModule(policy, remote('https://reg.test/pinned/a.wasm'));
    assert.ok(pinned.allowed);
    assert.deepEqual([pinned.signers, pinned.sha256], [[], [digestA]]);
    const image = decideModule(policy, remote('oci://reg.test/a'));
    assert.ok(image.allowed);
    assert.deepEqual([image.signers, image.sha256], [['release'], undefined]);
    for (const url of ['https://reg.test/a.wasm', `https://reg.test/v2/a/blobs/sha256:${digest}`]) {
      const refused = decideModule(policy, remote(url));
      assert.ok(!refused.allowed);
      assert.match(refused.reason, /asks for a signature.*list the module's sha256/);
    }
  });

  test('refuse what cannot be read, also when all else is allowed', async () => {
    const policy = await policyOf(allowAll);
    const refused = decideModule(policy, remote('https://u:hunter2@web.test/a%2fb?token=hunter2'));
    assert.ok(!refused.allowed);
    assert.match(
      refused.reason,
      /https:\/\/web\.test\/a%2fb: the URL has a path that servers read in different ways/,
    );
    assert.doesNotMatch(refused.reason, /hunter2/);
    assert.equal(decideModule(policy, remote('https://web.test/a')).allowed, true);
  });

  test('name themselves, the file and the line in every refusal', async () => {
    const policy = await policyOf(`${denyAll}modules:
  - { registry: evil.test, action: deny, onTightened: failStrategy }
`);
    const denied = decideModule(policy, remote('oci://evil.test/a'));
    assert.ok(!denied.allowed);
    assert.match(
      denied.reason,
      /^refused by policy: .*oci:\/\/evil\.test\/a is denied by modules\[0\] in \/.*policy\.yaml line 4 \(deny registry evil\.test\)/,
    );
    assert.deepEqual(
      [denied.rule.name, denied.rule.line, denied.onTightened],
      ['modules[0]', 4, 'failStrategy'],
    );
    const unknown = decideModule(policy, remote('oci://reg.test/a'));
    assert.ok(!unknown.allowed);
    assert.match(unknown.reason, /matches no rule and defaultAction in .* line 2 is deny; add a rule/);
    assert.equal(unknown.onTightened, 'keep');
  });

  test('give their terms, and those of "defaults" where they say nothing', async () => {
    const policy = await policyOf(`${allowAll}defaults:
  { pullPolicy: IfNotPresent, staleIfError: 24h, pollInterval: 10m, onUpdateFailure: failStrategy, onTightened: failStrategy, maxHold: 1.5s, originTimeout: 20s }
modules:
  - { registry: a.test, action: allow }
  - { registry: b.test, action: allow, pullPolicy: Always, staleIfError: 1h, pollInterval: 30s, onUpdateFailure: keep, onTightened: keep, maxHold: 0s, originTimeout: 100ms }
`);
    const terms = (url: string): unknown[] => {
      const decision = decideModule(policy, remote(url));
      assert.ok(decision.allowed);
      const { pullPolicy, staleIfErrorMs, pollIntervalMs, onUpdateFailure, onTightened, maxHoldMs } =
        decision;
      return [
        pullPolicy,
        staleIfErrorMs,
        pollIntervalMs,
        onUpdateFailure,
        onTightened,
        maxHoldMs,
        decision.originTimeoutMs,
      ];
    };
    const defaults = ['if-not-present', 86_400_000, 600_000, 'failStrategy', 'failStrategy', 1500, 20_000];
    assert.deepEqual(terms('oci://a.test/a'), defaults);
    assert.deepEqual(terms('oci://none.test/a'), defaults);
    assert.deepEqual(terms('oci://b.test/a'), ['always', 3_600_000, 30_000, 'keep', 'keep', 0, 100]);
  });
});

describe('the rule for local modules', () => {
  const local = (path: string, sha256?: string): ModuleSubject => ({ kind: 'local', path, sha256 });

  test('is the default action when there is none', async () => {
    assert.equal(decideModule(await policyOf(allowAll), local('/x')).allowed, true);
    const refused = decideModule(await policyOf(denyAll), local('/x'));
    assert.ok(!refused.allowed);
    assert.match(refused.reason, /the local module "\/x" matches no rule.*add "local" with action: allow/);
  });

  test('may name folders, by whole parts and without a way out', async () => {
    const policy = await policyOf(
      `${denyAll}local: { action: allow, paths: [/opt/filters, /etc/one.wasm] }\n`,
    );
    const good = ['/opt/filters/a.wasm', '//opt/./filters/sub/a.wasm', '/etc/one.wasm'];
    const bad = ['/opt/filters2/a.wasm', '/opt/filters/../x.wasm', 'opt/filters/a.wasm', '/etc/two.wasm', ''];
    assert.deepEqual(
      [...good, ...bad].map((path) => decideModule(policy, local(path)).allowed),
      [true, true, true, false, false, false, false, false],
    );
  });

  test('may list digests, and then unknown bytes are refused', async () => {
    const policy = await policyOf(`${denyAll}local: { action: allow, sha256: [${digestA}] }\n`);
    assert.equal(decideModule(policy, local('/x', digestA)).allowed, true);
    const other = decideModule(policy, local('/x', digestB));
    const unread = decideModule(policy, local('/x'));
    assert.ok(!other.allowed && !unread.allowed);
    assert.match(other.reason, new RegExp(`has the sha256 ${digestB}, and local in .* line 3 lists others`));
    assert.match(unread.reason, /cannot be read to know its sha256/);
  });

  test('may deny', async () => {
    assert.equal(
      decideModule(await policyOf(`${allowAll}local: { action: deny }\n`), local('/x')).allowed,
      false,
    );
  });
});

describe('the rule for inline modules', () => {
  const inline = (sha256?: string): ModuleSubject => ({ kind: 'inline', sha256 });

  test('is its own, else the default action', async () => {
    assert.equal(decideModule(await policyOf(denyAll), inline(digestA)).allowed, false);
    assert.equal(
      decideModule(await policyOf(`${allowAll}inline: { action: deny }\n`), inline()).allowed,
      false,
    );
    const policy = await policyOf(`${denyAll}inline: { action: allow, sha256: [${digestA}] }\n`);
    assert.deepEqual(
      [digestA, digestB, undefined].map((sha256) => decideModule(policy, inline(sha256)).allowed),
      [true, false, false],
    );
  });
});

describe('the digests of an allowed module', () => {
  test('must hold a listed one, any of the chain', async () => {
    const policy = await policyOf(
      `${denyAll}modules:\n  - { registry: reg.test, action: allow, sha256: [${digestA}] }\n`,
    );
    const url = 'oci://reg.test/a';
    const decision = decideModule(policy, remote(url));
    assert.ok(decision.allowed);
    assert.equal(refuseDigests(decision, url, [digestB, digestA]), undefined);
    assert.match(
      refuseDigests(decision, url, [digestB])?.reason ?? '',
      new RegExp(`oci://reg.test/a has the digests ${digestB}, and modules\\[0\\] in .* line 4 lists others`),
    );
    assert.match(refuseDigests(decision, url, [])?.reason ?? '', /no known digest/);
  });

  test('may be any where the rule lists none', () => {
    const decision = decideModule(permissivePolicy, remote('oci://reg.test/a'));
    assert.ok(decision.allowed);
    assert.equal(refuseDigests(decision, 'oci://reg.test/a', []), undefined);
  });
});

describe('a plugin that runs when the policy changes', () => {
  const running = { subject: remote('oci://reg.test/a'), digests: [digestA] };

  test('runs on while it is allowed, with the proof that is asked now', async () => {
    const verdict = judgeRunning(
      await policyOf(
        `${denyAll}modules:\n  - { registry: reg.test, action: allow, signers: [release], sha256: [${digestA}] }\n${signers}`,
      ),
      running,
    );
    assert.ok(verdict.kind === 'allowed');
    assert.deepEqual(verdict.decision.signers, ['release']);
  });

  const cases: readonly (readonly [string, string, string, string])[] = [
    [
      'its rule now denies and keeps',
      `modules:\n  - { registry: reg.test, action: deny }\n`,
      'keep',
      'modules[0]',
    ],
    [
      'its rule now denies and ends it',
      `modules:\n  - { registry: reg.test, action: deny, onTightened: failStrategy }\n`,
      'failStrategy',
      'modules[0]',
    ],
    ['its rule is gone', '', 'keep', 'defaultAction'],
    [
      'its rule is gone and the defaults end it',
      'defaults: { onTightened: failStrategy }\n',
      'failStrategy',
      'defaultAction',
    ],
    [
      'its digest is no longer listed',
      `modules:\n  - { registry: reg.test, action: allow, sha256: [${digestB}], onTightened: failStrategy }\n`,
      'failStrategy',
      'modules[0]',
    ],
  ];
  for (const [what, text, action, rule] of cases) {
    test(`is refused when ${what}`, async () => {
      const verdict = judgeRunning(await policyOf(`${denyAll}${text}`), running);
      assert.ok(verdict.kind === 'refused');
      assert.deepEqual([verdict.action, verdict.rule.name], [action, rule]);
      assert.match(verdict.reason, /^refused by policy: /);
    });
  }

  test('may be local or inline', async () => {
    const policy = await policyOf(`${denyAll}inline: { action: allow }\n`);
    assert.equal(
      judgeRunning(policy, { subject: { kind: 'inline', sha256: digestA }, digests: [] }).kind,
      'allowed',
    );
    assert.equal(
      judgeRunning(policy, { subject: { kind: 'local', path: '/x', sha256: digestA }, digests: [] }).kind,
      'refused',
    );
  });
});

describe('the sources of a module', () => {
  const mirrors = `mirrors:
  - from: oci://docker.io/acme/
    endpoints:
      - { url: "oci://mirror.test:5000/hub/", timeout: 3s }
      - { url: "oci://127.0.0.1:30020", sendNamespace: true }
  - from: oci://docker.io
    endpoints: [{ url: "oci://mirror.test/all" }]
  - from: https://web.test/wasm/
    endpoints: [{ url: "https://cache.test/web" }]
`;
  const targets = async (url: string): Promise<unknown> => {
    const decision = decideModule(await policyOf(`${allowAll}${mirrors}`), remote(url));
    assert.ok(decision.allowed);
    return decision.mirrors.map((target) => [target.url, target.timeoutMs, target.namespace]);
  };

  test('are the mirrors of the first rule that matches, with the rest of the URL', async () => {
    assert.deepEqual(await targets('oci://acme/a/b:v1'), [
      ['oci://mirror.test:5000/hub/a/b:v1', 3000, undefined],
      ['oci://127.0.0.1:30020/a/b:v1', 10_000, 'docker.io'],
    ]);
    assert.deepEqual(await targets(`oci://nginx:v1@sha256:${digest}`), [
      [`oci://mirror.test/all/library/nginx@sha256:${digest}`, 10_000, undefined],
    ]);
    assert.deepEqual(await targets('https://user:word@web.test/wasm/a%20b.wasm'), [
      ['https://cache.test/web/a%20b.wasm', 10_000, undefined],
    ]);
    assert.deepEqual(await targets('oci://reg.test/a'), []);
  });

  test('leave out mirrors for URLs with a query, and a bare registry for an image without a rest', async () => {
    assert.deepEqual(await targets('https://web.test/wasm/a.wasm?token=x'), []);
    assert.deepEqual(await targets('oci://docker.io/acme/a?x=1'), []);
    const policy = await policyOf(`${allowAll}mirrors:
  - from: oci://reg.test/team/a
    endpoints: [{ url: "oci://mirror.test" }, { url: "oci://mirror.test/a" }]
`);
    const decision = decideModule(policy, remote('oci://reg.test/team/a'));
    assert.ok(decision.allowed);
    assert.deepEqual(
      decision.mirrors.map(({ url }) => url),
      ['oci://mirror.test/a:latest'],
    );
  });

  test('begin with the layout folders, relative ones beside the policy', async () => {
    const policy = await policyOf(
      `${allowAll}layouts: [{ path: preloaded }, { path: /no/such, optional: true, timeout: 1s }]\n`,
      {
        'preloaded/oci-layout': '{"imageLayoutVersion":"1.0.0"}',
      },
    );
    const decision = decideModule(policy, remote('oci://reg.test/a'));
    assert.ok(decision.allowed);
    const [first, second] = decision.layouts;
    assert.match(first?.path ?? '', /^\/.*\/preloaded$/);
    assert.deepEqual([first?.timeoutMs, second], [5000, { path: '/no/such', timeoutMs: 1000 }]);
  });
});

describe('the settings of a registry', () => {
  test('are found under every spelling of the host', async () => {
    const authority = Authority.createRoot();
    const client = authority.issue(['client.test']);
    const policy = await policyOf(
      `${allowAll}registries:
  Reg.Test: { caFile: ca.pem, clientCertificate: { certFile: client.pem, keyFile: client.key }, credentialsFile: auth.json }
  "reg.test:5000": { plainHttp: true }
  docker.io: {}
`,
      {
        'ca.pem': authority.certificate,
        'client.pem': client.certificate,
        'client.key': client.key,
        'auth.json': '{"auths":{}}',
      },
    );
    for (const host of ['reg.test', 'REG.TEST:443', 'reg.test.']) {
      const found = registryFor(policy, host);
      assert.match(found?.caFile ?? '', /^\/.*\/ca\.pem$/);
      assert.match(found?.clientCertificate?.keyFile ?? '', /^\/.*\/client\.key$/);
      assert.match(found?.credentialsFile ?? '', /^\/.*\/auth\.json$/);
      assert.equal(found?.isPlainHttp, false);
    }
    assert.equal(registryFor(policy, 'reg.test:5000')?.isPlainHttp, true);
    assert.equal(registryFor(policy, 'index.docker.io')?.host, 'index.docker.io');
    assert.equal(registryFor(policy, 'other.test'), undefined);
    assert.equal(registryFor(policy, 'not a host'), undefined);
  });
});

describe('caps and blocked ranges', () => {
  test('are read with their units', async () => {
    const policy = await policyOf(
      `${allowAll}caps: { maxModuleBytes: 64Mi, maxMemoryPages: 1024, quotaBytes: 1000, connectionsPerHost: 4 }\nblockedCidrs: [10.0.0.0/8, "fd00::/8"]\n`,
    );
    assert.deepEqual(policy.caps, {
      maxModuleBytes: 67_108_864,
      maxMemoryPages: 1024,
      quotaBytes: 1000,
      connectionsPerHost: 4,
    });
    assert.deepEqual(policy.blockedCidrs, ['10.0.0.0/8', 'fd00::/8']);
    assert.deepEqual((await policyOf(allowAll)).caps, permissivePolicy.caps);
  });
});
