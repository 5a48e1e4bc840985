import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import { encodeFrame, type FrameFault, FrameSplitter } from '../../../agent/xds/frames.ts';
import { frame } from './raw-peers.ts';

/** Records what a splitter says, message by message. */
function record(maxMessageBytes = 2 ** 32 - 1) {
  const messages: {
    readonly lengthBytes: number;
    readonly header: Buffer;
    parts: Buffer[];
    isEnded: boolean;
  }[] = [];
  const splitter = new FrameSplitter({
    maxMessageBytes,
    sink: {
      onMessageStart: (lengthBytes, header) =>
        messages.push({ lengthBytes, header, parts: [], isEnded: false }),
      onMessageData: (part) => messages.at(-1)?.parts.push(part),
      onMessageEnd: () => {
        const message = messages.at(-1);
        if (message !== undefined) message.isEnded = true;
      },
    },
  });
  return { splitter, messages };
}

/** Cuts bytes at arbitrary places; also into empty chunks. */
function cut(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [...cuts.map((place) => place % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  let start = 0;
  return places.map((end) => {
    const chunk = bytes.subarray(start, end);
    start = end;
    return chunk;
  });
}

test('any messages come out whole, in order and uncopied, however the bytes are cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 8 }),
      fc.array(fc.nat(), { maxLength: 40 }),
      (sent, cuts) => {
        const bytes = Buffer.concat(sent.map((message) => frame(message)));
        const { splitter, messages } = record();
        for (const chunk of cut(bytes, cuts)) assert.equal(splitter.push(chunk), undefined);
        assert.equal(splitter.isAtBoundary, true);
        assert.deepEqual(
          messages.map(({ parts }) => Buffer.concat(parts)),
          sent.map((message) => Buffer.from(message)),
        );
        for (const { header, parts, lengthBytes, isEnded } of messages) {
          assert.equal(isEnded, true);
          assert.equal(header.readUInt32BE(1), lengthBytes);
          for (const part of parts) {
            assert.ok(part.length > 0);
            assert.equal(part.buffer, bytes.buffer);
          }
        }
      },
    ),
    { seed: 7, numRuns: 500 },
  );
});

test('a stream that is cut inside a message or its header is not at a boundary', () => {
  const bytes = frame(Buffer.from('abc'));
  for (let length = 1; length < bytes.length; length += 1) {
    const { splitter } = record();
    splitter.push(bytes.subarray(0, length));
    assert.equal(splitter.isAtBoundary, false, `after ${length} bytes`);
  }
});

test('a length over the bound is a fault as soon as the header is there, and stays one', () => {
  const { splitter, messages } = record(2 ** 31 - 1);
  const fault: FrameFault = { code: 'too-large', lengthBytes: 2 ** 32 - 1, maxBytes: 2 ** 31 - 1 };
  assert.equal(splitter.push(Buffer.from([0, 0xff, 0xff, 0xff])), undefined);
  assert.deepEqual(splitter.push(Buffer.from([0xff])), fault);
  assert.deepEqual(splitter.push(frame(Buffer.from('x'))), fault);
  assert.equal(messages.length, 0);
});

test('a length of the whole range is read as an unsigned number', () => {
  const { splitter, messages } = record();
  assert.equal(splitter.push(Buffer.from([0, 0xff, 0xff, 0xff, 0xfe, 1, 2])), undefined);
  assert.equal(messages[0]?.lengthBytes, 2 ** 32 - 2);
  assert.equal(splitter.isAtBoundary, false);
});

test('a compressed flag is a fault; the messages before it were delivered', () => {
  const { splitter, messages } = record();
  const bytes = Buffer.concat([frame(Buffer.from('ok')), frame(Buffer.from('zz'), 1)]);
  assert.deepEqual(splitter.push(bytes), { code: 'compressed', flag: 1 });
  assert.equal(messages.length, 1);
  assert.equal(messages[0]?.isEnded, true);
});

test('an encoded frame is the message with its length before it, for small and large messages', () => {
  for (const size of [0, 1, 4096, 4097, 100_000]) {
    const message = Buffer.alloc(size, 'm');
    assert.deepEqual(Buffer.concat(encodeFrame(message)), frame(message));
  }
});
