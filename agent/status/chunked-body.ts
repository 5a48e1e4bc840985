import { ScrapeError } from './scrape-error.ts';

/** A size line with its extensions. */
const maxSizeLineBytes = 1024;

type ChunkState =
  | { readonly kind: 'size'; text: string }
  | { readonly kind: 'data'; leftBytes: number }
  /** The line end behind a chunk's data. */
  | { readonly kind: 'data_end'; text: string }
  /** Fields behind the last chunk, up to an empty line; they are skipped. */
  | { readonly kind: 'trailer'; text: string; seenBytes: number }
  | { readonly kind: 'done' };

/** Takes the chunked transfer coding off (RFC 9112 7.1). */
export class ChunkedBody {
  #state: ChunkState = { kind: 'size', text: '' };

  /** True when the last chunk and the empty line behind it were seen. */
  get isDone(): boolean {
    return this.#state.kind === 'done';
  }

  /** The data in `bytes`, as views of it. Throws ScrapeError `protocol`. */
  *decode(bytes: Buffer): Generator<Buffer, void, undefined> {
    let offset = 0;
    while (offset < bytes.length) {
      const state = this.#state;
      switch (state.kind) {
        case 'data': {
          const end = Math.min(bytes.length, offset + state.leftBytes);
          state.leftBytes -= end - offset;
          if (state.leftBytes === 0) this.#state = { kind: 'data_end', text: '' };
          yield bytes.subarray(offset, end);
          offset = end;
          break;
        }
        case 'size':
        case 'data_end':
        case 'trailer': {
          const newline = bytes.indexOf(10, offset);
          const end = newline === -1 ? bytes.length : newline;
          state.text += bytes.toString('latin1', offset, Math.min(end, offset + maxSizeLineBytes + 1));
          if (state.text.length > maxSizeLineBytes) throw badChunk('a line that is too long');
          offset = end + 1;
          if (newline !== -1) this.#state = nextState(state, state.text.replace(/\r$/, ''));
          break;
        }
        case 'done':
          return;
        default:
          throw new Error(`unknown state ${String(state satisfies never)}`);
      }
    }
  }
}

function nextState(state: Extract<ChunkState, { text: string }>, line: string): ChunkState {
  switch (state.kind) {
    case 'size': {
      const size = /^([0-9a-f]{1,12})[ \t]*(?:;.*)?$/i.exec(line)?.[1];
      if (size === undefined) throw badChunk(`the size ${JSON.stringify(line.slice(0, 20))}`);
      const sizeBytes = Number.parseInt(size, 16);
      return sizeBytes === 0
        ? { kind: 'trailer', text: '', seenBytes: 0 }
        : { kind: 'data', leftBytes: sizeBytes };
    }
    case 'data_end':
      if (line !== '') throw badChunk('data behind its end');
      return { kind: 'size', text: '' };
    case 'trailer': {
      if (line === '') return { kind: 'done' };
      const seenBytes = state.seenBytes + line.length;
      if (seenBytes > maxSizeLineBytes) throw badChunk('trailers that are too long');
      return { kind: 'trailer', text: '', seenBytes };
    }
    default:
      return state satisfies never;
  }
}

function badChunk(what: string): ScrapeError {
  return new ScrapeError('protocol', `the answer has a broken chunk: ${what}`);
}
