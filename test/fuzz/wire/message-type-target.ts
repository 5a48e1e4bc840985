import assert from 'node:assert/strict';
import { findRequestType, type MessageType, MessageTypeScanner } from '../../../agent/xds/message-type.ts';
import { batchTarget } from './batch.ts';
import { chunked, mutate } from './mutation.ts';
import { Malformed, walk } from './reference-walk.ts';
import { wireCorpus } from './wire-corpus.ts';

type Direction = 'request' | 'response';
type Kind = 'sotw' | 'delta';

const wrapperTypeUrl = 'type.googleapis.com/envoy.service.discovery.v3.Resource';
const maxTypeUrlBytes = 4096;
/** Field numbers of type URLs and of what leads to them; Envoy API, discovery.proto. */
const requestTypeField = { sotw: 4, delta: 2 } as const;

/** The walk may stop: a response has named its type. */
class Known extends Error {
  readonly typeUrl: string;

  constructor(typeUrl: string) {
    super();
    this.typeUrl = typeUrl;
  }
}

function typeText(value: Buffer): string {
  if (value.length > maxTypeUrlBytes) throw new Malformed();
  return value.toString('utf8');
}

function takeType(value: Buffer): void {
  const typeUrl = typeText(value);
  if (typeUrl !== '' && typeUrl !== wrapperTypeUrl) throw new Known(typeUrl);
}

function walkAny(any: Buffer): void {
  walk(any, (field, value) => {
    if (field === 1) takeType(value);
  });
}

/** What the scanner should find. */
function reference(
  direction: Direction,
  kind: Kind,
  message: Buffer,
): Pick<MessageType, 'state'> & { typeUrl?: string } {
  let requested = '';
  try {
    if (direction === 'request') {
      walk(message, (field, value) => {
        if (field === requestTypeField[kind]) requested = typeText(value);
      });
      return requested === '' ? { state: 'absent' } : { state: 'known', typeUrl: requested };
    }
    walk(message, (field, value) => {
      if (field === 4) takeType(value);
      else if (field === 2 && kind === 'sotw') walkAny(value);
      else if (field === 2) {
        walk(value, (inner, any) => {
          if (inner === 2) walkAny(any);
        });
      }
    });
    return { state: 'absent' };
  } catch (error) {
    if (error instanceof Known) return { state: 'known', typeUrl: error.typeUrl };
    if (error instanceof Malformed) return { state: 'malformed' };
    throw error;
  }
}

/** The scanner finds what a recursive reader finds, whatever the chunks, and stays with what it has found. */
export const messageTypeTarget = batchTarget('message-type', (random) => {
  const direction = random.pick(['request', 'response'] as const);
  const kind = random.pick(['sotw', 'delta'] as const);
  const corpus = wireCorpus();
  const message = mutate(random, direction === 'request' ? corpus.requests[kind] : corpus.responses[kind]);
  const scanner = new MessageTypeScanner(direction, kind, message.length);
  let result: MessageType = { state: 'need-more' };
  for (const chunk of chunked(message, random)) {
    const next = scanner.push(chunk);
    if (result.state !== 'need-more') assert.deepEqual(next, result, 'a result stays');
    result = next;
  }
  result = scanner.finish();
  const expected = reference(direction, kind, message);
  const found =
    result.state === 'known' ? { state: result.state, typeUrl: result.typeUrl } : { state: result.state };
  assert.deepEqual(found, expected, message.toString('hex'));
  if (direction === 'request') assert.deepEqual(findRequestType(message, kind), result);
  if (result.state === 'malformed') assert.ok(result.offset >= 0 && result.offset <= message.length + 1);
});
