/** Bytes of framing before each gRPC message: one flag byte, four bytes of big-endian length (grpc `PROTOCOL-HTTP2.md`). */
const frameHeaderBytes = 5;

function encodeFrameHeader(lengthBytes: number): Buffer {
  const header = Buffer.allocUnsafe(frameHeaderBytes);
  header[0] = 0;
  header.writeUInt32BE(lengthBytes, 1);
  return header;
}

/** Largest message that is joined with its header by copying: one small write is cheaper than two. */
const joinedFrameBytes = 4 * 1024;

/** A whole message with its framing, as the parts to be written in order. The message is not copied when it is large. */
export function encodeFrame(message: Uint8Array): readonly Uint8Array[] {
  const header = encodeFrameHeader(message.byteLength);
  return message.byteLength > joinedFrameBytes ? [header, message] : [Buffer.concat([header, message])];
}

/** Why a byte stream cannot be split any further. */
export type FrameFault =
  /** The flag byte is not 0. No side of the relay offers compression, so none may be used. */
  | { readonly code: 'compressed'; readonly flag: number }
  /** The length prefix is over the bound of this direction. */
  | { readonly code: 'too-large'; readonly lengthBytes: number; readonly maxBytes: number };

/** Takes the messages of one direction in wire order. All buffers are parts of what was pushed, never copies. */
export interface FrameSink {
  /** `header` is the framing as it came, to be passed on as it is. */
  onMessageStart(lengthBytes: number, header: Buffer): void;
  /** Never called with an empty part; not called at all for a message of length 0. */
  onMessageData(part: Buffer): void;
  onMessageEnd(): void;
}

/** Where the splitter stands in the byte stream. */
type SplitterState =
  /** Between messages or inside the five bytes of framing; `seenBytes` of them are in `partial`. */
  | { readonly kind: 'header'; readonly seenBytes: number }
  /** Inside a message. */
  | { readonly kind: 'body'; readonly remainingBytes: number }
  /** A fault was found: what follows cannot be understood and is not looked at. */
  | { readonly kind: 'failed'; readonly fault: FrameFault };

/**
 * Splits one direction of a gRPC stream into its messages, over any chunk boundaries and without copying message
 * bytes. Only a header that is cut by a chunk boundary is put together anew (five bytes).
 */
export class FrameSplitter {
  readonly #maxMessageBytes: number;
  readonly #sink: FrameSink;
  #state: SplitterState = { kind: 'header', seenBytes: 0 };
  #partial: Buffer = Buffer.alloc(0);

  constructor(options: { readonly maxMessageBytes: number; readonly sink: FrameSink }) {
    this.#maxMessageBytes = options.maxMessageBytes;
    this.#sink = options.sink;
  }

  /** True when the bytes so far end exactly after a message (or are none): the stream may end here. */
  get isAtBoundary(): boolean {
    return this.#state.kind === 'header' && this.#state.seenBytes === 0;
  }

  /** Returns a fault when the stream cannot go on; every later call returns it again and does nothing. */
  push(chunk: Buffer): FrameFault | undefined {
    let offset = 0;
    while (offset < chunk.length) {
      const state = this.#state;
      switch (state.kind) {
        case 'header':
          offset = this.#readHeader(chunk, offset, state.seenBytes);
          break;
        case 'body': {
          const end = Math.min(chunk.length, offset + state.remainingBytes);
          const remainingBytes = state.remainingBytes - (end - offset);
          this.#state = { kind: 'body', remainingBytes };
          this.#sink.onMessageData(chunk.subarray(offset, end));
          offset = end;
          if (remainingBytes === 0) this.#endMessage();
          break;
        }
        case 'failed':
          return state.fault;
        default:
          return state satisfies never;
      }
    }
    return this.#state.kind === 'failed' ? this.#state.fault : undefined;
  }

  #readHeader(chunk: Buffer, offset: number, seenBytes: number): number {
    const end = Math.min(chunk.length, offset + frameHeaderBytes - seenBytes);
    const part = chunk.subarray(offset, end);
    const header = seenBytes === 0 ? part : Buffer.concat([this.#partial, part]);
    if (header.length < frameHeaderBytes) {
      this.#partial = header;
      this.#state = { kind: 'header', seenBytes: header.length };
      return end;
    }
    const flag = header.readUInt8(0);
    const lengthBytes = header.readUInt32BE(1);
    if (flag !== 0) {
      this.#state = { kind: 'failed', fault: { code: 'compressed', flag } };
      return end;
    }
    if (lengthBytes > this.#maxMessageBytes) {
      const fault: FrameFault = { code: 'too-large', lengthBytes, maxBytes: this.#maxMessageBytes };
      this.#state = { kind: 'failed', fault };
      return end;
    }
    this.#state = { kind: 'body', remainingBytes: lengthBytes };
    this.#sink.onMessageStart(lengthBytes, header);
    if (lengthBytes === 0) this.#endMessage();
    return end;
  }

  #endMessage(): void {
    this.#state = { kind: 'header', seenBytes: 0 };
    this.#sink.onMessageEnd();
  }
}
