import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EgressGuard, parseCidr } from '../../../agent/fetch/egress-guard.ts';
import { canonicalIp } from '../../../agent/fetch/ip-literal.ts';
import { namesLookup } from './fetch-fixture.ts';

describe('an item of BLOCKED_CIDRS_IN_WASM_FETCH', () => {
  const good: readonly (readonly [string, string, number])[] = [
    ['10.0.0.0/8', '10.0.0.0', 8],
    [' 10.1.2.3/32 ', '10.1.2.3', 32],
    ['0.0.0.0/0', '0.0.0.0', 0],
    ['10.0.0.0/08', '10.0.0.0', 8],
    ['fd00::/8', 'fd00::', 8],
    ['::ffff:10.0.0.0/104', '10.0.0.0', 8],
    ['2001:db8::1/128', '2001:db8::1', 128],
  ];
  for (const [item, network, prefixLength] of good) {
    it(`${item} is read`, () => {
      const cidr = parseCidr(item);
      assert.deepEqual([cidr?.network, cidr?.prefixLength], [network, prefixLength]);
      assert.equal(cidr?.text, item.trim());
    });
  }
  for (const item of [
    '',
    '10.0.0.0',
    '10.0.0.0/33',
    '10.0.0/8',
    '010.0.0.0/8',
    'fd00::/129',
    'x/8',
    '10.0.0.0/-1',
    '10.0.0.0/8/8',
    '10.0.0.0/ 8',
  ]) {
    it(`${JSON.stringify(item)} is no range`, () => {
      assert.equal(parseCidr(item), undefined);
    });
  }
  it('that is no range is never left out in silence', () => {
    assert.throws(() => new EgressGuard({ blockedCidrs: ['10.0.0.0/8', 'nonsense'] }), RangeError);
  });
});

describe('an address', () => {
  const spellings: readonly (readonly [string, string | undefined])[] = [
    ['127.0.0.1', '127.0.0.1'],
    ['[::1]', '::1'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['FE80::1%eth0', 'fe80::1'],
    ['::ffff:169.254.169.254', '169.254.169.254'],
    ['::FFFF:a9fe:a9fe', '169.254.169.254'],
    ['64:ff9b::a9fe:a9fe', '169.254.169.254'],
    ['64:ff9b::10.0.0.1', '10.0.0.1'],
    ['64:ff9b:1::1', '64:ff9b:1::1'],
    ['localhost', undefined],
    ['1.2.3', undefined],
  ];
  for (const [text, canonical] of spellings) {
    it(`${text} is ${canonical ?? 'a name'}`, () => {
      assert.equal(canonicalIp(text), canonical);
    });
  }
});

describe('the egress guard', () => {
  const guard = new EgressGuard({ blockedCidrs: ['192.0.2.0/24', '2001:db8::/32'] });
  const blocked: readonly (readonly [string, string])[] = [
    ['169.254.0.0', 'is link-local'],
    ['169.254.255.255', 'is link-local'],
    ['fe80::1', 'is link-local'],
    ['febf:ffff::1', 'is link-local'],
    ['224.0.0.1', 'is link-local'],
    ['ff02::1', 'is link-local'],
    ['ff12::1', 'is link-local'],
    ['fff2::1', 'is link-local'],
    ['::ffff:169.254.169.254', 'is link-local'],
    ['[::ffff:a9fe:a9fe]', 'is link-local'],
    ['64:ff9b::a9fe:a9fe', 'is link-local'],
    ['100.100.100.200', 'is a known cloud metadata address'],
    ['fd00:ec2::254', 'is a known cloud metadata address'],
    ['192.0.2.77', 'is in blocked CIDR range 192.0.2.0/24'],
    ['::ffff:192.0.2.77', 'is in blocked CIDR range 192.0.2.0/24'],
    ['2001:db8:1::', 'is in blocked CIDR range 2001:db8::/32'],
  ];
  for (const [address, finding] of blocked) {
    it(`refuses ${address} by address and rule, and says what to do`, () => {
      const refusal = guard.refusal(address);
      assert.equal(refusal?.code, 'blocked_address');
      assert.ok(
        refusal?.message.startsWith(`connection blocked: resolved IP ${canonicalIp(address)} ${finding} (`),
      );
    });
  }
  for (const cidr of ['::/0', '::ffff:0:0/90', '0.0.0.0/0']) {
    it(`refuses IPv4 addresses by ${cidr}, which has them in it`, () => {
      const all = new EgressGuard({ blockedCidrs: [cidr] });
      assert.match(all.refusal('8.8.8.8')?.message ?? '', /is in blocked CIDR range/);
    });
  }
  for (const address of [
    '127.0.0.1',
    '::1',
    '10.0.0.1',
    '192.168.1.1',
    '172.16.0.1',
    'fd00::1',
    'fec0::1',
    '8.8.8.8',
    '100.100.100.201',
    '224.0.1.1',
    'ff05::1',
    '169.253.0.1',
    'fd00:ec3::1',
  ]) {
    it(`lets ${address} pass`, () => {
      assert.equal(guard.refusal(address), undefined);
    });
  }

  const named = new EgressGuard({
    blockedCidrs: [],
    lookup: namesLookup({
      bad: ['169.254.169.254', 'fe80::1'],
      mixed: ['169.254.169.254', '::1', '127.0.0.1'],
      none: [],
    }),
  });
  const lookUp = async (name: string, all: boolean): Promise<unknown> =>
    new Promise((resolve) => {
      named.lookup(name, { all }, (error, address, family) =>
        resolve(error ?? (family === undefined ? address : [address, family])),
      );
    });

  it('gives only the addresses of a name that may be dialled', async () => {
    assert.deepEqual(await lookUp('mixed', true), [
      { address: '::1', family: 6 },
      { address: '127.0.0.1', family: 4 },
    ]);
    assert.deepEqual(await lookUp('mixed', false), ['::1', 6]);
  });

  it('gives the refusal for a name with none, and the error of the resolver', async () => {
    assert.match(String(await lookUp('bad', true)), /resolved IP 169\.254\.169\.254 is link-local/);
    assert.match(String(await lookUp('none', true)), /has no address/);
    assert.match(String(await lookUp('unknown', true)), /ENOTFOUND/);
  });

  it('refuses what a proxy would dial for any blocked address of it', async () => {
    assert.equal((await named.proxiedRefusal('mixed'))?.code, 'blocked_address');
    assert.equal((await named.proxiedRefusal('169.254.1.1'))?.code, 'blocked_address');
    assert.equal(await named.proxiedRefusal('unknown'), undefined);
  });
});
