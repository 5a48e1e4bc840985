import assert from 'node:assert/strict';
import { type FrameFault, FrameSplitter } from '../../../agent/xds/frames.ts';
import type { SeededRandom } from '../../support/seeded-random.ts';
import { batchTarget } from './batch.ts';
import { chunked, mutate } from './mutation.ts';
import { wireCorpus } from './wire-corpus.ts';

const headerBytes = 5;

/** A stream of framed messages with a few changes anywhere, lengths and flags included. */
function framedStream(random: SeededRandom): Buffer {
  const { responses } = wireCorpus();
  const messages = Array.from({ length: random.integer(0, 4) }, () =>
    random.chance(0.2) ? Buffer.alloc(0) : random.pick(responses.delta).subarray(0, random.integer(0, 300)),
  );
  const framed = messages.map((message) => {
    const header = Buffer.alloc(headerBytes);
    header.writeUInt32BE(message.length, 1);
    return Buffer.concat([header, message]);
  });
  return mutate(random, [Buffer.concat(framed)]);
}

interface Split {
  readonly messages: readonly string[];
  /** Bytes of a message whose end has not come. */
  readonly rest: string;
  readonly fault: FrameFault | undefined;
  readonly isAtBoundary: boolean;
}

/** What a splitter should do, by reading the whole stream at once. */
function splitAtOnce(stream: Buffer, maxMessageBytes: number): Split {
  const messages: string[] = [];
  let at = 0;
  const ended = (fault?: FrameFault): Split => ({
    messages,
    rest: '',
    fault,
    isAtBoundary: fault === undefined && at === stream.length,
  });
  while (stream.length - at >= headerBytes) {
    const flag = stream.readUInt8(at);
    const lengthBytes = stream.readUInt32BE(at + 1);
    if (flag !== 0) return ended({ code: 'compressed', flag });
    if (lengthBytes > maxMessageBytes)
      return ended({ code: 'too-large', lengthBytes, maxBytes: maxMessageBytes });
    const end = at + headerBytes + lengthBytes;
    if (end > stream.length) {
      return { ...ended(), rest: stream.toString('latin1', at + headerBytes), isAtBoundary: false };
    }
    messages.push(stream.toString('latin1', at + headerBytes, end));
    at = end;
  }
  return ended();
}

/** The splitter of the relay agrees with one that sees everything at once, over any chunks, and loses no byte. */
export const framesTarget = batchTarget('frames', (random) => {
  const stream = framedStream(random);
  const maxMessageBytes = random.pick([0, 10, 300, 100_000]);
  const messages: string[] = [];
  const seen: Buffer[] = [];
  let parts: Buffer[] = [];
  const splitter = new FrameSplitter({
    maxMessageBytes,
    sink: {
      onMessageStart: (lengthBytes, header) => {
        assert.equal(header.readUInt32BE(1), lengthBytes);
        assert.ok(lengthBytes <= maxMessageBytes);
        seen.push(header);
        parts = [];
      },
      onMessageData: (part) => {
        assert.ok(part.length > 0);
        seen.push(part);
        parts.push(part);
      },
      onMessageEnd: () => messages.push(Buffer.concat(parts.splice(0)).toString('latin1')),
    },
  });
  let fault: FrameFault | undefined;
  for (const chunk of chunked(stream, random)) {
    const next = splitter.push(chunk);
    if (fault !== undefined) assert.deepEqual(next, fault, 'a fault stays');
    fault = next;
  }
  const expected = splitAtOnce(stream, maxMessageBytes);
  const split = {
    messages,
    rest: Buffer.concat(parts).toString('latin1'),
    fault,
    isAtBoundary: splitter.isAtBoundary,
  };
  assert.deepEqual(split, expected);
  const passed = Buffer.concat(seen);
  assert.ok(passed.equals(stream.subarray(0, passed.length)), 'the bytes given on are those that came');
});
