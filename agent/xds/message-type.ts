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

/** Which fields matter in which message; all others are skipped. */
interface Shape {
  readonly root: 'response' | 'request';
  /** What a field of a message leads to. */
  readonly child: (parent: Role, field: number) => Role | undefined;
}

// Field numbers: Envoy API `envoy/service/discovery/v3/discovery.proto`, `google/protobuf/any.proto`.
const shapes = {
  response: {
    sotw: shapeOf('response', 'response.2=any response.4=type-url any.1=type-url'),
    delta: shapeOf('response', 'response.2=resource resource.2=any response.4=type-url any.1=type-url'),
  },
  request: {
    sotw: shapeOf('request', 'request.4=type-url'),
    delta: shapeOf('request', 'request.2=type-url'),
  },
};

function shapeOf(root: Shape['root'], edges: string): Shape {
  const table = new Map(edges.split(' ').map((edge) => edge.split('=') as [string, Role]));
  return { root, child: (parent, field) => table.get(`${parent}.${field}`) };
}

/** One message that the walk is inside of. */
interface Level {
  readonly role: Role;
  /** Offset in the whole message at which it ends. */
  readonly end: number;
}

/** What the next byte belongs to. */
type Step =
  | { readonly kind: 'tag' }
  | { readonly kind: 'varint-value' }
  | { readonly kind: 'length'; readonly role: Role | undefined }
  | { readonly kind: 'skip'; readonly until: number }
  | { readonly kind: 'text'; readonly until: number };

const needMore: MessageType = { state: 'need-more' };

/**
 * Finds the type URL of one protobuf message while its bytes come in, in any chunks. It keeps only a few numbers, so
 * its work is linear in the bytes given and independent of how they are cut, whatever a peer sends.
 *
 * A response is known by its first resource's type or by its own `type_url`, whichever comes first: istiod's encoder
 * writes `type_url` after the resources, possibly megabytes later. (istiod's debug answers have resources of another
 * type than they are named; they are taken for the resources' type.) A request is read to its end, where the last
 * `type_url` counts as in every protobuf decoder.
 */
export class MessageTypeScanner {
  readonly #shape: Shape;
  readonly #lengthBytes: number;
  readonly #levels: Level[] = [];
  #step: Step = { kind: 'tag' };
  #varint = 0;
  #varintBytes = 0;
  #offset = 0;
  #text: Buffer[] = [];
  #found: string | undefined;
  #result: MessageType = needMore;

  /** `lengthBytes` is the length of the whole message: what a field claims is checked against it. */
  constructor(direction: 'request' | 'response', kind: StreamKind, lengthBytes: number) {
    this.#shape = shapes[direction][kind];
    this.#lengthBytes = lengthBytes;
    this.#levels.push({ role: this.#shape.root, end: lengthBytes });
  }

