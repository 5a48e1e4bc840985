import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import { findRequestType, type MessageType, MessageTypeScanner } from '../../../agent/xds/message-type.ts';
import { clusterType, extensionType, listenerType, messages } from './messages.ts';

type Kind = 'sotw' | 'delta';

/** Feeds chunk by chunk; also says after how many bytes the result was there. */
function scan(
  direction: 'request' | 'response',
  kind: Kind,
  bytes: Buffer,
  chunkBytes = bytes.length,
): { readonly result: MessageType; readonly seenBytes: number } {
  const scanner = new MessageTypeScanner(direction, kind, bytes.length);
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    const result = scanner.push(bytes.subarray(at, at + chunkBytes));
    if (result.state !== 'need-more') return { result, seenBytes: Math.min(bytes.length, at + chunkBytes) };
  }
  return { result: scanner.finish(), seenBytes: bytes.length };
}

/** A length-delimited field by hand, for orders that no encoder writes. */
function field(number: number, value: Buffer | string): Buffer {
  const bytes = Buffer.from(value as string);
  const length: number[] = [];
  for (let rest = bytes.length; ; rest = Math.floor(rest / 128)) {
    length.push(rest >= 128 ? (rest % 128) + 128 : rest);
    if (rest < 128) break;
  }
  return Buffer.concat([Buffer.from([number * 8 + 2, ...length]), bytes]);
}

const resources = fc.array(
  fc.record({
    name: fc.string(),
    typeUrl: fc.constantFrom(clusterType, listenerType),
    value: fc.uint8Array(),
  }),
  { maxLength: 4 },
);

test('a response of any content is known by its type, in both kinds and any chunks', () => {
  fc.assert(
    fc.property(
      fc.constantFrom<Kind>('sotw', 'delta'),
      fc.constantFrom(clusterType, extensionType),
      resources,
      fc.string(),
      fc.integer({ min: 1, max: 50 }),
      (kind, typeUrl, list, nonce, chunkBytes) => {
        const any = list.map(({ value }) => ({ type_url: typeUrl, value: Buffer.from(value) }));
        const bytes =
          kind === 'sotw'
            ? messages.sotw.response.encode({ type_url: typeUrl, nonce, resources: any, version_info: nonce })
            : messages.delta.response.encode({
                type_url: typeUrl,
                nonce,
                system_version_info: nonce,
                removed_resources: list.map(({ name }) => name),
                resources: any.map((resource, index) => ({
                  name: list[index]?.name,
                  version: nonce,
                  resource,
                })),
              });
        assert.deepEqual(scan('response', kind, bytes, chunkBytes).result, { state: 'known', typeUrl });
      },
    ),
    { seed: 7, numRuns: 300 },
  );
});

test('the type of a large response is known from its first bytes', () => {
  const value = Buffer.alloc(1_000_000);
  const sotw = messages.sotw.response.encode({
    version_info: 'v1',
    type_url: clusterType,
    resources: [{ type_url: clusterType, value }],
  });
  const delta = messages.delta.response.encode({
    system_version_info: 'v1',
    type_url: clusterType,
    resources: [{ name: 'r', version: 'v', resource: { type_url: clusterType, value } }],
  });
  assert.ok(scan('response', 'sotw', sotw, 16).seenBytes < 100);
  assert.ok(scan('response', 'delta', delta, 16).seenBytes < 100);
});

test('resources that name no type, or only the wrapper, leave the decision to what follows', () => {
  const wrapper = 'type.googleapis.com/envoy.service.discovery.v3.Resource';
  const sotw = messages.sotw.response.encode({
    type_url: extensionType,
    resources: [{ type_url: wrapper, value: Buffer.from('abc') }, { type_url: '' }],
  });
  assert.deepEqual(scan('response', 'sotw', sotw, 3).result, { state: 'known', typeUrl: extensionType });
  const delta = messages.delta.response.encode({
    type_url: extensionType,
    resources: [{ name: 'heartbeat without content' }],
  });
  assert.deepEqual(scan('response', 'delta', delta, 3).result, { state: 'known', typeUrl: extensionType });
});

test('an encoder that writes content before its type, or the type first, is understood', () => {
  const valueFirst = Buffer.concat([field(2, Buffer.alloc(70_000)), field(1, listenerType)]);
  const cases: readonly (readonly [Kind, Buffer])[] = [
    ['sotw', Buffer.concat([field(2, valueFirst), field(4, listenerType)])],
    ['sotw', Buffer.concat([field(4, listenerType), field(2, valueFirst)])],
    ['delta', Buffer.concat([field(2, Buffer.concat([field(3, 'name'), field(2, valueFirst)]))])],
  ];
  for (const [kind, bytes] of cases) {
    assert.deepEqual(scan('response', kind, bytes, 1000).result, { state: 'known', typeUrl: listenerType });
  }
});

