import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import { decodeGrpcMessage, encodeGrpcMessage } from '../../../agent/xds/grpc-message.ts';

test('any text survives percent encoding and is printable ASCII on the wire', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 200 }), (text) => {
      const encoded = encodeGrpcMessage(text);
      assert.match(encoded, /^[\x20-\x7e]*$/);
      assert.equal(decodeGrpcMessage(encoded), text);
    }),
    { seed: 7, numRuns: 300 },
  );
});

test('the examples of the protocol are met', () => {
  assert.equal(encodeGrpcMessage('50% of\nü'), '50%25 of%0A%C3%BC');
  assert.equal(decodeGrpcMessage('bad %zz and %'), 'bad %zz and %');
  assert.equal(decodeGrpcMessage('cut %C3'), 'cut \ufffd');
});

test('a very long message is cut, so that a peer does not refuse the header', () => {
  const encoded = encodeGrpcMessage('€'.repeat(100_000));
  assert.ok(encoded.length < 40_000);
  assert.ok(decodeGrpcMessage(encoded).endsWith('€...'));
});
