import { MessageWriter, readFields } from '../../proto/wire.ts';

/** `IstioCertificateRequest` (istio/api `security/v1alpha1/ca.proto`). */
export interface SigningRequest {
  /** PEM. */
  readonly csr: string;
  /** Whole seconds; 0 leaves it to the CA. */
  readonly validitySeconds: number;
  /** Name of the signer in Kubernetes; sent even when empty, as the stock agent does. */
  readonly certSigner: string;
}

/** Fields in the order of their numbers, as Go writes them. */
export function encodeSigningRequest(request: SigningRequest): Buffer {
  const writer = new MessageWriter().text(1, request.csr);
  if (request.validitySeconds > 0) writer.varint(3, request.validitySeconds);
  // google.protobuf.Struct: one entry of the map, whose value is a `string_value`.
  const entry = new MessageWriter()
    .text(1, 'CertSigner')
    .message(2, new MessageWriter().text(3, request.certSigner));
  return writer.message(4, new MessageWriter().message(1, entry)).finish();
}

/** `cert_chain` of an `IstioCertificateResponse`: PEM texts, leaf first, root last. Throws WireFormatError. */
export function decodeSigningAnswer(message: Buffer): readonly string[] {
  const chain: string[] = [];
  for (const field of readFields(message)) {
    if (field.kind === 'bytes' && field.number === 1) chain.push(field.value.toString('utf8'));
  }
  return chain;
}
