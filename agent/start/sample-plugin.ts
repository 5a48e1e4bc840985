import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';

/** A file of a web server. */
export interface WebFile {
  readonly type: string;
  readonly bytes: Buffer;
}

const repository = 'first/plugin';
const tag = '1';
const modulePath = '/plugin.wasm';

/** The ways to name the sample plugin on a host: its file, and an image that holds it. */
export function samplePluginUrls(host: string): { readonly file: string; readonly image: string } {
  return { file: `http://${host}${modulePath}`, image: `oci://${host}/${repository}:${tag}` };
}

/** What a web server and registry has to serve for the sample plugin, by path. */
export function samplePluginFiles(): ReadonlyMap<string, WebFile> {
  const layer = gzipSync(tarOf('plugin.wasm', moduleBytes));
  const config = Buffer.from('{}');
  const manifest = {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: descriptor('application/vnd.oci.image.config.v1+json', config),
    layers: [descriptor('application/vnd.oci.image.layer.v1.tar+gzip', layer)],
  };
  const json = (bytes: Buffer): WebFile => ({ type: 'application/json', bytes });
  const blob = (bytes: Buffer): WebFile => ({ type: 'application/octet-stream', bytes });
  const folder = `/v2/${repository}`;
  return new Map([
    [modulePath, { type: 'application/wasm', bytes: moduleBytes }],
    ['/v2/', json(config)],
    [
      `${folder}/manifests/${tag}`,
      { type: manifest.mediaType, bytes: Buffer.from(JSON.stringify(manifest)) },
    ],
    [`${folder}/blobs/${digestOf(layer)}`, blob(layer)],
    [`${folder}/blobs/${digestOf(config)}`, blob(config)],
  ]);
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

function descriptor(mediaType: string, bytes: Buffer): object {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}

/** Bytes in hexadecimal, with a text before them as WebAssembly writes names. */
const named = (name: string, rest: string): Buffer =>
  Buffer.concat([Buffer.from([name.length]), Buffer.from(name), Buffer.from(rest, 'hex')]);

const section = (id: number, ...content: readonly Buffer[]): Buffer => {
  const bytes = Buffer.concat(content);
  return Buffer.concat([Buffer.from([id, bytes.length]), bytes]);
};

/** The smallest module that a proxy takes: an ABI version, an allocator and a memory. */
const moduleBytes = Buffer.concat([
  Buffer.from('\0asm\x01\0\0\0', 'latin1'),
  // The types () -> () and (i32) -> i32, and a function of each.
  section(1, Buffer.from('0260000060017f017f', 'hex')),
  section(3, Buffer.from('020001', 'hex')),
  // A memory of one page.
  section(5, Buffer.from('010001', 'hex')),
  section(
    7,
    Buffer.from([3]),
    named('memory', '0200'),
    named('proxy_abi_version_0_2_1', '0000'),
    named('proxy_on_memory_allocate', '0001'),
  ),
  // The first does nothing, the second gives the address 0.
  section(10, Buffer.from('0202000b040041000b', 'hex')),
]);

const tarBlockBytes = 512;

/** One file in a ustar archive. */
function tarOf(name: string, content: Buffer): Buffer {
  const header = Buffer.alloc(tarBlockBytes);
  header.write(name, 0);
  header.write('0000644\0', 100);
  header.write(`${content.length.toString(8).padStart(11, '0')}\0`, 124);
  // The checksum is counted with spaces in its own place.
  header.write('        0', 148);
  header.write('ustar\x0000', 257, 'latin1');
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  const padding = Buffer.alloc(tarBlockBytes - (content.length % tarBlockBytes));
  return Buffer.concat([header, content, padding, Buffer.alloc(2 * tarBlockBytes)]);
}
