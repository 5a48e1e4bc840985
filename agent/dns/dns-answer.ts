import {
  encodeName,
  flag,
  headerBytes,
  internetClass,
  maxMessageBytes,
  minUdpBytes,
  readRecord,
  recordType,
} from './dns-message.ts';
import { type DnsQuery, readQuestion } from './dns-query.ts';

export type DnsProtocol = 'udp' | 'tcp';

/** Low, so that clients that keep answers see changes soon (istio/istio `pkg/dns/client/dns.go`). In seconds. */
const ttlSeconds = 30;
/** What the proxy takes over UDP; told to clients that use EDNS (DNS Flag Day 2020). */
const ownPayloadBytes = 1232;
/** Largest UDP payload over IPv4. */
const maxUdpBytes = 65_507;
const optBytes = 11;
/** Type, class, TTL and length, between the name and the data. */
const recordHeadBytes = 10;
/** RFC 6891 6.1.3: the upper bits of BADVERS (16) stand in the OPT record. */
const badVersionBits = 1;

/** How long an answer to this client may be. */
export function answerLimitBytes(protocol: DnsProtocol, query: DnsQuery): number {
  switch (protocol) {
    case 'tcp':
      return maxMessageBytes;
    case 'udp':
      return Math.min(Math.max(query.edns?.payloadBytes ?? 0, minUdpBytes), maxUdpBytes);
    default:
      return protocol satisfies never;
  }
}

/** An answer from the name table. */
export interface LocalAnswer {
  /** The name the asked one stands for; undefined when the records are its own. */
  readonly cnameTarget: string | undefined;
  /** Of the asked family, 4 or 16 bytes each, in the order to be sent. */
  readonly addresses: readonly Buffer[];
}

/**
 * An authoritative answer: always NOERROR, because a client that asks for both families at once takes NXDOMAIN for
 * the end of the name. A CNAME without an address behind it is left out. Cut with the TC bit when it is longer than
 * `limitBytes`.
 */
export function encodeLocalAnswer(query: DnsQuery, answer: LocalAnswer, limitBytes: number): Buffer {
  if (query.edns !== undefined && query.edns.version > 0) {
    return encodeMessage(query, { flags: 0, records: [], ednsBits: badVersionBits });
  }
  const { addresses, cnameTarget } = answer;
  const wanted: Buffer[] = [];
  let owner = pointerTo(headerBytes);
  if (cnameTarget !== undefined && addresses.length > 0) {
    wanted.push(encodeRecord(owner, recordType.cname, encodeName(cnameTarget)));
    owner = pointerTo(query.question.end + owner.length + recordHeadBytes);
  }
  for (const address of addresses) {
    const type = address.length === 4 ? recordType.a : recordType.aaaa;
    wanted.push(encodeRecord(owner, type, address));
  }
  let roomBytes = limitBytes - query.question.end - (query.edns === undefined ? 0 : optBytes);
  const records: Buffer[] = [];
  for (const record of wanted) {
    roomBytes -= record.length;
    if (roomBytes < 0) break;
    records.push(record);
  }
  const cut = records.length < wanted.length ? flag.truncated : 0;
  return encodeMessage(query, { flags: flag.authoritative | cut, records, ednsBits: 0 });
}

/** An answer that says only why there is none. */
export function encodeFailure(query: DnsQuery, code: number): Buffer {
  return encodeMessage(query, { flags: code, records: [], ednsBits: 0 });
}

/** The answer to a query that cannot be read: its header alone. `message` is at least a header long. */
export function encodeRefusal(message: Buffer, code: number): Buffer {
  const answer = Buffer.alloc(headerBytes);
  message.copy(answer, 0, 0, 2);
  const kept = message.readUInt16BE(2) & (flag.opcode | flag.recursionDesired);
  answer.writeUInt16BE(flag.response | kept | code, 2);
  return answer;
}

