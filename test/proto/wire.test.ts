import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import {
  bytesTag,
  dropFields,
  exchangeField,
  FieldCursor,
  MessageWriter,
  messageIn,
  varintTag,
  WireFormatError,
} from '../../proto/wire.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
/** By another library. */
const written = (write: (writer: BinaryWriter) => unknown): Buffer => {
  const writer = new BinaryWriter();
  write(writer);
  return Buffer.from(writer.finish());
};

function firstField(message: Buffer): FieldCursor {
  const cursor = new FieldCursor(message);
  assert.notEqual(cursor.next(), 0);
  return cursor;
}

describe('numbers', () => {
  for (const value of [0, 1, 127, 128, 2 ** 28 - 1, 2 ** 28, 2 ** 31 - 1, -1, -(2 ** 31)]) {
    test(`the int32 ${value} is read as another library wrote it`, () => {
      const cursor = firstField(written((writer) => writer.tag(3, WireType.Varint).int32(value)));
      assert.equal(cursor.int32(), value);
      assert.equal(cursor.int64(), value);
      assert.equal(cursor.bool(), value !== 0);
    });
  }

  for (const value of [2 ** 32 - 1, 2 ** 32, 2 ** 35 + 1, Number.MAX_SAFE_INTEGER, -(2 ** 40), -1]) {
    test(`the int64 ${value} is read as another library wrote it`, () => {
      const cursor = firstField(written((writer) => writer.tag(3, WireType.Varint).int64(BigInt(value))));
      assert.equal(cursor.int64(), value);
      assert.equal(cursor.bool(), true);
    });
  }

  for (const value of [0, 127, 128, 300, 2 ** 32 - 1, 2 ** 32, 2 ** 49 + 7]) {
    test(`${value} is written as it is read`, () => {
      assert.equal(firstField(new MessageWriter().varint(1, value).finish()).int64(), value);
    });
  }

  test('of an enumeration with more bits the lower 32 count, as every decoder has it', () => {
    assert.equal(firstField(hex('38 83 80 80 80 10')).int32(), 3);
  });
});

describe('what is no message', () => {
  for (const [what, bytes, reason] of [
    ['a tag that is cut off', '80', /ends inside a number at byte 1/],
    ['a number that is cut off', '08 80', /ends inside a number/],
    ['a number of eleven bytes', '08 80 80 80 80 80 80 80 80 80 80 01', /more than 10 bytes/],
    ['a length over the end', '0a 02 00', /longer than the message/],
    ['a length over 4 GiB', '0a 80 80 80 80 80 01 00', /longer than the message/],
    ['field 0', '02 00', /no valid field number/],
    ['a field number over 32 bits', '82 80 80 80 10 00', /no valid field number/],
    ['a group', '0b 0c', /unknown wire type 3/],
    ['a fixed number that is cut off', '0d 00', /longer than the message/],
  ] as const) {
    test(`${what} is refused with its place`, () => {
      const cursor = new FieldCursor(hex(bytes));
      assert.throws(
        () => {
          while (cursor.next() !== 0);
        },
        (error) => error instanceof WireFormatError && reason.test(error.message),
      );
    });
  }

  test('text that is not UTF-8 is refused, and what stands for such is text', () => {
    assert.throws(() => firstField(hex('0a 01 ff')).text(), /not UTF-8/);
    assert.equal(firstField(new MessageWriter().text(1, 'a\u{fffd}').finish()).text(), 'a\u{fffd}');
  });
});

describe('a message in a field', () => {
  test('in several pieces is all of them', () => {
    assert.deepEqual(messageIn(hex('0a 02 08 01 12 00 0a 02 10 02'), 1), hex('08 01 10 02'));
  });

  test('is absent, or empty', () => {
    assert.equal(messageIn(hex('12 00'), 1), undefined);
    assert.deepEqual(messageIn(hex('0a 00'), 1), Buffer.alloc(0));
  });

  test('is no number of the same field', () => {
    assert.equal(messageIn(hex('08 01'), 1), undefined);
  });
});

describe('exchanging fields', () => {
  const message = hex('0a 01 61 10 05 0a 01 62 1a 01 63');

  test('puts the new one where the first old one stood', () => {
    assert.deepEqual(
      exchangeField(message, 1, () => Buffer.from('xy')),
      hex('0a 02 78 79 10 05 1a 01 63'),
    );
  });

  test('puts a new one at the end', () => {
    assert.deepEqual(
      exchangeField(message, 4, () => Buffer.from('x')),
      Buffer.concat([message, hex('22 01 78')]),
    );
  });

  test('takes out', () => {
    assert.deepEqual(
      exchangeField(message, 1, () => undefined),
      hex('10 05 1a 01 63'),
    );
    assert.deepEqual(
      exchangeField(message, 4, () => undefined),
      message,
    );
  });

  test('leaves a number of the same field', () => {
    assert.deepEqual(
      exchangeField(message, 2, () => undefined),
      message,
    );
  });

  test('shows what all pieces say', () => {
    const seen: unknown[] = [];
    for (const field of [1, 4]) {
      exchangeField(message, field, (content) => {
        seen.push(content);
        return content;
      });
    }
    assert.deepEqual(seen, [Buffer.from('ab'), undefined]);
  });

  test('drops those that are to go, in any place, and shows each', () => {
    const tags: number[] = [];
    const drop = (...dropped: readonly number[]): Buffer =>
      dropFields(message, (tag) => {
        tags.push(tag);
        return dropped.includes(tag);
      });
    assert.deepEqual(drop(), message);
    assert.deepEqual(tags, [bytesTag(1), varintTag(2), bytesTag(1), bytesTag(3)]);
    assert.deepEqual(drop(bytesTag(1)), hex('10 05 1a 01 63'));
    assert.deepEqual(drop(varintTag(2)), hex('0a 01 61 0a 01 62 1a 01 63'));
    assert.deepEqual(drop(bytesTag(3)), hex('0a 01 61 10 05 0a 01 62'));
    assert.deepEqual(drop(bytesTag(1), varintTag(2), bytesTag(3)), Buffer.alloc(0));
  });

  test('refuses what is no message, whatever is exchanged', () => {
    assert.throws(() => exchangeField(hex('0a 01 61 12'), 1, () => undefined), WireFormatError);
  });

  test('a hundred thousand pieces of one field take no time to speak of', () => {
    // Joining them one by one would move 5 GB.
    const one = new MessageWriter().text(1, 'a').finish();
    const many = Buffer.concat(Array.from({ length: 100_000 }, () => one));
    assert.equal(messageIn(many, 1)?.length, 100_000);
    assert.deepEqual(
      exchangeField(many, 1, () => Buffer.from('a')),
      one,
    );
  });
});
