import assert from 'node:assert/strict';
import { DnsError } from '../../../agent/dns/dns-error.ts';
import { decodeNameTable } from '../../../agent/dns/name-table-message.ts';
import { decodeSideResponse } from '../../../agent/xds/side-subscription-message.ts';
import { MessageWriter, readFields, WireFormatError } from '../../../proto/wire.ts';
import { batchTarget } from './batch.ts';
import { mutate } from './mutation.ts';
import { Malformed, walk } from './reference-walk.ts';
import { wireCorpus } from './wire-corpus.ts';

/** Undefined when the bytes are refused with one of the errors that are meant for it. */
function refusable<Value>(read: () => Value): Value | undefined {
  try {
    return read();
  } catch (error) {
    assert.ok(error instanceof WireFormatError || error instanceof DnsError, String(error));
    return undefined;
  }
}

/** The length-delimited fields, by another reader; undefined when the bytes are no message. */
function referenceFields(message: Buffer): (readonly [number, string])[] | undefined {
  const found: (readonly [number, string])[] = [];
  try {
    walk(message, (field, value) => found.push([field, value.toString('latin1')]));
    return found;
  } catch (error) {
    if (error instanceof Malformed) return undefined;
    throw error;
  }
}

/** The hand-written readers of small messages refuse or read; what they read lies inside the message. */
export const walkersTarget = batchTarget('walkers', (random) => {
  const { responses, nameTables, requests } = wireCorpus();
  const kind = random.pick(['sotw', 'delta'] as const);
  const message = mutate(random, random.pick([responses[kind], requests[kind], nameTables]));
  const fields = refusable(() => [...readFields(message)]);
  const expected = referenceFields(message);
  assert.deepEqual(
    fields?.flatMap((field) =>
      field.kind === 'bytes' ? [[field.number, field.value.toString('latin1')]] : [],
    ),
    expected,
  );
  if (fields !== undefined) {
    let totalBytes = 0;
    for (const field of fields) {
      assert.ok(field.number >= 1 && field.number < 2 ** 29);
      if (field.kind !== 'bytes') continue;
      totalBytes += field.value.length;
      // Written and read again it is the same field.
      const [again] = [...readFields(new MessageWriter().bytes(field.number, field.value).finish())];
      assert.deepEqual(again, field);
    }
    assert.ok(totalBytes <= message.length);
  }
  const table = refusable(() => decodeNameTable(message));
  for (const info of table?.values() ?? []) assert.ok(info.ips.length <= message.length);
  const side = refusable(() => decodeSideResponse(kind, message));
  assert.ok((side?.resource?.value.length ?? 0) <= message.length);
});
