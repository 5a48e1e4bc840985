import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  buildLookupTable,
  type LookupScope,
  lookUpName,
  ownDomain,
} from '../../../agent/dns/lookup-table.ts';
import type { NameInfo, NameTable } from '../../../agent/dns/name-table-message.ts';

const scope: LookupScope = {
  proxyNamespace: 'shop',
  proxyDomain: 'shop.svc.cluster.local',
  searchDomain: 'shop.svc.cluster.local',
};

function info(fields: Partial<NameInfo>): NameInfo {
  return { ips: ['1.1.1.1'], registry: 'External', shortName: '', namespace: '', altHosts: [], ...fields };
}

function service(shortName: string, namespace: string, fields: Partial<NameInfo> = {}): [string, NameInfo] {
  return [
    `${shortName}.${namespace}.svc.cluster.local`,
    info({ registry: 'Kubernetes', shortName, namespace, ...fields }),
  ];
}

const table: NameTable = new Map([
  service('web', 'shop', { ips: ['10.0.0.1'], altHosts: ['web.alias'] }),
  service('db', 'data', { ips: ['10.0.0.2', 'fd00::2'] }),
  service('noaddress', 'shop', { ips: [] }),
  service('badaddress', 'shop', { ips: ['x', '1.2.3'] }),
  ['skipped.shop.svc.cluster.local.', info({ registry: 'Kubernetes' })],
  ['far.other.svc.remote.example', info({ registry: 'Kubernetes', shortName: 'far', namespace: 'other' })],
  ['WWW.Example.com', info({ ips: ['2.2.2.2'] })],
  ['dotted.example.com.', info({ ips: ['3.3.3.3'] })],
  ['*.wild.example', info({ ips: ['4.4.4.4'] })],
  ['*.deep.wild.example', info({ ips: ['5.5.5.5'] })],
  ['named.wild.example', info({ ips: ['6.6.6.6'] })],
  ['bad..name', info({})],
  [`${'x'.repeat(64)}.example`, info({})],
  ['odd.svc.cluster.local', info({ registry: 'Kubernetes', shortName: 'Other', namespace: 'shop' })],
]);

const rows: readonly (readonly [string, string | undefined, string?])[] = [
  ['web.shop.svc.cluster.local.', '10.0.0.1'],
  ['web.shop.svc.', '10.0.0.1'],
  ['web.shop.', '10.0.0.1'],
  ['web.', '10.0.0.1'],
  ['web.alias.', '10.0.0.1'],
  ['web.shop.svc.cluster.', undefined],
  ['db.data.svc.cluster.local.', '10.0.0.2'],
  ['db.data.', '10.0.0.2'],
  ['db.', undefined],
  ['noaddress.shop.', undefined],
  ['badaddress.shop.', undefined],
  ['skipped.shop.svc.cluster.local.', undefined],
  ['far.other.svc.remote.example.', '1.1.1.1'],
  ['far.other.', undefined],
  ['www.example.com.', '2.2.2.2'],
  ['dotted.example.com.', '3.3.3.3'],
  // A service that is called otherwise than it should be.
  ['odd.svc.cluster.local.', '1.1.1.1'],
  ['other.shop.', '1.1.1.1'],
  ['other.shop.svc.', '1.1.1.1'],
  ['other.', '1.1.1.1'],
  ['odd.', undefined],
  // The first search domain behind a name.
  ['www.example.com.shop.svc.cluster.local.', '2.2.2.2', 'www.example.com.'],
  ['db.data.shop.svc.cluster.local.', '10.0.0.2', 'db.data.'],
  ['db.data.svc.cluster.local.shop.svc.cluster.local.', '10.0.0.2', 'db.data.svc.cluster.local.'],
  ['web.shop.svc.cluster.local.shop.svc.cluster.local.', undefined],
  ['www.example.com.svc.cluster.local.', undefined],
  // Wildcards.
  ['a.wild.example.', '4.4.4.4'],
  ['b.a.wild.example.', '4.4.4.4'],
  ['wild.example.', undefined],
  ['named.wild.example.', '6.6.6.6'],
  ['x.named.wild.example.', '4.4.4.4'],
  ['x.deep.wild.example.', '5.5.5.5'],
  ['*.wild.example.', '4.4.4.4'],
  ['a.wild.example.shop.svc.cluster.local.', '4.4.4.4', '*.wild.example.'],
  ['named.wild.example.shop.svc.cluster.local.', '6.6.6.6', 'named.wild.example.'],
  ['.', undefined],
  ['nothing.example.', undefined],
];

const lookup = buildLookupTable(table, scope);

for (const [name, address, cnameTarget] of rows) {
  test(`the name ${name} leads to ${address ?? 'an upstream'}${cnameTarget ? ` by way of ${cnameTarget}` : ''}`, () => {
    const match = lookUpName(lookup, name);
    assert.equal(match?.info.ips[0], address);
    assert.equal(match?.cnameTarget, cnameTarget);
  });
}

