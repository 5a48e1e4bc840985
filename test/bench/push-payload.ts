import { crc32 } from 'node:zlib';
import { anyOf, ProtoWriter } from '../support/control-plane/proto-writer.ts';
import { typeUrls } from '../support/control-plane/type-urls.ts';
import { pushVersion, responseFields, type XdsMode } from './discovery-wire.ts';

/** Size of one cluster inside a push, in bytes: about what istiod writes for a service with mutual TLS. */
export const clusterBytes = 4096;

/** Every nonce has this many bytes and is the end of its message, so that a push is made once and patched. */
export const nonceBytes = 16;

/** All bytes of a push but its nonce, which follows as the last 16 bytes. Shared by all pushes of one size. */
export interface PushPayload {
  /** Length of the whole message, nonce included. */
  readonly sizeBytes: number;
  readonly prefix: Buffer;
  /** CRC-32 of `prefix`. */
  readonly checksum: number;
}

/** `Cluster.alt_stat_name` takes up the filler: text of any length. */
const fillerField = 28;
const clusterNameField = 1;
const deltaResourceFields = { resource: 2, name: 3 } as const;

/**
 * A response of exactly `sizeBytes` with resources of type Cluster, fields in istiod's order (the response's own
 * type_url after the resources). `resourceBytes` is about the size of each. Throws RangeError when so few bytes cannot
 * hold one resource.
 */
export function buildPushPayload(
  mode: XdsMode,
  sizeBytes: number,
  resourceBytes: number = clusterBytes,
): PushPayload {
  const head = new ProtoWriter().text(responseFields.version, pushVersion).finish();
  const tail = Buffer.concat([
    new ProtoWriter().text(responseFields.typeUrl, typeUrls.cds).finish(),
    new ProtoWriter().text(responseFields.nonce, formatNonce(0)).finish().subarray(0, -nonceBytes),
  ]);
  const parts: Buffer[] = [head];
  let left = sizeBytes - head.length - tail.length - nonceBytes;
  for (let index = 0; left > 0; index += 1) {
    const wanted = left >= 2 * resourceBytes ? resourceBytes : left;
    parts.push(buildResource(mode, index, wanted));
    left -= wanted;
  }
  if (parts.length === 1) throw new RangeError(`A push of ${sizeBytes} bytes cannot hold a resource.`);
  const prefix = Buffer.concat([...parts, tail]);
  return { sizeBytes, prefix, checksum: crc32(prefix) };
}

/** The nonce of the n-th push of a stream. */
export function formatNonce(pushNumber: number): string {
  return pushNumber.toString().padStart(nonceBytes, '0');
}

/**
 * One resource as a field of its response, exactly `wantedBytes` long. A length prefix may grow by a byte just where
 * the filler would fit; a name that is longer by a letter then does.
 */
function buildResource(mode: XdsMode, index: number, wantedBytes: number): Buffer {
  for (let extraLetters = 0; extraLetters < 8; extraLetters += 1) {
    const name = `outbound|8080||service-${index.toString().padStart(7, '0')}${'x'.repeat(extraLetters)}.bench.svc.cluster.local`;
    let fillerBytes = wantedBytes - encodeResource(mode, name, 0).length;
    // The estimate ignores the growth of the length prefixes: at most a byte or two for each of the four levels.
    for (let tries = 0; tries < 12 && fillerBytes >= 0; tries += 1, fillerBytes -= 1) {
      const encoded = encodeResource(mode, name, fillerBytes);
      if (encoded.length === wantedBytes) return encoded;
      if (encoded.length < wantedBytes) break;
    }
  }
  throw new RangeError(`No resource of exactly ${wantedBytes} bytes can be made: choose a larger push.`);
}

function encodeResource(mode: XdsMode, name: string, fillerBytes: number): Buffer {
  const cluster = new ProtoWriter().text(clusterNameField, name).text(fillerField, 'f'.repeat(fillerBytes));
  const any = anyOf(typeUrls.cds, cluster.finish());
  if (mode === 'sotw') return new ProtoWriter().message(responseFields.resources, any).finish();
  const resource = new ProtoWriter()
    .message(deltaResourceFields.resource, any)
    .text(deltaResourceFields.name, name);
  return new ProtoWriter().message(responseFields.resources, resource).finish();
}
