import type { ByteSource } from '../../../agent/wasm/preflight/section-reader.ts';

/** Bytes in memory as a source; gives at most `chunkBytes` at a time, as a slow file may. */
export function memorySource(bytes: Uint8Array, chunkBytes = Number.POSITIVE_INFINITY): ByteSource {
  return {
    sizeBytes: bytes.byteLength,
    read(target, position) {
      const end = position + Math.min(target.byteLength, chunkBytes);
      const chunk = bytes.subarray(position, end);
      target.set(chunk);
      return Promise.resolve(chunk.byteLength);
    },
  };
}
