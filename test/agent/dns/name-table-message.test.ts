import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { decodeNameTable } from '../../../agent/dns/name-table-message.ts';
import { MessageWriter } from '../../../proto/wire.ts';
import { encodeNameTable } from './name-table-fixture.ts';

const none = { ips: [], registry: '', shortName: '', namespace: '', altHosts: [] };

test('a name table of another encoder is read', () => {
  const bytes = encodeNameTable({
    'web.shop.svc.cluster.local': {
      ips: ['10.0.0.1', 'fd00::1'],
      registry: 'Kubernetes',
      shortname: 'web',
      namespace: 'shop',
      alt_hosts: ['web.alias'],
    },
    'empty.example': {},
  });
  assert.deepEqual(
    decodeNameTable(bytes),
    new Map([
      [
        'web.shop.svc.cluster.local',
        {
          ips: ['10.0.0.1', 'fd00::1'],
          registry: 'Kubernetes',
          shortName: 'web',
          namespace: 'shop',
          altHosts: ['web.alias'],
        },
      ],
      ['empty.example', none],
    ]),
  );
});

test('an empty message is an empty table', () => {
  assert.deepEqual(decodeNameTable(Buffer.alloc(0)), new Map());
});

test('unknown fields are skipped, the last of a repeated key counts, a missing value is empty', () => {
  const entry = (value: MessageWriter): MessageWriter => new MessageWriter().text(1, 'a').message(2, value);
  const bytes = new MessageWriter()
    .varint(9, 5)
    .message(1, entry(new MessageWriter().text(1, '1.1.1.1')).varint(7, 1))
    .message(1, entry(new MessageWriter().text(1, '2.2.2.2').text(99, 'new')))
    .message(1, new MessageWriter().text(1, 'b'))
    .finish();
  assert.deepEqual(
    decodeNameTable(bytes),
    new Map([
      ['a', { ...none, ips: ['2.2.2.2'] }],
      ['b', none],
    ]),
  );
});

const bad: readonly (readonly [string, Buffer])[] = [
  ['a field that is cut', Buffer.from('0a05', 'hex')],
  ['a text that is not UTF-8', Buffer.from('0a040a02c328', 'hex')],
  ['field number 0', Buffer.from('0200', 'hex')],
];

for (const [name, bytes] of bad) {
  test(`${name} is refused`, () => {
    assert.throws(() => decodeNameTable(bytes), { name: 'WireFormatError' });
  });
}

test('any bytes are a table or an error of the format, and nothing else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      try {
        decodeNameTable(Buffer.from(bytes));
      } catch (error) {
        assert.equal((error as Error).name, 'WireFormatError');
      }
    }),
    { seed: 7, numRuns: 3000, interruptAfterTimeLimit: 1000 },
  );
});
