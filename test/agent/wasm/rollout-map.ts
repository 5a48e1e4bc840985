import {
  initialRollout,
  type RolloutEffect,
  type RolloutEvent,
  type RolloutState,
  type StandIn,
} from '../../../agent/wasm/rollout.ts';
import { transition } from '../../../agent/wasm/rollout-transition.ts';
import { preparedConfig } from './prepared-config.ts';

/** One row of the map: what an event can lead to in a state, and what is done then. */
export interface MapRow {
  readonly from: string;
  readonly event: RolloutEvent['kind'];
  readonly to: string;
  /** In the order of their names; `?` behind one that is not always done. */
  readonly effects: readonly string[];
}

/** More pushes, or more unanswered offers, lead to no other rows. */
const maxPush = 2;
const maxInFlightCount = 2;

function standIns(push: number): readonly StandIn[] {
  return [{ content: 'fallback', config: preparedConfig(`stand-in ${push}`) }];
}

/** Every event that may come in a state. Exhaustive: a new event does not compile before it is here. */
const eventsIn: {
  readonly [Kind in RolloutEvent['kind']]: (
    state: RolloutState,
    nextPush: number,
  ) => readonly Extract<RolloutEvent, { kind: Kind }>[];
} = {
  'pushed-ready': (_, push) => [{ kind: 'pushed-ready', push, config: preparedConfig(`ready ${push}`) }],
  'pushed-remote': (_, push) => [{ kind: 'pushed-remote', push, standIns: standIns(push) }],
  'pushed-refused': (_, push) => [
    { kind: 'pushed-refused', push, reason: 'no', standIns: standIns(push) },
    { kind: 'pushed-refused', push, reason: 'no', standIns: [] },
  ],
  remembered: ({ push }) => [{ kind: 'remembered', push, config: preparedConfig('kept') }],
  prepared: ({ push }) => [{ kind: 'prepared', push, config: preparedConfig(`module ${push}`) }],
  'preparation-failed': ({ push }) =>
    [true, false].flatMap((isRetryable) =>
      [true, false].map((isReplacing) => {
        const failure = { reason: 'no', isRetryable, isReplacing };
        return { kind: 'preparation-failed' as const, push, ...failure };
      }),
    ),
  'hold-expired': ({ push }) => [{ kind: 'hold-expired', push }],
  reconsidered: () => [{ kind: 'reconsidered' }],
  judged: (state) => {
    const offers =
      state.acknowledged === undefined ? state.inFlight : [state.acknowledged, ...state.inFlight];
    const newest = offers.at(-1);
    const none = {
      kind: 'judged',
      stopped: new Set<number>(),
      reason: '',
      standIns: state.standIns,
    } as const;
    if (newest === undefined || newest.content === 'fallback') return [none];
    return [none, { ...none, stopped: new Set([newest.number]), reason: 'no' }];
  },
  proven: ({ acknowledged }) =>
    acknowledged === undefined
      ? []
      : [{ kind: 'proven', offer: acknowledged.number, config: { ...acknowledged.config } }],
  'retry-due': ({ push }) => [{ kind: 'retry-due', push }],
  renewed: ({ push }) => [{ kind: 'renewed', push, config: preparedConfig(`module ${push} again`) }],
  acknowledged: ({ inFlight }) =>
    inFlight.slice(0, 1).map(({ number: offer }) => ({ kind: 'acknowledged', offer })),
  rejected: ({ inFlight }) =>
    inFlight.slice(0, 1).map(({ number: offer }) => ({ kind: 'rejected', offer, reason: 'no' })),
  withdrawn: () => [{ kind: 'withdrawn' }],
  'stream-ended': () => [{ kind: 'stream-ended' }],
};

/** The state's name in the page: how far the newest push has come, and for a failed one whether it is tried again. */
export function stateName({ progress }: RolloutState): string {
  if (progress.kind !== 'failed') return progress.kind;
  return `failed-${{ none: 'final', waiting: 'waiting', running: 'retrying' }[progress.retry]}`;
}