test('names that nobody can ask for are counted', () => {
  assert.equal(lookup.badNameCount, 2);
});

test("a host's own name goes before names derived from another one, whatever the order", () => {
  const external: [string, NameInfo] = ['web.shop', info({ ips: ['7.7.7.7'] })];
  for (const hosts of [
    [external, service('web', 'shop')],
    [service('web', 'shop'), external],
  ]) {
    const match = lookUpName(buildLookupTable(new Map(hosts), scope), 'web.shop.');
    assert.deepEqual(match?.info.ips, ['7.7.7.7']);
  }
});

const domains: readonly (readonly [string, string, string])[] = [
  ['shop', 'shop.svc.cluster.local', 'svc.cluster.local'],
  ['shop', 'svc.cluster.local', 'svc.cluster.local'],
  ['shop', 'shopping.svc', 'shopping.svc'],
  ['', 'svc.cluster.local', 'svc.cluster.local'],
  ['shop', '', ''],
];

for (const [proxyNamespace, proxyDomain, expected] of domains) {
  test(`the domain ${proxyDomain} of a proxy in namespace "${proxyNamespace}" holds services of ${expected}`, () => {
    assert.equal(ownDomain({ proxyNamespace, proxyDomain, searchDomain: undefined }), expected);
  });
}

test('without a search domain and without a domain only full names are known', () => {
  const bare = buildLookupTable(table, { proxyNamespace: 'shop', proxyDomain: '', searchDomain: undefined });
  assert.equal(lookUpName(bare, 'web.shop.'), undefined);
  assert.notEqual(lookUpName(bare, 'web.shop.svc.cluster.local.'), undefined);
  assert.equal(lookUpName(bare, 'www.example.com.shop.svc.cluster.local.'), undefined);
});

/** The contract, word by word: every name is written down first, expansions too; then one exact look and the wildcards. */
function referenceLookUp(
  hosts: NameTable,
  asked: string,
): { target: string; ips: readonly string[] } | undefined {
  const known = new Map<string, { target: string; ips: readonly string[] }>();
  const suffix = 'shop.svc.cluster.local.';
  const all = [...hosts].flatMap(([host, value]) => {
    if (value.registry !== 'Kubernetes') return [{ name: `${host}.`, ips: value.ips, rank: 0 }];
    const short = `${value.shortName}.${value.namespace}.`;
    const isHere = host.endsWith('.svc.cluster.local');
    const derived = isHere
      ? [short, `${short}svc.`, ...(value.namespace === 'shop' ? [`${value.shortName}.`] : [])]
      : [];
    return [`${host}.`, ...derived].map((name, rank) => ({ name, ips: value.ips, rank }));
  });
  for (const { name, ips } of all.toSorted((left, right) => left.rank - right.rank)) {
    if (!known.has(name)) known.set(name, { target: name, ips });
  }
  for (const [name, value] of Array.from(known)) {
    if (name !== suffix && !name.endsWith(`.${suffix}`) && !known.has(name + suffix))
      known.set(name + suffix, value);
  }
  const labels = asked.split('.');
  const candidates = [
    asked,
    ...labels.slice(1, -1).map((_, index) => `*.${labels.slice(index + 1).join('.')}`),
  ];
  for (const candidate of candidates) {
    const found = known.get(candidate);
    if (found !== undefined) return found;
  }
  return undefined;
}

test('the look-up agrees with the contract for any table and name', () => {
  const label = fc.constantFrom('a', 'b', 'shop', 'svc');
  const name = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join('.'));
  const external = name.chain((host) =>
    fc.boolean().map((isWildcard): [string, NameInfo] => [isWildcard ? `*.${host}` : host, info({})]),
  );
  const kubernetes = fc.tuple(label, label).map(([short, namespace]) => service(short, namespace));
  const hosts = fc
    .array(fc.oneof(external, kubernetes), { maxLength: 8 })
    .map(
      (entries) =>
        new Map(entries.map(([host, value], index) => [host, { ...value, ips: [`10.0.0.${index}`] }])),
    );
  const asked = fc
    .tuple(name, fc.constantFrom('.', '.svc.cluster.local.', '.shop.svc.cluster.local.'))
    .map(([start, end]) => start + end);
  fc.assert(
    fc.property(hosts, asked, (hosts, asked) => {
      const match = lookUpName(buildLookupTable(hosts, scope), asked);
      const expected = referenceLookUp(hosts, asked);
      assert.deepEqual(match?.info.ips, expected?.ips);
    }),
    { seed: 7, numRuns: 3000, interruptAfterTimeLimit: 2000 },
  );
});
