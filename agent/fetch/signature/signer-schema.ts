import * as z from 'zod/mini';
import { signatureAlgorithms } from './public-key.ts';

const filled = z.string().check(z.minLength(1));

/** Unknown fields are faults here: an operator writes this, and a typo must not widen who may sign. */
const keySigner = z.strictObject({
  kind: z.literal('key'),
  name: filled,
  publicKeys: z.array(filled).check(z.minLength(1)),
  algorithms: z.optional(z.array(z.enum(signatureAlgorithms)).check(z.minLength(1))),
});

const identity = z.strictObject({
  issuer: filled,
  subject: z.optional(filled),
  subjectPattern: z.optional(filled),
});

const keylessSigner = z.strictObject({
  kind: z.literal('keyless'),
  name: filled,
  trustedRoot: z.unknown(),
  identities: z.array(identity).check(z.minLength(1)),
});

/** The signers of a policy file. */
export const signersSchema = z.array(z.discriminatedUnion('kind', [keySigner, keylessSigner]));

const timeRange = z.object({ start: z.nullish(z.string()), end: z.nullish(z.string()) });
const logId = z.object({ keyId: z.string() });
const log = z.object({
  baseUrl: z._default(z.string(), ''),
  publicKey: z.object({ rawBytes: z.string(), validFor: z.nullish(timeRange) }),
  logId,
  checkpointKeyId: z.nullish(logId),
});
const authority = z.object({
  certChain: z.object({ certificates: z.array(z.object({ rawBytes: z.string() })).check(z.minLength(1)) }),
  validFor: z.nullish(timeRange),
});

/** `trusted_root.json` (sigstore/protobuf-specs `sigstore_trustroot.proto`, in proto3 JSON). */
export const trustedRootSchema = z.object({
  mediaType: z
    .string()
    .check(
      z.regex(/^application\/vnd\.dev\.sigstore\.trustedroot(?:\.v0\.\d+\+json|\+json;version=0\.\d+)$/),
    ),
  certificateAuthorities: z._default(z.array(authority), []),
  timestampAuthorities: z._default(z.array(authority), []),
  tlogs: z._default(z.array(log), []),
  ctlogs: z._default(z.array(log), []),
});
