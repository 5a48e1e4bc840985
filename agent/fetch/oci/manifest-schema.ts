import * as z from 'zod/mini';

/** Shape of a descriptor (OCI image specification, descriptor.md). Unknown fields are dropped. */
const descriptor = z.object({
  mediaType: z.string(),
  digest: z.string(),
  size: z.int().check(z.nonnegative()),
  platform: z.nullish(z.object({ os: z._default(z.string(), ''), architecture: z._default(z.string(), '') })),
  annotations: z.nullish(z.record(z.string(), z.string())),
});

/** What a manifest says of what it refers to (OCI image specification, manifest.md, "subject"). */
export const referrerSchema = z.object({
  artifactType: z.nullish(z.string()),
  config: z.nullish(z.object({ mediaType: z.string() })),
  subject: z.nullish(z.object({ digest: z.string() })),
  annotations: z.nullish(z.record(z.string(), z.string())),
});

/** Shape of a manifest or index of any kind; which one it is, the caller tells by the fields. */
export const manifestSchema = z.object({
  schemaVersion: z.optional(z.number()),
  mediaType: z.optional(z.string()),
  artifactType: z.nullish(z.string()),
  config: z.nullish(descriptor),
  layers: z.nullish(z.array(descriptor)),
  manifests: z.nullish(z.array(descriptor)),
  fsLayers: z.optional(z.unknown()),
});
