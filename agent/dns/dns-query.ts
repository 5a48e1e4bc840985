import {
  flag,
  headerBytes,
  maxLabelBytes,
  maxNameBytes,
  readRecord,
  recordType,
  responseCode,
} from './dns-message.ts';

/** What a client says of itself with an OPT record (RFC 6891). */
export interface Edns {
  readonly payloadBytes: number;
  readonly version: number;
  readonly isDnssecWanted: boolean;
}

/** The first and only question of a message. */
export interface Question {
  /** Lower case, with a dot at the end; bytes that are no plain characters as `\ddd`. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** Offset behind it. */
  readonly end: number;
}

/** A query that can be answered. `message` is the datagram or frame it came in. */
export interface DnsQuery {
  readonly message: Buffer;
  readonly id: number;
  readonly flags: number;
  readonly question: Question;
  readonly edns: Edns | undefined;
}

export type QueryReading =
  | { readonly kind: 'query'; readonly query: DnsQuery }
  /** Answered with this code alone. */
  | { readonly kind: 'refused'; readonly code: number }
  /** Not answered: too short, or itself an answer (two proxies would talk for ever). */
  | { readonly kind: 'ignored' };

/** Reads what a client sent. Takes any bytes. Exactly one question, as RFC 9619 has it. */
export function readQuery(message: Buffer): QueryReading {
  if (message.length < headerBytes) return { kind: 'ignored' };
  const flags = message.readUInt16BE(2);
  if ((flags & flag.response) !== 0) return { kind: 'ignored' };
  if ((flags & flag.opcode) !== 0) return { kind: 'refused', code: responseCode.notImplemented };
  const malformed = { kind: 'refused', code: responseCode.formatError } as const;
  if (message.readUInt16BE(4) !== 1) return malformed;
  const question = readQuestion(message);
  const edns = question === undefined ? 'malformed' : readEdns(message, question.end);
  if (question === undefined || edns === 'malformed') return malformed;
  return { kind: 'query', query: { message, id: message.readUInt16BE(0), flags, question, edns } };
}

/** The question behind the header; undefined when it cannot be read. Its name has no pointers. */
export function readQuestion(message: Buffer): Question | undefined {
  const labels: string[] = [];
  let at = headerBytes;
  for (;;) {
    const length = message[at];
    if (length === undefined || length > maxLabelBytes) return undefined;
    at += 1;
    if (length === 0) break;
    if (at + length - headerBytes >= maxNameBytes || at + length > message.length) return undefined;
    labels.push(readLabel(message.subarray(at, at + length)));
    at += length;
  }
  if (at + 4 > message.length) return undefined;
  return {
    name: `${labels.join('.')}.`,
    type: message.readUInt16BE(at),
    class: message.readUInt16BE(at + 2),
    end: at + 4,
  };
}

/** True for an answer to the query: same id and question. An error may leave the question out. */
export function isAnswerTo(query: DnsQuery, message: Buffer): boolean {
  if (message.length < headerBytes || message.readUInt16BE(0) !== query.id) return false;
  const flags = message.readUInt16BE(2);
  if ((flags & flag.response) === 0 || (flags & flag.opcode) !== 0) return false;
  if (message.readUInt16BE(4) === 0) return (flags & flag.responseCode) !== 0;
  const question = readQuestion(message);
  const asked = query.question;
  return question?.name === asked.name && question.type === asked.type && question.class === asked.class;
}

/** A dot or backslash inside of a label must not look like the end of one. */
function readLabel(label: Buffer): string {
  return label
    .toString('latin1')
    .replaceAll(
      /[^\u0021-\u007e]|[.\\]/g,
      (character) => `\\${String(character.charCodeAt(0)).padStart(3, '0')}`,
    )
    .toLowerCase();
}

function readEdns(message: Buffer, start: number): Edns | undefined | 'malformed' {
  const recordCount = message.readUInt16BE(6) + message.readUInt16BE(8) + message.readUInt16BE(10);
  let edns: Edns | undefined;
  let at = start;
  for (let index = 0; index < recordCount; index += 1) {
    const record = readRecord(message, at);
    if (record === undefined) return 'malformed';
    at = record.end;
    if (record.type !== recordType.opt) continue;
    if (edns !== undefined) return 'malformed';
    edns = {
      payloadBytes: record.class,
      version: (record.ttl >>> 16) & 0xff,
      isDnssecWanted: (record.ttl & 0x8000) !== 0,
    };
  }
  return edns;
}
