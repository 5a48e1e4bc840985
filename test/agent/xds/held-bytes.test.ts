import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import { HeldBytes } from '../../../agent/xds/held-bytes.ts';

test('held bytes come back in order, whatever their sizes', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.nat(3), fc.nat(3000)), { maxLength: 80 }), (sizes) => {
      const parts = sizes.map((size, index) => Buffer.alloc(size, index + 1));
      const held = new HeldBytes();
      for (const part of parts) held.push(part);
      const expected = Buffer.concat(parts);
      assert.equal(held.sizeBytes, expected.length);
      assert.deepEqual(held.takeJoined(), expected);
      assert.equal(held.sizeBytes, 0);
      assert.deepEqual(held.takeJoined(), Buffer.alloc(0));
    }),
    { seed: 7, numRuns: 200 },
  );
});

test('the first parts are kept by reference, many small ones are put together', () => {
  const held = new HeldBytes();
  const first = Buffer.from('first');
  held.push(first);
  for (let index = 0; index < 10_000; index += 1) held.push(Buffer.from([index % 256]));
  const parts = held.take();
  assert.equal(parts[0], first);
  assert.ok(parts.length < 30, `${parts.length} parts`);
});
