import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import { ResponseName } from '../../../agent/xds/response-name.ts';
import { clusterType, extensionType, listenerType, messages } from './messages.ts';

type Kind = 'sotw' | 'delta';

function nameOf(bytes: Buffer, chunkBytes = bytes.length): string | undefined {
  const name = new ResponseName();
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    // A copy that is spoilt afterwards: nothing of a chunk may be kept.
    const chunk = Buffer.from(bytes.subarray(at, at + chunkBytes));
    assert.equal(name.push(chunk), name.typeUrl);
    chunk.fill(0xff);
  }
  return name.typeUrl;
}

test('a response is known by its own name, whatever its resources are, in any chunks', () => {
  fc.assert(
    fc.property(
      fc.constantFrom<Kind>('sotw', 'delta'),
      fc.constantFrom(clusterType, extensionType),
      fc.array(fc.record({ typeUrl: fc.constantFrom(clusterType, listenerType), value: fc.uint8Array() })),
      fc.string(),
      fc.integer({ min: 1, max: 50 }),
      (kind, typeUrl, list, text, chunkBytes) => {
        const any = list.map(({ typeUrl: type_url, value }) => ({ type_url, value: Buffer.from(value) }));
        const bytes =
          kind === 'sotw'
            ? messages.sotw.response.encode({
                version_info: text,
                type_url: typeUrl,
                nonce: text,
                canary: true,
                resources: any,
              })
            : messages.delta.response.encode({
                system_version_info: text,
                type_url: typeUrl,
                nonce: text,
                removed_resources: [text],
                resources: any.map((resource) => ({ name: text, version: text, resource })),
              });
        assert.equal(nameOf(bytes, chunkBytes), typeUrl);
      },
    ),
    { seed: 7, numRuns: 300 },
  );
});

test('the last of several names counts, as in any decoder, and fields of every wire type are jumped over', () => {
  const named = (typeUrl: string) => messages.delta.response.encode({ type_url: typeUrl });
  const others = Buffer.from([0x48, 0xff, 0x01, 0x51, 1, 2, 3, 4, 5, 6, 7, 8, 0x5d, 1, 2, 3, 4]);
  const bytes = Buffer.concat([others, named(clusterType), others, named(extensionType), others]);
  assert.equal(messages.delta.response.decode(bytes)['type_url'], extensionType);
  for (const chunkBytes of [1, 2, 7, bytes.length]) assert.equal(nameOf(bytes, chunkBytes), extensionType);
});

test('a response without a name has none', () => {
  assert.equal(nameOf(Buffer.alloc(0)), undefined);
  assert.equal(nameOf(messages.delta.response.encode({ nonce: 'n' }), 1), undefined);
});

test('bytes that are no message end the search, and keep what was found', () => {
  const named = messages.delta.response.encode({ type_url: clusterType });
  const later = messages.delta.response.encode({ type_url: extensionType });
  const defects: readonly Buffer[] = [
    Buffer.alloc(11, 0xff),
    Buffer.from([0x0b]),
    Buffer.from([0x22, 0xff, 0xff, 0xff, 0xff, 0x0f]),
    Buffer.from([0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]),
  ];
  for (const defect of defects) {
    for (const chunkBytes of [1, 5, 4096]) {
      assert.equal(nameOf(Buffer.concat([named, defect, later]), chunkBytes), clusterType);
    }
  }
});

test('garbage gives the same answer in any chunks, and never an exception', () => {
  fc.assert(
    fc.property(
      // Small values make valid tags likely, so that the walk gets somewhere.
      fc.uint8Array({ maxLength: 120, max: 60 }),
      fc.uint8Array({ maxLength: 20 }),
      fc.integer({ min: 1, max: 9 }),
      (start, end, chunkBytes) => {
        const bytes = Buffer.concat([start, end]);
        assert.equal(nameOf(bytes, chunkBytes), nameOf(bytes));
      },
    ),
    { seed: 7, numRuns: 3000 },
  );
});
