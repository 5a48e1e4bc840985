import { hasTarChecksum, tarBlockBytes } from './tar-header.ts';
import { isZstdFrame, isZstdSkippable } from './zstd-frames.ts';

/** What bytes are, told by their first ones. */
export type ContentFormat =
  | { readonly kind: 'wasm' }
  | { readonly kind: 'gzip' }
  | { readonly kind: 'zstd' }
  | { readonly kind: 'tar' }
  /** Wasm magic with something else than a core module behind it. `description` completes "it is ...". */
  | { readonly kind: 'not-module'; readonly description: string }
  /** Nothing that can be unpacked. */
  | { readonly kind: 'unknown'; readonly description: string };

/** Bytes that `contentFormat` wants to see: a tar file shows itself by its first header. */
export const formatHeadBytes = tarBlockBytes;

const wasmMagic = [0x00, 0x61, 0x73, 0x6d];
const coreVersion = [0x01, 0x00, 0x00, 0x00];
/** Version 13, layer 1: the component model's binary format. */
const componentVersion = [0x0d, 0x00, 0x01, 0x00];
const tarMagicOffset = 257;
const tarMagic = [...Buffer.from('ustar')];

/** Tells the format by the first `formatHeadBytes` bytes, or by all when there are fewer. Pure. */
export function contentFormat(head: Uint8Array): ContentFormat {
  if (hasBytes(head, 0, wasmMagic)) return wasmFormat(head);
  if (hasBytes(head, 0, [0x1f, 0x8b])) return { kind: 'gzip' };
  if (isZstdFrame(head) || isZstdSkippable(head)) return { kind: 'zstd' };
  if (hasBytes(head, tarMagicOffset, tarMagic) || hasTarChecksum(head)) return { kind: 'tar' };
  return { kind: 'unknown', description: describeUnknown(head) };
}

function wasmFormat(head: Uint8Array): ContentFormat {
  if (hasBytes(head, 4, coreVersion)) return { kind: 'wasm' };
  if (hasBytes(head, 4, componentVersion)) {
    return {
      kind: 'not-module',
      description: 'a WebAssembly component; build a core module (proxy-wasm has no component support)',
    };
  }
  if (head.byteLength < 8)
    return { kind: 'not-module', description: `cut off after ${head.byteLength} bytes` };
  const version = [...head.subarray(4, 8)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  return {
    kind: 'not-module',
    description: `Wasm of the unknown version ${version}; version 01 00 00 00 is expected`,
  };
}

function describeUnknown(head: Uint8Array): string {
  if (head.byteLength === 0) return 'empty';
  if (hasBytes(head, 0, [0x50, 0x4b, 0x03, 0x04]))
    return 'a zip file, which is not supported; use gzip or tar';
  if (hasBytes(head, 0, [0xfd, 0x37, 0x7a, 0x58, 0x5a])) return 'xz data, which is not supported; use gzip';
  if (hasBytes(head, 0, [0x42, 0x5a, 0x68])) return 'bzip2 data, which is not supported; use gzip';
  const text = Buffer.from(head).toString('latin1').trimStart().toLowerCase();
  if (/^(?:<!doctype html|<html|<head|<body)/.test(text)) {
    return 'an HTML page; check that the URL names the file and not a page about it';
  }
  if (text.startsWith('<?xml') || text.startsWith('<error'))
    return 'an XML document, probably an error answer';
  if (/^[{[]/.test(text)) return 'JSON text, probably an error answer';
  if (text.startsWith('(module')) return 'Wasm text; serve the binary form';
  const bytes = [...head.subarray(0, 4)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  return `neither Wasm, gzip nor tar (first bytes ${bytes})`;
}

function hasBytes(head: Uint8Array, offset: number, bytes: readonly number[]): boolean {
  return bytes.every((byte, index) => head[offset + index] === byte);
}