/** All that the machine can do, found by doing it: every event in every state that can be reached. */
export function mapRollout(): readonly MapRow[] {
  const seen = new Set<string>();
  const rows = new Map<string, { row: Omit<MapRow, 'effects'>; always: Set<string>; ever: Set<string> }>();
  const open: { readonly state: RolloutState; readonly pushCount: number }[] = [
    { state: initialRollout, pushCount: 0 },
  ];
  let offers = 0;
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { state, pushCount } = next;
    for (const events of Object.values(eventsIn)) {
      for (const event of events(state, pushCount + 1)) {
        const { state: after, effects } = transition(state, event, () => ++offers);
        if (after !== state)
          add({ from: stateName(state), event: event.kind, to: stateName(after) }, effects);
        const count = 'push' in event ? Math.max(pushCount, event.push) : pushCount;
        const key = keyOf(after, count);
        if (count > maxPush || after.inFlight.length > maxInFlightCount || seen.has(key)) continue;
        seen.add(key);
        open.push({ state: after, pushCount: count });
      }
    }
  }
  return [...rows.values()]
    .map(({ row, always, ever }) => ({
      ...row,
      effects: [...ever].sort().map((effect) => (always.has(effect) ? effect : `${effect}?`)),
    }))
    .sort((a, b) => compare(a.from, b.from) || compare(a.event, b.event) || compare(a.to, b.to));

  function add(row: Omit<MapRow, 'effects'>, effects: readonly RolloutEffect[]): void {
    const key = `${row.from} ${row.event} ${row.to}`;
    const kinds = new Set(effects.map(({ kind }) => kind));
    const known = rows.get(key);
    if (known === undefined) {
      rows.set(key, { row, always: new Set(kinds), ever: new Set(kinds) });
      return;
    }
    for (const kind of known.always) if (!kinds.has(kind as RolloutEffect['kind'])) known.always.delete(kind);
    for (const kind of kinds) known.ever.add(kind);
  }
}

/** States that differ in offer numbers only are one. */
function keyOf(state: RolloutState, pushCount: number): string {
  const offer = (one: RolloutState['acknowledged']): unknown =>
    one === undefined ? null : [one.push, one.content, Buffer.from(one.config.bytes).toString()];
  return JSON.stringify([
    pushCount,
    state.push,
    state.standIns.map(({ config: { bytes } }) => Buffer.from(bytes).toString()),
    state.progress.kind,
    state.progress.kind === 'failed'
      ? [Math.min(2, state.progress.attemptCount), state.progress.retry]
      : null,
    state.inFlight.map(offer),
    offer(state.acknowledged),
    state.refused === undefined ? null : Buffer.from(state.refused.config.bytes).toString(),
    [...state.inFlight, state.acknowledged].map((one) => one !== undefined && state.stopped.has(one.number)),
  ]);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

const anyState = 'any';
const sameState = 'the same';

/** The rows as the table of docs/rollout.md has them: states in which an event does the same share a line. */
export function formatTable(rows: readonly MapRow[]): readonly string[] {
  const states = new Set(rows.map(({ from }) => from));
  const lines = new Map<string, { event: string; to: string; done: string; from: string[] }>();
  for (const { from, event, to, effects } of rows) {
    const line = { event, to: to === from ? sameState : to, done: effects.join(', ') };
    const key = JSON.stringify(line);
    const known = lines.get(key);
    if (known === undefined) lines.set(key, { ...line, from: [from] });
    else known.from.push(from);
  }
  return [...lines.values()]
    .sort((a, b) => compare(a.event, b.event) || compare(a.to, b.to) || compare(a.done, b.done))
    .map(({ event, from, to, done }) => {
      const shown = from.length === states.size ? anyState : from.join(', ');
      return `| ${event} | ${shown} | ${to} | ${done === '' ? '-' : done} |`;
    });
}

/** The arrows of the diagram in docs/rollout.md: `from --> to: event`, without those that lead back to where they start. */
export function formatArrows(rows: readonly MapRow[]): readonly string[] {
  const states = new Set(rows.map(({ from }) => from));
  const targets = Map.groupBy(rows, ({ event, to }) => `${event} ${to}`);
  const arrows = rows.flatMap(({ from, event, to }) => {
    const isFromAny = targets.get(`${event} ${to}`)?.length === states.size;
    if (!isFromAny && from === to) return [];
    return [`${isFromAny ? anyState : from} --> ${to}: ${event}`];
  });
  return [...new Set(arrows)].sort(compare);
}
