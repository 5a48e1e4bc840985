import { createHash } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';

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
export async function samplePluginFiles(): Promise<ReadonlyMap<string, WebFile>> {
  const layer = gzipSync(await tarOf('plugin.wasm', moduleBytes));
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

/** One file in a tar archive. */
async function tarOf(name: string, content: Buffer): Promise<Buffer> {
  const archive = pack();
  archive.entry({ name }, content);
  archive.finalize();
  return await buffer(archive);
}
