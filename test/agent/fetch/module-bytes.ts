import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { pluginModule } from '../../support/wasm-fixtures/plugin-module.ts';

/** The smallest plugin that Envoy takes, with a custom section by whose text it differs from others. */
export function wasmModule(text = 'module'): Buffer {
  const name = Buffer.from('fixture');
  const content = Buffer.concat([leb128(name.byteLength), name, Buffer.from(text)]);
  return Buffer.concat([pluginModule(), Buffer.from([0x00]), leb128(content.byteLength), content]);
}

export const wasmHeader = Buffer.from([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]);
/** The first bytes of a component. */
export const componentHeader = Buffer.from([0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00]);

function leb128(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return Buffer.from(bytes);
}

export interface TarEntry {
  readonly name: string;
  readonly content?: Uint8Array;
  readonly type?: 'file' | 'directory' | 'symlink';
  /** Records of an extended header. */
  readonly pax?: Readonly<Record<string, string>>;
}

/** A tar archive of these entries. */
export async function tarOf(...entries: readonly TarEntry[]): Promise<Buffer> {
  const archive = pack();
  for (const { name, content = Buffer.alloc(0), type = 'file', pax } of entries) {
    archive.entry(
      {
        name,
        type,
        // The same content is the same archive, at any time.
        mtime: new Date(0),
        ...(type === 'symlink' ? { linkname: 'elsewhere' } : {}),
        ...(pax === undefined ? {} : { pax: { ...pax } }),
      },
      Buffer.from(content),
    );
  }
  archive.finalize();
  return buffer(Readable.from(archive as AsyncIterable<Buffer>));
}

/** A layer of the compat variant: tar+gzip with plugin.wasm. */
export async function pluginLayer(module: Uint8Array): Promise<Buffer> {
  return gzipSync(await tarOf({ name: 'plugin.wasm', content: module }));
}

export function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Bytes in chunks of a size, to move chunk borders through a format. */
export async function* chunked(bytes: Uint8Array, chunkBytes: number): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.byteLength; start += chunkBytes) {
    yield bytes.subarray(start, start + chunkBytes);
  }
}
