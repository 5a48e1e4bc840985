import * as z from 'zod/mini';
import { parseCidr } from '../fetch/egress-guard.ts';
import { signatureAlgorithms } from '../fetch/signature/public-key.ts';
import { hostKey } from './host-key.ts';
import { duration, filled, path, place, size, text } from './schema-fields.ts';

/**
 * The policy file's document, as written. Unknown keys are faults: a typo must not open anything. The published JSON
 * schema is made from this.
 */

/** Bounds of lists: far above what anybody writes by hand, so that no file makes the agent slow. */
const maxRuleCount = 1024;
const maxListLength = 256;

const meaning = (text: string) => z.describe(text);

const action = z.enum(['allow', 'deny']).check(meaning('Whether modules that this is for may be used.'));
const runningAction = (description: string) => z.enum(['keep', 'failStrategy']).check(meaning(description));

const sha256List = z
  .array(
    z.string().check(
      z.regex(/^[0-9a-f]{64}$/, {
        error: 'is no sha256; write 64 lower-case hex digits without a prefix',
      }),
    ),
  )
  .check(
    z.minLength(1),
    z.maxLength(maxRuleCount),
    meaning(
      'One of these must be a digest of the module: of index, manifest, layer, archive or the module file.',
    ),
  );

const terms = {
  pullPolicy: z.optional(
    z.enum(['IfNotPresent', 'Always']).check(meaning('Wins over the pull policy of the plugin.')),
  ),
  staleIfError: z.optional(
    duration(
      'A cached module up to this age stands in when a first load fails. Not given: none does.',
      1,
      '1ms',
    ),
  ),
  pollInterval: z.optional(
    duration('How often the origin is asked for a new digest. Not given: never.', 10_000, '10s'),
  ),
  onUpdateFailure: z.optional(runningAction('For an update whose fetch fails. Default keep.')),
  onTightened: z.optional(
    runningAction('For a plugin that runs and that a changed policy refuses. Default keep.'),
  ),
  maxHold: z.optional(
    duration('Longest hold of a first load before the fail strategy; 0s holds nothing.', 0, '0s'),
  ),
  originTimeout: z.optional(duration('Time for the origin, after layouts and mirrors.', 1, '1ms')),
};

const moduleRule = z.strictObject({
  url: z.optional(
    place(
      'url',
      'Modules whose URL begins so, by whole parts of the path. oci:// with a tag or digest: that image only.',
    ),
  ),
  registry: z.optional(place('registry', 'All that this host serves: host or host:port.')),
  repository: z.optional(place('repository', 'One repository with all its tags: registry/repository.')),
  action,
  signers: z.optional(
    z
      .array(z.string())
      .check(
        z.minLength(1),
        z.maxLength(maxListLength),
        meaning('Names of signers, one of which must have signed.'),
      ),
  ),
  sha256: z.optional(sha256List),
  ...terms,
});

const localRule = z.strictObject({
  action,
  paths: z.optional(
    z
      .array(
        text('Absolute folder or file.', (value) =>
          /^\/(?!.*(?:^|\/)\.\.(?:\/|$))/.test(value)
            ? undefined
            : 'is no absolute path without ".."; write one',
        ),
      )
      .check(z.minLength(1), z.maxLength(maxListLength), meaning('Modules under these only.')),
  ),
  sha256: z.optional(sha256List),
  ...terms,
});

const inlineRule = z.strictObject({ action, sha256: z.optional(sha256List), ...terms });

const keySigner = z.strictObject({
  publicKeys: z.optional(
    z
      .array(z.string())
      .check(z.minLength(1), z.maxLength(64), meaning('PEM texts of public keys (cosign.pub).')),
  ),
  publicKeyFiles: z.optional(
    z.array(path('File with public keys in PEM.')).check(z.minLength(1), z.maxLength(64)),
  ),
  algorithms: z.optional(
    z.array(z.enum(signatureAlgorithms)).check(z.minLength(1), meaning('Default: all that fit the key.')),
  ),
});

const identity = z.strictObject({
  issuer: filled('The OIDC issuer, exact.'),
  subject: z.optional(filled('The subject alternative name, exact.')),
  subjectPattern: z.optional(
    text('A regular expression for the whole subject alternative name.', (value) => {
      try {
        new RegExp(`^(?:${value})$`, 'u');
        return value === '' ? 'is empty; write a regular expression' : undefined;
      } catch {
        return 'is no regular expression; write one in ECMAScript form';
      }
    }),
  ),
});