test('a message without any type is absent, also when it is empty', () => {
  for (const kind of ['sotw', 'delta'] as const) {
    assert.deepEqual(scan('response', kind, Buffer.alloc(0)).result, { state: 'absent' });
    assert.deepEqual(findRequestType(Buffer.alloc(0), kind), { state: 'absent' });
  }
  const nonceOnly = messages.delta.response.encode({ nonce: 'n' });
  assert.deepEqual(scan('response', 'delta', nonceOnly, 1).result, { state: 'absent' });
});

test('a request is known by its own type field, and the last one counts as in any decoder', () => {
  const sotw = messages.sotw.request.encode({
    version_info: 'v',
    node: { id: 'sidecar~1.2.3.4~a.b~c' },
    resource_names: ['a'],
    type_url: clusterType,
    error_detail: { code: 13, message: 'no' },
  });
  assert.deepEqual(findRequestType(sotw, 'sotw'), { state: 'known', typeUrl: clusterType });
  const delta = messages.delta.request.encode({
    node: { id: 'sidecar~1.2.3.4~a.b~c' },
    type_url: clusterType,
    initial_resource_versions: { a: '' },
    response_nonce: 'n',
  });
  assert.deepEqual(findRequestType(delta, 'delta'), { state: 'known', typeUrl: clusterType });
  const twice = Buffer.concat([delta, field(2, extensionType)]);
  assert.deepEqual(findRequestType(twice, 'delta'), { state: 'known', typeUrl: extensionType });
  assert.equal(messages.delta.request.decode(twice)['type_url'], extensionType);
});

test('a truncated message is malformed or known, never a wrong type', () => {
  const bytes = messages.delta.response.encode({
    system_version_info: 'v1',
    type_url: clusterType,
    resources: [{ name: 'r', resource: { type_url: clusterType, value: Buffer.from('abc') } }],
  });
  for (let length = 1; length < bytes.length; length += 1) {
    const { result } = scan('response', 'delta', bytes.subarray(0, length), 7);
    if (result.state === 'known') assert.equal(result.typeUrl, clusterType);
    else assert.ok(result.state === 'malformed' || result.state === 'absent', `${length}: ${result.state}`);
  }
});

test('garbage gives the same answer in any chunks, and never an exception', () => {
  fc.assert(
    fc.property(
      fc.constantFrom<'request' | 'response'>('request', 'response'),
      fc.constantFrom<Kind>('sotw', 'delta'),
      // Small values make valid tags likely, so that the walk gets somewhere.
      fc.uint8Array({ maxLength: 120, max: 60 }),
      fc.uint8Array({ maxLength: 20 }),
      fc.integer({ min: 1, max: 9 }),
      (direction, kind, start, end, chunkBytes) => {
        const bytes = Buffer.concat([start, end]);
        const whole = scan(direction, kind, bytes);
        assert.notEqual(whole.result.state, 'need-more');
        assert.deepEqual(scan(direction, kind, bytes, chunkBytes).result, whole.result);
      },
    ),
    { seed: 7, numRuns: 3000 },
  );
});

test('defects are named with their place', () => {
  const cases: readonly (readonly [Buffer, RegExp, number])[] = [
    [Buffer.from([0x00]), /tag 0/, 1],
    [Buffer.from([0x0b]), /wire type 3 of field 1/, 1],
    [Buffer.from([0x12, 0x05, 0x01]), /field of 5 bytes runs over/, 2],
    [Buffer.from([0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]), /field of 4294967295 bytes runs over/, 6],
    [Buffer.alloc(12, 0xff), /varint is too long/, 11],
    [Buffer.from([0x22, 0x01]), /field of 1 bytes runs over/, 2],
    [field(4, Buffer.alloc(5000, 'a')), /type URL of 5000 bytes/, 3],
    [Buffer.from([0x09, 1, 2]), /field of 8 bytes runs over/, 1],
    [Buffer.from([0x12, 0x01, 0x12]), /ends inside a field/, 3],
  ];
  for (const [bytes, reason, offset] of cases) {
    const { result } = scan('response', 'sotw', bytes);
    assert.equal(result.state, 'malformed', bytes.toString('hex').slice(0, 30));
    if (result.state !== 'malformed') return;
    assert.match(result.reason, reason);
    assert.equal(result.offset, offset, result.reason);
  }
});
