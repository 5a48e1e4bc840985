import { createPublicKey, verify } from 'node:crypto';

/** What a signing request asks for. */
export interface ReadRequest {
  /** SubjectPublicKeyInfo in DER. */
  readonly publicKey: Buffer;
}

/** Hash by signature algorithm (contents of its object identifier, hex). */
const hashes: Readonly<Record<string, string>> = {
  '2a864886f70d01010b': 'sha256', // RSA with SHA-256
  '2a8648ce3d040302': 'sha256', // ECDSA with SHA-256
  '2a8648ce3d040303': 'sha384', // ECDSA with SHA-384
};

interface Element {
  readonly tag: number;
  /** With tag and length. */
  readonly whole: Buffer;
  readonly contents: Buffer;
}

/** Reads a PKCS#10 request in PEM and checks its signature, as a CA must. Throws Error when it is no good. */
export function readCertificateRequest(pem: string): ReadRequest {
  const base64 = /-----BEGIN CERTIFICATE REQUEST-----([\s\S]+)-----END CERTIFICATE REQUEST-----/.exec(
    pem,
  )?.[1];
  if (base64 === undefined) throw new Error('the request is no PEM of the kind CERTIFICATE REQUEST');
  const [request] = elementsOf(Buffer.from(base64, 'base64'));
  const [info, algorithm, signature] = elementsOf(request?.contents);
  const [version, , publicKey] = elementsOf(info?.contents);
  const [algorithmId] = elementsOf(algorithm?.contents);
  if (version?.contents.toString('hex') !== '00' || info === undefined || publicKey === undefined) {
    throw new Error('the request is no PKCS#10 of version 1');
  }
  const hash = hashes[algorithmId?.contents.toString('hex') ?? ''];
  if (hash === undefined) throw new Error('the request has a signature of an unknown kind');
  const key = createPublicKey({ key: publicKey.whole, format: 'der', type: 'spki' });
  if (signature === undefined || !verify(hash, info.whole, key, signature.contents.subarray(1))) {
    throw new Error('the signature of the request is wrong');
  }
  return { publicKey: publicKey.whole };
}

/** The DER elements in a row. */
function elementsOf(bytes: Buffer | undefined): readonly Element[] {
  const found: Element[] = [];
  let rest = bytes ?? Buffer.alloc(0);
  while (rest.length > 1) {
    const [tag = 0, first = 0] = rest;
    const countBytes = first < 0x80 ? 0 : first & 0x7f;
    const size = countBytes === 0 ? first : rest.readUIntBE(2, countBytes);
    const start = 2 + countBytes;
    found.push({ tag, whole: rest.subarray(0, start + size), contents: rest.subarray(start, start + size) });
    rest = rest.subarray(start + size);
  }
  return found;
}
