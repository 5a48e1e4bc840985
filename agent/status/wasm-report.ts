import * as z from 'zod/mini';

/** What `/debug/wasm` gives as JSON, as the page and the command line read it. Unknown fields are dropped. */

const action = z.enum(['allow', 'deny']);
const time = z.iso.datetime();

const eventSchema = z.object({
  at: time,
  lastAt: z.optional(time),
  count: z.int().check(z.positive()),
  what: z.enum([
    'pushed',
    'refused',
    'offered',
    'failed',
    'accepted',
    'last-known-good',
    'fallback',
    'rejected',
    'interrupted',
    'hold-expired',
    'stopped',
    'kept',
    'recheck-failed',
  ]),
  why: z.optional(z.string()),
});

const pluginSchema = z.object({
  name: z.string(),
  state: z.enum(['none', 'preparing', 'offered', 'active', 'failed']),
  stateSince: z.optional(time),
  retry: z.enum(['none', 'waiting', 'running']),
  inForce: z.enum(['plugin', 'last-known-good', 'fallback', 'none']),
  fallbackAction: z.optional(action),
  runningDigest: z.optional(z.string()),
  policyRefusal: z.optional(z.string()),
  plan: z.optional(z.enum(['as-is', 'local', 'fetch', 'refused'])),
  failAction: z.optional(action),
  url: z.optional(z.string()),
  source: z.optional(z.string()),
  sourceName: z.optional(z.string()),
  isStale: z.boolean(),
  digest: z.optional(z.string()),
  checksum: z.optional(z.string()),
  matchedPin: z.optional(z.string()),
  digests: z.optional(
    z.object({
      index: z.array(z.string()),
      manifest: z.optional(z.string()),
      layer: z.optional(z.string()),
      archive: z.optional(z.string()),
    }),
  ),
  file: z.optional(z.string()),
  sizeBytes: z.optional(z.number()),
  signature: z.optional(z.object({ signer: z.string(), proof: z.string() })),
  version: z.optional(z.string()),
  lastError: z.optional(z.string()),
  isLastErrorOfPolicy: z.optional(z.boolean()),
  failedAttemptCount: z.int(),
  pushedAt: z.optional(time),
  activeAt: z.optional(time),
  lastErrorAt: z.optional(time),
  nextRetryAt: z.optional(time),
  nextRecheckAt: z.optional(time),
  lastKnownGoodAt: z.optional(time),
  fetchDurationMs: z.optional(z.number()),
  history: z.array(eventSchema),
});

const streamSchema = z.object({
  kind: z.string(),
  state: z.string(),
  upstreamAddress: z.optional(z.string()),
  sinceMs: z.number(),
});

const policySchema = z.object({
  file: z.optional(z.string()),
  generation: z.int(),
  revision: z.string(),
  loadedAt: time,
  problems: z.array(z.string()),
  refusedAt: z.optional(time),
});

/** `failed` are those that failed while they served; `problem` says why Envoy could not be asked. */
const vmsSchema = z.object({
  failed: z.array(
    z.object({
      plugin: z.string(),
      reloadCount: z.number(),
      failedReloadCount: z.number(),
      refusedCount: z.number(),
    }),
  ),
  problem: z.optional(z.string()),
});

const reportSchema = z.object({
  nodeId: z.string(),
  isConversionEnabled: z.boolean(),
  /** Absent: no policy file is named. */
  policy: z.optional(policySchema),
  plugins: z.array(pluginSchema),
  /** Absent: there is no plugin, or no Envoy of the agent's own. */
  vms: z.optional(vmsSchema),
  xds: z.object({
    discoveryAddress: z.string(),
    stream: z.optional(streamSchema),
    failedDialCount: z.int(),
    lastEnd: z.optional(
      z.object({
        side: z.string(),
        atMs: z.number(),
        status: z.object({ code: z.number(), message: z.string() }),
      }),
    ),
  }),
});

export type WasmReport = z.infer<typeof reportSchema>;
export type ReportedPlugin = z.infer<typeof pluginSchema>;
export type ReportedVm = z.infer<typeof vmsSchema>['failed'][number];
export type ReportedEvent = z.infer<typeof eventSchema>;

/** The report, or the first thing in the value that is none. */
export type ReportReading =
  | { readonly kind: 'report'; readonly report: WasmReport }
  | { readonly kind: 'other'; readonly problem: string };

/** Reads the JSON value that `/debug/wasm` gives. */
export function readWasmReport(value: unknown): ReportReading {
  const result = reportSchema.safeParse(value);
  if (result.success) return { kind: 'report', report: result.data };
  const [issue] = result.error.issues;
  const place = issue === undefined || issue.path.length === 0 ? 'the whole' : issue.path.join('.');
  return { kind: 'other', problem: `${place}: ${issue?.message ?? 'it is no report'}` };
}