/**
 * An upstream's answer, cut behind the last record that fits when it is too long, with the TC bit and its OPT record;
 * compression pointers lead back, so what is left stays whole. Undefined when the message cannot be read.
 */
export function fitAnswer(message: Buffer, limitBytes: number): Buffer | undefined {
  if (message.length <= limitBytes) return message;
  const counts = [message.readUInt16BE(6), message.readUInt16BE(8), message.readUInt16BE(10)];
  const start = message.readUInt16BE(4) === 1 ? readQuestion(message)?.end : undefined;
  if (start === undefined) return undefined;
  const ends: { readonly end: number; readonly section: number }[] = [];
  let opt: Buffer | undefined;
  let at = start;
  for (const [section, count] of counts.entries()) {
    for (let index = 0; index < count; index += 1) {
      const record = readRecord(message, at);
      if (record === undefined) return undefined;
      at = record.end;
      if (record.type === recordType.opt) opt = message.subarray(record.start, record.end);
      else ends.push({ end: record.end, section });
    }
  }
  const room = limitBytes - (opt?.length ?? 0);
  // An OPT record in the middle would be copied twice: everything from it on goes.
  const optAt = opt === undefined ? message.length : opt.byteOffset - message.byteOffset;
  const kept = ends.filter(({ end }) => end <= room && end <= optAt);
  const body = message.subarray(0, kept.at(-1)?.end ?? start);
  const cut = Buffer.concat(opt === undefined ? [body] : [body, opt]);
  cut.writeUInt16BE(cut.readUInt16BE(2) | flag.truncated, 2);
  for (const [section] of counts.entries()) {
    const ownCount = kept.filter((record) => record.section === section).length;
    cut.writeUInt16BE(ownCount + (section === 2 && opt !== undefined ? 1 : 0), 6 + 2 * section);
  }
  return cut.length <= limitBytes ? cut : undefined;
}

/** A name that stands at `offset` already (RFC 1035 4.1.4). */
function pointerTo(offset: number): Buffer {
  return Buffer.from([0xc0 | (offset >> 8), offset & 0xff]);
}

function encodeRecord(owner: Buffer, type: number, data: Buffer): Buffer {
  const fixed = Buffer.alloc(recordHeadBytes);
  fixed.writeUInt16BE(type, 0);
  fixed.writeUInt16BE(internetClass, 2);
  fixed.writeUInt32BE(ttlSeconds, 4);
  fixed.writeUInt16BE(data.length, 8);
  return Buffer.concat([owner, fixed, data]);
}

/** The question goes back byte for byte: a client may have put secret bits into its letters. */
function encodeMessage(
  query: DnsQuery,
  content: { readonly flags: number; readonly records: readonly Buffer[]; readonly ednsBits: number },
): Buffer {
  const header = Buffer.alloc(headerBytes);
  header.writeUInt16BE(query.id, 0);
  const kept = query.flags & (flag.recursionDesired | flag.checkingDisabled);
  // Recursion is available: what the table does not know, upstreams are asked for.
  header.writeUInt16BE(flag.response | flag.recursionAvailable | kept | content.flags, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(content.records.length, 6);
  header.writeUInt16BE(query.edns === undefined ? 0 : 1, 10);
  const question = query.message.subarray(headerBytes, query.question.end);
  const opt = query.edns === undefined ? [] : [encodeOpt(query.edns.isDnssecWanted, content.ednsBits)];
  return Buffer.concat([header, question, ...content.records, ...opt]);
}

function encodeOpt(isDnssecWanted: boolean, ednsBits: number): Buffer {
  const opt = Buffer.alloc(optBytes);
  opt.writeUInt16BE(recordType.opt, 1);
  opt.writeUInt16BE(ownPayloadBytes, 3);
  opt.writeUInt8(ednsBits, 5);
  opt.writeUInt16BE(isDnssecWanted ? 0x8000 : 0, 7);
  return opt;
}