  /** Takes the next bytes. Once the result is not `need-more` it stays, and further bytes are ignored. */
  push(chunk: Buffer): MessageType {
    let at = 0;
    while (at < chunk.length && this.#result.state === 'need-more') {
      const step = this.#step;
      if (step.kind === 'skip' || step.kind === 'text') {
        const end = Math.min(chunk.length, at + step.until - this.#offset);
        if (step.kind === 'text') this.#text.push(Buffer.from(chunk.subarray(at, end)));
        this.#offset += end - at;
        at = end;
        if (this.#offset === step.until) this.#endField(step.kind);
      } else {
        const byte = chunk.readUInt8(at);
        at += 1;
        this.#offset += 1;
        if (this.#pushVarintByte(byte)) this.#endVarint(step);
      }
    }
    if (this.#result.state === 'need-more' && this.#offset === this.#lengthBytes) this.#endMessage();
    return this.#result;
  }

  /** The result for a message of length 0, for which `push` is never called. */
  finish(): MessageType {
    if (this.#result.state === 'need-more') this.#endMessage();
    return this.#result;
  }

  /** True when the varint is complete. */
  #pushVarintByte(byte: number): boolean {
    const isLast = byte < 0x80;
    if (this.#varintBytes === 10 || this.#offset > this.#end) {
      this.#fail(
        this.#offset > this.#end ? 'a field runs over the end of its message' : 'varint is too long',
      );
      return false;
    }
    // A product, not a shift: lengths go up to 2^32-1. Beyond 2^53 the value is inexact, and only ever skipped or refused.
    this.#varint += (byte & 0x7f) * 2 ** (7 * this.#varintBytes);
    this.#varintBytes += 1;
    return isLast;
  }

  #endVarint(step: Step): void {
    const value = this.#varint;
    this.#varint = 0;
    this.#varintBytes = 0;
    switch (step.kind) {
      case 'tag':
        this.#startField(value);
        return;
      case 'varint-value':
        this.#endField('skip');
        return;
      case 'length':
        this.#startBytes(value, step.role);
        return;
      case 'skip':
      case 'text':
        return;
      default:
        step satisfies never;
    }
  }

  #startField(tag: number): void {
    const field = Math.floor(tag / 8);
    if (field === 0 || tag > 0xffff_ffff) {
      this.#fail(`tag ${tag} is not one`);
      return;
    }
    switch (tag % 8) {
      case 0:
        this.#step = { kind: 'varint-value' };
        return;
      case 1:
        this.#skip(8);
        return;
      case 2:
        this.#step = { kind: 'length', role: this.#shape.child(this.#role, field) };
        return;
      case 5:
        this.#skip(4);
        return;
      default:
        this.#fail(`wire type ${tag % 8} of field ${field} is not used in discovery messages`);
    }
  }

  #startBytes(lengthBytes: number, role: Role | undefined): void {
    const until = this.#offset + lengthBytes;
    if (until > this.#end) {
      this.#fail(`a field of ${lengthBytes} bytes runs over the end of its message`);
    } else if (role === undefined) {
      this.#skip(lengthBytes);
    } else if (role !== 'type-url') {
      this.#levels.push({ role, end: until });
      this.#step = { kind: 'tag' };
      this.#leaveEndedLevels();
    } else if (lengthBytes > maxTypeUrlBytes) {
      this.#fail(`type URL of ${lengthBytes} bytes is longer than ${maxTypeUrlBytes}`);
    } else {
      this.#step = { kind: 'text', until };
      if (lengthBytes === 0) this.#endField('text');
    }
  }

  #skip(lengthBytes: number): void {
    const until = this.#offset + lengthBytes;
    if (until > this.#end) {
      this.#fail(`a field of ${lengthBytes} bytes runs over the end of its message`);
      return;
    }
    this.#step = { kind: 'skip', until };
    if (lengthBytes === 0) this.#endField('skip');
  }

  #endField(kind: 'skip' | 'text'): void {
    if (kind === 'text') {
      const typeUrl = Buffer.concat(this.#text).toString('utf8');
      this.#text = [];
      if (this.#shape.root === 'request') this.#found = typeUrl;
      else if (typeUrl !== '' && typeUrl !== resourceWrapperTypeUrl) {
        this.#result = { state: 'known', typeUrl };
        return;
      }
    }
    this.#step = { kind: 'tag' };
    this.#leaveEndedLevels();
  }

  #leaveEndedLevels(): void {
    while (this.#levels.length > 1 && this.#offset === this.#end) this.#levels.pop();
  }

  #endMessage(): void {
    if (this.#step.kind !== 'tag' || this.#varintBytes > 0 || this.#levels.length > 1) {
      this.#fail('the message ends inside a field');
    } else if (this.#found === undefined || this.#found === '') {
      this.#result = { state: 'absent' };
    } else {
      this.#result = { state: 'known', typeUrl: this.#found };
    }
  }

  get #end(): number {
    return this.#levels.at(-1)?.end ?? this.#lengthBytes;
  }

  get #role(): Role {
    return this.#levels.at(-1)?.role ?? this.#shape.root;
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
