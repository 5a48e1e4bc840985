import * as z from 'zod/mini';

/** Unknown fields are dropped everywhere: these documents are other people's. A null is an absent field, as Go reads it. */
const descriptor = z.object({
  mediaType: z._default(z.string(), ''),
  digest: z.string(),
  size: z.int().check(z.nonnegative()),
  artifactType: z.nullish(z.string()),
  annotations: z.nullish(z.record(z.string(), z.string())),
});

/** An index that lists referrers (OCI distribution specification, "Listing Referrers"). */
export const referrersSchema = z.object({ manifests: z.nullish(z.array(descriptor)) });

/** A manifest whose layers are signatures. */
export const signatureManifestSchema = z.object({ layers: z.nullish(z.array(descriptor)) });

/** What a cosign signature signs (containers/image `docs/containers-signature.5.md`, cosign `specs/SIGNATURE_SPEC.md`). */
export const simpleSigningSchema = z.object({
  critical: z.object({
    type: z.string(),
    image: z.object({ 'docker-manifest-digest': z.string() }),
    identity: z.nullish(z.object({ 'docker-reference': z.nullish(z.string()) })),
  }),
});

/** Annotation `dev.sigstore.cosign/bundle`: the log entry of a classic signature (cosign `pkg/cosign/bundle/rekor.go`). */
export const logEntrySchema = z.object({
  SignedEntryTimestamp: z.string(),
  Payload: z.object({
    body: z.string(),
    integratedTime: z.int().check(z.nonnegative()),
    logIndex: z.int().check(z.nonnegative()),
    logID: z.string().check(z.regex(/^(?:[0-9a-f]{2})+$/)),
  }),
});

/** The part of a log entry's body that says what kind it is. */
export const logBodySchema = z.object({ kind: z.string(), apiVersion: z.string() });

/** Annotation `dev.sigstore.cosign/rfc3161timestamp` (cosign `pkg/cosign/bundle/tsa.go`). */
export const timestampSchema = z.object({ SignedRFC3161Timestamp: z.string() });

/** A Sigstore bundle with a DSSE envelope (sigstore/protobuf-specs `sigstore_bundle.proto`, in proto3 JSON). */
export const envelopeBundleSchema = z.object({
  dsseEnvelope: z.object({
    payload: z.string(),
    payloadType: z.string(),
    signatures: z.array(z.object({ sig: z.string() })),
  }),
});

/** An in-toto statement (in-toto/attestation `spec/v1/statement.md`). */
export const statementSchema = z.object({
  _type: z.string(),
  predicateType: z.string(),
  subject: z.array(z.object({ digest: z.nullish(z.record(z.string(), z.string())) })),
});
