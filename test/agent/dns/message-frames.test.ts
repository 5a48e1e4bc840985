import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { frameMessage, MessageFrames } from '../../../agent/dns/message-frames.ts';

test('messages come out as they went in, however the stream is cut', () => {
  const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 6 });
  fc.assert(
    fc.property(messages, fc.array(fc.integer({ min: 1, max: 50 })), (messages, cuts) => {
      const stream = Buffer.concat(messages.map((message) => frameMessage(Buffer.from(message))));
      const frames = new MessageFrames();
      const out: Buffer[] = [];
      for (let at = 0, index = 0; at < stream.length; index += 1) {
        const end = at + (cuts[index % Math.max(cuts.length, 1)] ?? stream.length);
        out.push(...frames.push(stream.subarray(at, end)));
        at = end;
      }
      assert.deepEqual(
        out,
        messages.map((message) => Buffer.from(message)),
      );
    }),
    { seed: 7, numRuns: 1000, interruptAfterTimeLimit: 1000 },
  );
});

test('the longest message is framed, a longer one is not', () => {
  const longest = Buffer.alloc(65_535, 1);
  assert.deepEqual([...new MessageFrames().push(frameMessage(longest))], [longest]);
  assert.throws(() => frameMessage(Buffer.alloc(65_536)), RangeError);
});
