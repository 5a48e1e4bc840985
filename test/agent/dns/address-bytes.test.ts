import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { addressBytes, addressesOf } from '../../../agent/dns/address-bytes.ts';

const rows: readonly (readonly [string, string | undefined])[] = [
  ['10.0.0.255', '0a0000ff'],
  ['::', '00000000000000000000000000000000'],
  ['::1', '00000000000000000000000000000001'],
  ['fd00::', 'fd000000000000000000000000000000'],
  ['1:2:3:4:5:6:7:8', '00010002000300040005000600070008'],
  ['fe80::1%eth0', 'fe800000000000000000000000000001'],
  // IPv6, as in Go.
  ['::ffff:9.9.9.9', '00000000000000000000ffff09090909'],
  ['', undefined],
  ['1.2.3', undefined],
  ['01.2.3.4', undefined],
  ['name', undefined],
  ['1::2::3', undefined],
];

for (const [address, expected] of rows) {
  test(`the address "${address}" is ${expected ?? 'none'}`, () => {
    assert.equal(addressBytes(address)?.toString('hex'), expected);
  });
}

test('addresses are told by family, and what is none is left out', () => {
  const ips = ['1.1.1.1', 'x', '::1', '2.2.2.2'];
  assert.deepEqual(addressesOf(ips, 4), [Buffer.from([1, 1, 1, 1]), Buffer.from([2, 2, 2, 2])]);
  assert.deepEqual(addressesOf(ips, 16), [Buffer.from('00000000000000000000000000000001', 'hex')]);
});

test('every IPv6 text has the bytes that the URL parser sees', () => {
  fc.assert(
    fc.property(fc.ipV6(), (address) => {
      const bytes = addressBytes(address);
      assert.ok(bytes);
      const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(2 * index).toString(16));
      assert.equal(new URL(`http://[${groups.join(':')}]`).host, new URL(`http://[${address}]`).host);
    }),
    { seed: 7, numRuns: 500 },
  );
});