const keylessSigner = z.strictObject({
  trustedRootFile: path('A trusted_root.json.'),
  identities: z.array(identity).check(z.minLength(1), z.maxLength(64)),
});

const signer = z.strictObject({
  key: z.optional(keySigner.check(meaning('Signs with a key.'))),
  keyless: z.optional(keylessSigner.check(meaning('Signs with short-lived certificates.'))),
});

const mirror = z.strictObject({
  from: place('url', 'Modules whose URL begins so.'),
  endpoints: z
    .array(
      z.strictObject({
        url: place('url', 'Stands for "from"; the rest of the URL is added.'),
        timeout: z.optional(duration('Time for this mirror. Default 10s.', 1, '1ms')),
        sendNamespace: z.optional(
          z
            .boolean()
            .check(meaning('Name the original registry as ?ns=, as containerd does. Default false.')),
        ),
      }),
    )
    .check(z.minLength(1), z.maxLength(16)),
});

const layout = z.strictObject({
  path: path('Folder with an OCI image layout.'),
  timeout: z.optional(duration('Time for this folder. Default 5s.', 1, '1ms')),
  optional: z.optional(z.boolean().check(meaning('The folder may be missing. Default false.'))),
});

const registry = z.strictObject({
  caFile: z.optional(
    path("PEM bundle of the authorities that are trusted for this host, instead of the system's."),
  ),
  clientCertificate: z.optional(
    z.strictObject({ certFile: path('PEM file.'), keyFile: path('PEM file with the private key.') }),
  ),
  plainHttp: z.optional(z.boolean().check(meaning('This host is spoken to without TLS. Default false.'))),
  credentialsFile: z.optional(path('docker config JSON for this host.')),
});

const caps = z.strictObject({
  maxModuleBytes: z.optional(size('Largest module and largest download.')),
  maxMemoryPages: z.optional(
    z
      .int()
      .check(z.minimum(1), z.maximum(65_536), meaning('Most pages of 64 KiB that a module may declare.')),
  ),
  quotaBytes: z.optional(size('Size of the module cache on disk.')),
  connectionsPerHost: z.optional(
    z.int().check(z.minimum(1), z.maximum(64), meaning('Connections to one host at a time. Default 8.')),
  ),
});

const signerNamePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/** The whole document. */
export const policySchema = z.strictObject({
  version: z.literal(1).check(meaning('Of this format.')),
  defaultAction: z
    .enum(['allow', 'deny'])
    .check(meaning('For modules that no rule matches; local and inline ones too, where they have no rule.')),
  defaults: z.optional(z.strictObject(terms).check(meaning('For what a rule does not say.'))),
  modules: z.optional(
    z
      .array(moduleRule)
      .check(z.maxLength(maxRuleCount), meaning('In order: the first rule that matches counts.')),
  ),
  local: z.optional(localRule.check(meaning("Modules that are files of the proxy's container."))),
  inline: z.optional(inlineRule.check(meaning('Modules whose bytes are in the configuration.'))),
  signers: z.optional(
    z
      .record(
        z.string().check(
          z.regex(signerNamePattern, {
            error: 'is no name; write 1 to 63 letters, digits, ".", "_" and "-"',
          }),
        ),
        signer,
      )
      .check(meaning('By name.')),
  ),
  mirrors: z.optional(
    z
      .array(mirror)
      .check(z.maxLength(maxListLength), meaning('In order: the first "from" that matches counts.')),
  ),
  layouts: z.optional(
    z.array(layout).check(z.maxLength(16), meaning('Looked at in order, before mirrors and origin.')),
  ),
  registries: z.optional(
    z
      .record(
        text('host or host:port', (value) =>
          hostKey(value) === undefined ? 'is no host; write host or host:port, without a scheme' : undefined,
        ),
        registry,
      )
      .check(meaning('By host or host:port.')),
  ),
  caps: z.optional(caps.check(meaning('Upper bounds; they never raise those of the environment.'))),
  blockedCidrs: z.optional(
    z
      .array(
        text('Address range.', (value) =>
          parseCidr(value) === undefined || value !== value.trim()
            ? 'is no address range; write one such as 10.0.0.0/8'
            : undefined,
        ),
      )
      .check(z.maxLength(maxRuleCount), meaning('Never dialled, in addition to those of the environment.')),
  ),
});

/** A document that fits the schema. What it names is not checked yet. */
export type PolicyDocument = z.infer<typeof policySchema>;
