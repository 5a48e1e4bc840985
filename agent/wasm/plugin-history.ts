import type { FallbackAction } from './fallback-filter.ts';
import type { Offer, RolloutEvent, RolloutState } from './rollout.ts';
import { shortText } from './short-text.ts';

/** What happened to a plugin. */
export type HistoryEvent =
  /** istiod sent a config. */
  | 'pushed'
  /** istiod sent a config that cannot be used. */
  | 'refused'
  /** The module is on disk; the config was sent to Envoy. */
  | 'offered'
  /** The config could not be made ready: the module could not be had, or Envoy had refused the same before. */
  | 'failed'
  /** Envoy runs the plugin. */
  | 'accepted'
  /** Envoy runs what it had accepted before the agent was restarted. */
  | 'last-known-good'
  /** Envoy runs the filter that stands in by fail strategy. */
  | 'fallback'
  /** Envoy refused what it was sent. */
  | 'rejected'
  /** The module took too long: the stand-in goes first. */
  | 'hold-expired'
  /** The policy refuses what Envoy runs, and wants it replaced. */
  | 'stopped'
  /** The policy refuses what Envoy runs, and lets it run on. */
  | 'kept'
  /** The stream to Envoy ended with work open. */
  | 'interrupted'
  /** Whether the tag of a running plugin names another module could not be found out. */
  | 'recheck-failed';

/** One thing that happened, and why. Holds no secret. */
export interface HistoryNote {
  readonly what: HistoryEvent;
  readonly why: string | undefined;
}

/** A note with its times. The same note again right after it counts up instead of a new entry. */
export interface HistoryEntry extends HistoryNote {
  /** Epoch ms. */
  readonly firstAtMs: number;
  /** Epoch ms. */
  readonly lastAtMs: number;
  /** How often in a row. */
  readonly count: number;
}

/** Enough to tell how a plugin came to where it is; more would not fit on a page. */
export const maxHistoryLength = 20;

/** Envoy quotes configs in its refusals, which may be long, and there are many entries. */
const maxReasonLength = 1_000;

/** What the notes tell beside the state machine. */
export interface HistoryFacts {
  readonly url: string | undefined;
  readonly module:
    | { readonly digest: string; readonly source: string; readonly sizeBytes: number }
    | undefined;
  readonly fetchDurationMs: number | undefined;
  /** What a stand-in does that Envoy acknowledges. */
  readonly fallbackActionOf: (offer: Offer) => FallbackAction | undefined;
}

/** The list with one more note; the oldest entry gives way. A plugin that fails again and again stays one entry. */
export function addToHistory(
  history: readonly HistoryEntry[],
  note: HistoryNote,
  nowMs: number,
): readonly HistoryEntry[] {
  const why = note.why === undefined ? undefined : shortText(note.why, maxReasonLength);
  const last = history.at(-1);
  if (last !== undefined && last.what === note.what && last.why === why) {
    return [...history.slice(0, -1), { ...last, lastAtMs: nowMs, count: last.count + 1 }];
  }
  const entry: HistoryEntry = { what: note.what, why, firstAtMs: nowMs, lastAtMs: nowMs, count: 1 };
  return [...history, entry].slice(-maxHistoryLength);
}

/** What a step of the state machine is in words; undefined for one that changes nothing to tell. Pure. */
export function noteOf(
  event: RolloutEvent,
  before: RolloutState,
  after: RolloutState,
  facts: HistoryFacts,
): HistoryNote | undefined {
  // The machine gives back the very state for an event that came too late.
  if (after === before) return undefined;
  switch (event.kind) {
    case 'pushed-ready':
      return { what: 'pushed', why: 'needs no download, sent to Envoy' };
    case 'pushed-remote':
      return { what: 'pushed', why: facts.url === undefined ? 'needs no download' : `module ${facts.url}` };
    case 'pushed-refused':
      return { what: 'refused', why: event.reason };
    case 'prepared':
      return { what: 'offered', why: describeModule(facts) };
    case 'renewed':
      return { what: 'offered', why: `its name means another module now: ${describeModule(facts) ?? ''}` };
    case 'preparation-failed':
      return { what: 'failed', why: event.reason };
    case 'acknowledged': {
      const offer = offerOf(before, event.offer);
      // An ACK that is none: Envoy had refused the same bytes before.
      if (after.progress !== before.progress && after.progress.kind === 'failed')
        return { what: 'rejected', why: after.progress.reason };
      return offer === undefined || after.acknowledged !== offer ? undefined : noteOfAck(offer, after, facts);
    }
    case 'rejected':
      return offerOf(before, event.offer) === undefined ? undefined : { what: 'rejected', why: event.reason };
    case 'stream-ended':
      return noteOfEnd(before, after);
    case 'hold-expired':
      return { what: 'hold-expired', why: 'the policy lets nobody wait longer' };
    case 'judged':
      return after.inFlight === before.inFlight && after.progress === before.progress
        ? undefined
        : { what: 'stopped', why: event.reason };
    // A try is told by how it ends; a plugin that is withdrawn has no history any more.
    case 'retry-due':
    case 'reconsidered':
    case 'proven':
    case 'remembered':
    case 'withdrawn':
      return undefined;
    default:
      return event satisfies never;
  }
}

function offerOf(state: RolloutState, number: number): Offer | undefined {
  return state.inFlight.find((offer) => offer.number === number);
}

function noteOfAck(offer: Offer, after: RolloutState, facts: HistoryFacts): HistoryNote {
  switch (offer.content) {
    case 'plugin': {
      const isNewest = offer.push === after.push;
      return { what: 'accepted', why: isNewest ? undefined : 'a config before the newest one' };
    }
    case 'last-known-good':
      return { what: 'last-known-good', why: 'Envoy had accepted it before the agent was restarted' };
    case 'fallback':
      return { what: 'fallback', why: describeAction(facts.fallbackActionOf(offer)) };
    default:
      return offer.content satisfies never;
  }
}

function describeAction(action: FallbackAction | undefined): string | undefined {
  switch (action) {
    case 'allow':
      return 'all requests pass without the plugin';
    case 'deny':
      return 'all requests are denied';
    case undefined:
      return undefined;
    default:
      return action satisfies never;
  }
}

function noteOfEnd(before: RolloutState, after: RolloutState): HistoryNote | undefined {
  if (before.inFlight.length > 0) {
    return { what: 'interrupted', why: 'the stream to Envoy ended before Envoy had answered' };
  }
  return after.progress === before.progress
    ? undefined
    : { what: 'interrupted', why: 'the stream to Envoy ended; it goes on with the next push' };
}

function describeModule({ module, fetchDurationMs }: HistoryFacts): string | undefined {
  if (module === undefined) return undefined;
  const { digest, source, sizeBytes } = module;
  const time = fetchDurationMs === undefined ? '' : ` in ${Math.round(fetchDurationMs)} ms`;
  return `module ${digest.slice(0, 12)} from ${source}, ${sizeBytes} bytes${time}`;
}
