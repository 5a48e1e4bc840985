/**
 * HTTP/2 frames, byte by byte, for peers that do what no library would. Nothing is checked: every field can be given
 * a wrong value. Source: RFC 9113 (frames), RFC 7541 (header blocks).
 */

/** What a client sends before its first frame. */
export const clientPreface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

/** Frame types (RFC 9113 section 6, RFC 7838, RFC 8336). */
export const frameTypes = {
  data: 0x0,
  headers: 0x1,
  priority: 0x2,
  rstStream: 0x3,
  settings: 0x4,
  pushPromise: 0x5,
  ping: 0x6,
  goaway: 0x7,
  windowUpdate: 0x8,
  continuation: 0x9,
  altsvc: 0xa,
  origin: 0xc,
} as const;

/** Flags; ACK and END_STREAM are the same bit on different types. */
export const frameFlags = { ack: 0x1, endStream: 0x1, endHeaders: 0x4, padded: 0x8 } as const;

/** Setting identifiers (RFC 9113 section 6.5.2). */
export const settingIds = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
} as const;

/** Error codes that the tests use (RFC 9113 section 7). */
export const errorCodes = { noError: 0, cancel: 8, enhanceYourCalm: 11 } as const;

const frameHeaderBytes = 9;
const noBytes = Buffer.alloc(0);

