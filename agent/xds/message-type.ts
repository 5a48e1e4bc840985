import type { StreamKind } from './interceptor.ts';

/** What is known of a message's type after some of its bytes. */
export type MessageType =
  | { readonly state: 'known'; readonly typeUrl: string }
  /** The bytes so far do not tell; only while the message is not complete. */
  | { readonly state: 'need-more' }
  /** The whole message names no type. */
  | { readonly state: 'absent' }
  /** The bytes are not protobuf. `offset` is into the message. */
  | { readonly state: 'malformed'; readonly reason: string; readonly offset: number };

/** A type URL longer than this is nonsense, and would be held in memory while it is read. */
const maxTypeUrlBytes = 4096;

/**
 * In state of the world, a resource with a TTL or a name of its own comes inside this wrapper, whose type URL says
 * nothing about the type of the response (Envoy API, `discovery.proto`, `message Resource`).
 */
const resourceWrapperTypeUrl = 'type.googleapis.com/envoy.service.discovery.v3.Resource';

/** Messages that the walk goes through; the last is where a type URL ends. */
type Role = 'response' | 'request' | 'resource' | 'any' | 'type-url';

/** What a field of a message leads to, by its number; other fields are skipped. */
type Children = Readonly<Record<Role, Readonly<Partial<Record<number, Role>>>>>;

const noChildren: Children = { response: {}, request: {}, resource: {}, any: {}, 'type-url': {} };

// Field numbers: Envoy API `envoy/service/discovery/v3/discovery.proto`, `google/protobuf/any.proto`.
const children = {
  response: {
    sotw: { ...noChildren, response: { 2: 'any', 4: 'type-url' }, any: { 1: 'type-url' } },
    delta: {
      ...noChildren,
      response: { 2: 'resource', 4: 'type-url' },
      resource: { 2: 'any' },
      any: { 1: 'type-url' },
    },
  },
  request: {
    sotw: { ...noChildren, request: { 4: 'type-url' } },
    delta: { ...noChildren, request: { 2: 'type-url' } },
  },
} satisfies Record<'response' | 'request', Record<StreamKind, Children>>;

/** A message around the one that the walk is inside of. */
interface Level {
  readonly role: Role;
  /** Offset in the whole message at which it ends. */
  readonly end: number;
}

/** What the next byte belongs to. */
type Step = 'tag' | 'varint-value' | 'length' | 'skip' | 'text';

const needMore: MessageType = { state: 'need-more' };
const maxVarintBytes = 10;

/**
 * Finds the type URL of one protobuf message while its bytes come in, in any chunks. It keeps only a few numbers, so
 * its work is linear in the bytes given and independent of how they are cut, whatever a peer sends.
 *
 * A response is known by its first resource's type or by its own `type_url`, whichever comes first: istiod's encoder
 * writes `type_url` after the resources, possibly megabytes later. (istiod's debug answers have resources of another
 * type than they are named; they are taken for the resources' type.) A request is read to its end, where the last
 * `type_url` counts as in every protobuf decoder.
 *
 * It reads each message of the stream, so its state is plain members: an object a field would be most of its cost.
 */
export class MessageTypeScanner {
  readonly #root: 'request' | 'response';
  readonly #children: Children;
  readonly #lengthBytes: number;
  readonly #outer: Level[] = [];
  /** Of the message that the walk is inside of. */
  #role: Role;
  #end: number;
  #step: Step = 'tag';
  /** Where the bytes of a `skip` or `text` end. */
  #until = 0;
  /** What the field of a `length` leads to. */
  #child: Role | undefined;
  /** The varint that is being read, and the weight of its next byte. */
  #varint = 0;
  #varintBytes = 0;
  #weight = 1;
  #offset = 0;
  /** Parts of a type URL that is cut by the end of a chunk. */
  #text: Buffer[] = [];
  #found: string | undefined;
  #result: MessageType = needMore;

  /** `lengthBytes` is the length of the whole message: what a field claims is checked against it. */
  constructor(direction: 'request' | 'response', kind: StreamKind, lengthBytes: number) {
    this.#root = direction;
    this.#children = children[direction][kind];
    this.#lengthBytes = lengthBytes;
    this.#role = direction;
    this.#end = lengthBytes;
  }

