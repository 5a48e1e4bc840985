import { exposeCollector } from '../collector.ts';

/** Chunks dropped between two collections: memory grows by about 20 MB, and a collection takes under a millisecond. */
const collectionIntervalBytes = 2 * 1024 * 1024;

let droppedBytes = 0;
let collect: (() => void) | undefined;

/**
 * Notes that the bytes of a chunk are not needed any more. The bytes of a stream lie outside of V8's heap, and V8
 * frees them late: a module of 100 MB would leave 60 MB of dead chunks in the memory of every pod. A young collection
 * every few MB keeps that flat. Counted for the process, because that is what a collection is for.
 */
export function noteDroppedChunk(sizeBytes: number): void {
  droppedBytes += sizeBytes;
  if (droppedBytes < collectionIntervalBytes) return;
  droppedBytes = 0;
  collect ??= exposeCollector('young');
  collect();
}