/** One frame. The length is that of the payload unless `lengthBytes` lies about it. */
export function http2Frame(options: {
  readonly type: number;
  readonly flags?: number;
  readonly streamId?: number;
  readonly payload?: Uint8Array;
  readonly lengthBytes?: number;
}): Buffer {
  const { type, flags = 0, streamId = 0, payload = noBytes } = options;
  const header = Buffer.alloc(frameHeaderBytes);
  header.writeUIntBE(options.lengthBytes ?? payload.byteLength, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(streamId, 5);
  return Buffer.concat([header, payload]);
}

/** SETTINGS with these identifiers and values. */
export function settingsFrame(...settings: readonly (readonly [id: number, value: number])[]): Buffer {
  const payload = Buffer.alloc(settings.length * 6);
  settings.forEach(([id, value], index) => {
    payload.writeUInt16BE(id, index * 6);
    payload.writeUInt32BE(value, index * 6 + 2);
  });
  return http2Frame({ type: frameTypes.settings, payload });
}

/** The answer to the peer's SETTINGS. */
export const settingsAckFrame = http2Frame({ type: frameTypes.settings, flags: frameFlags.ack });

/** PING with eight bytes that tell it from others. */
export function pingFrame(mark: number, flags = 0): Buffer {
  const payload = Buffer.alloc(8);
  payload.writeUInt32BE(mark, 4);
  return http2Frame({ type: frameTypes.ping, flags, payload });
}

/** HEADERS of one block. */
export function headersFrame(
  streamId: number,
  block: Uint8Array,
  flags: number = frameFlags.endHeaders,
): Buffer {
  return http2Frame({ type: frameTypes.headers, flags, streamId, payload: block });
}

export function continuationFrame(streamId: number, block: Uint8Array, flags = 0): Buffer {
  return http2Frame({ type: frameTypes.continuation, flags, streamId, payload: block });
}

export function dataFrame(streamId: number, payload: Uint8Array, flags = 0): Buffer {
  return http2Frame({ type: frameTypes.data, flags, streamId, payload });
}

export function rstStreamFrame(streamId: number, code: number = errorCodes.cancel): Buffer {
  return http2Frame({ type: frameTypes.rstStream, streamId, payload: uint32(code) });
}

/** `streamId` 0 is the connection. */
export function windowUpdateFrame(streamId: number, increment: number): Buffer {
  return http2Frame({ type: frameTypes.windowUpdate, streamId, payload: uint32(increment) });
}

export function priorityFrame(streamId: number, dependsOn: number): Buffer {
  return http2Frame({
    type: frameTypes.priority,
    streamId,
    payload: Buffer.concat([uint32(dependsOn), Buffer.from([15])]),
  });
}

export function goawayFrame(lastStreamId: number, code: number, debugData: Uint8Array = noBytes): Buffer {
  return http2Frame({
    type: frameTypes.goaway,
    payload: Buffer.concat([uint32(lastStreamId), uint32(code), debugData]),
  });
}

/** A promise of a stream that nobody has asked for. */
export function pushPromiseFrame(streamId: number, promisedId: number, block: Uint8Array): Buffer {
  return http2Frame({
    type: frameTypes.pushPromise,
    flags: frameFlags.endHeaders,
    streamId,
    payload: Buffer.concat([uint32(promisedId), block]),
  });
}

/** Origins that the server claims to speak for (RFC 8336). */
export function originFrame(origins: readonly string[]): Buffer {
  const entries = origins.flatMap((origin) => {
    const length = Buffer.alloc(2);
    length.writeUInt16BE(origin.length);
    return [length, Buffer.from(origin, 'latin1')];
  });
  return http2Frame({ type: frameTypes.origin, payload: Buffer.concat(entries) });
}

/** A header block of literals that leave no trace in the table (RFC 7541 section 6.2.2). */
export function headerBlock(...fields: readonly (readonly [name: string, value: string])[]): Buffer {
  return Buffer.concat(
    fields.map(([name, value]) => Buffer.concat([Buffer.from([0]), hpackText(name), hpackText(value)])),
  );
}

/** One field that enters the table (section 6.2.1), then is repeated by its one-byte index (section 6.1). */
export function indexedBomb(name: string, value: string, repeatCount: number): Buffer {
  const firstDynamicIndex = 62;
  return Buffer.concat([
    Buffer.from([0x40]),
    hpackText(name),
    hpackText(value),
    Buffer.alloc(repeatCount, 0x80 | firstDynamicIndex),
  ]);
}

/** The headers of a gRPC call. */
export function callHeaders(path: string): Buffer {
  return headerBlock(
    [':method', 'POST'],
    [':scheme', 'http'],
    [':authority', 'xds-grpc'],
    [':path', path],
    ['te', 'trailers'],
    ['content-type', 'application/grpc'],
  );
}

/** The same as the first of a connection, with all that differs entered into the table (RFC 7541 section 6.2.1). */
export function indexedCallHeaders(path: string): Buffer {
  const entries = [
    [':authority', 'xds-grpc'],
    [':path', path],
    ['te', 'trailers'],
    ['content-type', 'application/grpc'],
  ] as const;
  const enter = Buffer.from([0x40]);
  return Buffer.concat([
    postOverHttp,
    ...entries.flatMap(([name, value]) => [enter, hpackText(name), hpackText(value)]),
  ]);
}

/** `:method` POST and `:scheme` http in the static table (RFC 7541 appendix A). */
const postOverHttp = Buffer.from([0x83, 0x86]);

/** What was entered by `indexedCallHeaders`, by index: the newest entry is 62. */
export const repeatedCallHeaders = Buffer.concat([
  postOverHttp,
  Buffer.from([65, 64, 63, 62].map((index) => 0x80 | index)),
]);

/** The headers with which a gRPC server answers. */
export const answerHeaders = headerBlock([':status', '200'], ['content-type', 'application/grpc']);

function hpackText(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  return Buffer.concat([hpackInteger(bytes.length), bytes]);
}

/** With a prefix of seven bits and a clear Huffman bit (RFC 7541 sections 5.1 and 5.2). */
function hpackInteger(value: number): Buffer {
  if (value < 0x7f) return Buffer.from([value]);
  const bytes = [0x7f];
  let rest = value - 0x7f;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return Buffer.from([...bytes, rest]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** A frame as it was received. */
export interface ReceivedFrame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** Cuts a byte stream into frames. Holds no more than one frame. */
export class FrameReader {
  #held: Buffer = noBytes;
  #prefaceBytesLeft: number;

  /** A server has the client's preface in front of the first frame. */
  constructor(options: { readonly hasPreface: boolean }) {
    this.#prefaceBytesLeft = options.hasPreface ? clientPreface.length : 0;
  }

  push(chunk: Buffer): readonly ReceivedFrame[] {
    const skipped = Math.min(this.#prefaceBytesLeft, chunk.length);
    this.#prefaceBytesLeft -= skipped;
    this.#held = Buffer.concat([this.#held, chunk.subarray(skipped)]);
    const frames: ReceivedFrame[] = [];
    while (this.#held.length >= frameHeaderBytes) {
      const end = frameHeaderBytes + this.#held.readUIntBE(0, 3);
      if (this.#held.length < end) break;
      frames.push({
        type: this.#held.readUInt8(3),
        flags: this.#held.readUInt8(4),
        streamId: this.#held.readUInt32BE(5),
        payload: this.#held.subarray(frameHeaderBytes, end),
      });
      this.#held = this.#held.subarray(end);
    }
    return frames;
  }
}