  /** Takes the next bytes. Once the result is not `need-more` it stays, and further bytes are ignored. */
  push(chunk: Buffer): MessageType {
    let at = 0;
    while (at < chunk.length && this.#result === needMore) {
      const step = this.#step;
      at = step === 'skip' || step === 'text' ? this.#pushBytes(chunk, at) : this.#pushVarint(chunk, at);
    }
    if (this.#result === needMore && this.#offset === this.#lengthBytes) this.#endMessage();
    return this.#result;
  }

  /** Of a request, as far as it has been read. */
  get lastTypeUrl(): string | undefined {
    return this.#found;
  }

  /** The result for a message of length 0, for which `push` is never called. */
  finish(): MessageType {
    if (this.#result === needMore) this.#endMessage();
    return this.#result;
  }

  /** Reads on in a field of bytes. Returns where in the chunk to go on. */
  #pushBytes(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + this.#until - this.#offset);
    this.#offset += end - at;
    const isWhole = this.#offset === this.#until;
    if (this.#step === 'skip') {
      if (isWhole) this.#endField();
    } else if (isWhole && this.#text.length === 0) {
      this.#endTypeUrl(chunk.toString('utf8', at, end));
    } else {
      this.#text.push(Buffer.from(chunk.subarray(at, end)));
      if (isWhole) this.#endTypeUrl(Buffer.concat(this.#text).toString('utf8'));
    }
    return end;
  }

  /** Reads on in a varint. Returns where in the chunk to go on. */
  #pushVarint(chunk: Buffer, at: number): number {
    for (let next = at; next < chunk.length; ) {
      const byte = chunk[next] ?? 0;
      next += 1;
      this.#offset += 1;
      if (this.#offset > this.#end) {
        this.#fail('a field runs over the end of its message');
        return next;
      }
      if (this.#varintBytes === maxVarintBytes) {
        this.#fail('varint is too long');
        return next;
      }
      // A product, not a shift: lengths go up to 2^32-1. Beyond 2^53 the value is inexact, and only ever skipped or refused.
      this.#varint += (byte & 0x7f) * this.#weight;
      if (byte < 0x80) {
        const value = this.#varint;
        this.#varint = 0;
        this.#varintBytes = 0;
        this.#weight = 1;
        this.#endVarint(value);
        return next;
      }
      this.#varintBytes += 1;
      this.#weight *= 0x80;
    }
    return chunk.length;
  }

  #endVarint(value: number): void {
    if (this.#step === 'tag') this.#startField(value);
    else if (this.#step === 'length') this.#startBytes(value);
    else this.#endField();
  }

  #startField(tag: number): void {
    const field = Math.floor(tag / 8);
    if (field === 0 || tag > 0xffff_ffff) {
      this.#fail(`tag ${tag} is not one`);
      return;
    }
    switch (tag % 8) {
      case 0:
        this.#step = 'varint-value';
        return;
      case 1:
        this.#skip(8);
        return;
      case 2:
        this.#step = 'length';
        this.#child = this.#children[this.#role][field];
        return;
      case 5:
        this.#skip(4);
        return;
      default:
        this.#fail(`wire type ${tag % 8} of field ${field} is not used in discovery messages`);
    }
  }

  #startBytes(lengthBytes: number): void {
    const role = this.#child;
    const until = this.#offset + lengthBytes;
    if (role === undefined) {
      this.#skip(lengthBytes);
    } else if (until > this.#end) {
      this.#failOverrun(lengthBytes);
    } else if (role !== 'type-url') {
      this.#outer.push({ role: this.#role, end: this.#end });
      this.#role = role;
      this.#end = until;
      this.#endField();
    } else if (lengthBytes > maxTypeUrlBytes) {
      this.#fail(`type URL of ${lengthBytes} bytes is longer than ${maxTypeUrlBytes}`);
    } else if (lengthBytes === 0) {
      this.#endTypeUrl('');
    } else {
      this.#step = 'text';
      this.#until = until;
    }
  }

  #skip(lengthBytes: number): void {
    const until = this.#offset + lengthBytes;
    if (until > this.#end) {
      this.#failOverrun(lengthBytes);
    } else if (lengthBytes === 0) {
      this.#endField();
    } else {
      this.#step = 'skip';
      this.#until = until;
    }
  }

  #endTypeUrl(typeUrl: string): void {
    this.#text = [];
    if (this.#root === 'request') {
      this.#found = typeUrl;
    } else if (typeUrl !== '' && typeUrl !== resourceWrapperTypeUrl) {
      this.#result = { state: 'known', typeUrl };
      return;
    }
    this.#endField();
  }

  /** The next byte is a tag, in the innermost message that has not ended. */
  #endField(): void {
    this.#step = 'tag';
    while (this.#offset === this.#end) {
      const outer = this.#outer.pop();
      if (outer === undefined) return;
      this.#role = outer.role;
      this.#end = outer.end;
    }
  }

  #endMessage(): void {
    if (this.#step !== 'tag' || this.#varintBytes > 0 || this.#outer.length > 0) {
      this.#fail('the message ends inside a field');
    } else if (this.#found === undefined || this.#found === '') {
      this.#result = { state: 'absent' };
    } else {
      this.#result = { state: 'known', typeUrl: this.#found };
    }
  }

  #failOverrun(lengthBytes: number): void {
    this.#fail(`a field of ${lengthBytes} bytes runs over the end of its message`);
  }

  #fail(reason: string): void {
    this.#result = { state: 'malformed', reason, offset: this.#offset };
  }
}

/** The type of a whole request from Envoy. Never `need-more`. */
export function findRequestType(message: Buffer, kind: StreamKind): MessageType {
  const scanner = new MessageTypeScanner('request', kind, message.length);
  return message.length === 0 ? scanner.finish() : scanner.push(message);
}
