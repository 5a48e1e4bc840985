import type { ReportedEvent, ReportedPlugin, WasmReport } from './wasm-report.ts';

/** How the state of plugins is told to people: the same words on the page and on the command line. */

/** What Envoy runs in the place of a plugin, in a few words. */
export function inForceWords({ state, inForce, fallbackAction }: ReportedPlugin): string {
  switch (inForce) {
    case 'plugin':
      return state === 'active' ? 'plugin' : 'earlier config';
    case 'last-known-good':
      return 'last good';
    case 'fallback':
      return fallbackAction === undefined ? 'fallback' : `fallback ${fallbackAction}`;
    case 'none':
      return 'nothing';
    default:
      return inForce satisfies never;
  }
}

/** One sentence or two on where a plugin stands and what that means for requests. */
export function situationOf(plugin: ReportedPlugin): string {
  switch (plugin.state) {
    case 'active':
      return 'Envoy runs what istiod sent.';
    case 'preparing':
      return `The module is being fetched. ${meanwhile(plugin)}`;
    case 'offered':
      return `Sent to Envoy, which has not answered yet. ${meanwhile(plugin)}`;
    case 'failed':
      return `The newest config is not in force. ${meanwhile(plugin)}`;
    case 'none':
      return `The stream to Envoy ended before Envoy answered; it comes again with the next push. ${meanwhile(plugin)}`;
    default:
      return plugin.state satisfies never;
  }
}

function meanwhile({ inForce, fallbackAction }: ReportedPlugin): string {
  switch (inForce) {
    case 'plugin':
      return 'Envoy goes on with the config before it.';
    case 'last-known-good':
      return 'Envoy runs what it had accepted before the agent was restarted.';
    case 'fallback':
      return fallbackAction === 'allow'
        ? 'A stand-in lets ALL requests pass without the plugin.'
        : 'A stand-in denies ALL requests.';
    case 'none':
      return 'Envoy runs nothing of this name: listeners that need it wait.';
    default:
      return inForce satisfies never;
  }
}

/** When a failed plugin is tried again; undefined for one that has not failed. */
export function nextTryWords(plugin: ReportedPlugin, nowMs: number): string | undefined {
  if (plugin.state !== 'failed') return undefined;
  switch (plugin.retry) {
    case 'running':
      return 'now';
    case 'waiting': {
      if (plugin.nextRetryAt === undefined) return 'soon';
      const leftMs = Date.parse(plugin.nextRetryAt) - nowMs;
      return leftMs <= 0 ? 'now' : `in ${spanWords(leftMs)}`;
    }
    case 'none':
      return plugin.isLastErrorOfPolicy === true
        ? 'when the policy changes, or with the next push'
        : 'with the next push';
    default:
      return plugin.retry satisfies never;
  }
}

/** What happened, in a few words. */
export function eventWords(what: ReportedEvent['what']): string {
  switch (what) {
    case 'pushed':
      return 'istiod sent a config';
    case 'refused':
      return 'The config cannot be used';
    case 'offered':
      return 'Module ready, sent to Envoy';
    case 'failed':
      return 'Could not be made ready';
    case 'accepted':
      return 'Envoy runs the plugin';
    case 'last-known-good':
      return 'Envoy runs the last known good config';
    case 'fallback':
      return 'Envoy runs the stand-in filter';
    case 'rejected':
      return 'Envoy refused it';
    case 'interrupted':
      return 'Interrupted';
    case 'hold-expired':
      return 'The module takes long, a stand-in goes first';
    case 'stopped':
      return 'Stopped: the policy refuses it now';
    case 'kept':
      return 'Runs on, although the policy refuses it now';
    case 'recheck-failed':
      return 'Could not look for a newer module';
    default:
      return what satisfies never;
  }
}

/** How the agent and istiod are connected. */
export function connectionWords({ xds }: WasmReport, nowMs: number): string {
  const { discoveryAddress, stream, failedDialCount, lastEnd } = xds;
  if (stream !== undefined) {
    const since = spanWords(nowMs - stream.sinceMs);
    const peer = stream.upstreamAddress === undefined ? '' : ` at ${stream.upstreamAddress}`;
    const state = stream.state === 'open' ? 'connected' : stream.state;
    return `${discoveryAddress}${peer}: ${state} for ${since}, ${stream.kind}`;
  }
  const dials = failedDialCount === 0 ? '' : `, ${failedDialCount} failed dials`;
  if (lastEnd === undefined) return `${discoveryAddress}: Envoy has opened no stream yet${dials}`;
  const { code, message } = lastEnd.status;
  const reason = message === '' ? `gRPC status ${code}` : `gRPC status ${code}: ${message}`;
  return `${discoveryAddress}: NOT connected since ${spanWords(nowMs - lastEnd.atMs)}${dials}; ended by ${lastEnd.side}, ${reason}`;
}

/** Counts by state, those that need a look first: `1 failed, 3 active`. */
export function countWords(plugins: readonly ReportedPlugin[]): string {
  if (plugins.length === 0) return 'none';
  return stateOrder
    .map((state) => [state, plugins.filter((plugin) => plugin.state === state).length] as const)
    .filter(([, count]) => count > 0)
    .map(([state, count]) => `${count} ${state}`)
    .join(', ');
}

const stateOrder: readonly ReportedPlugin['state'][] = ['failed', 'none', 'preparing', 'offered', 'active'];

/** Those that need a look first, then by name. */
export function byUrgency(plugins: readonly ReportedPlugin[]): readonly ReportedPlugin[] {
  return plugins.toSorted(
    (left, right) =>
      stateOrder.indexOf(left.state) - stateOrder.indexOf(right.state) ||
      (left.name < right.name ? -1 : left.name > right.name ? 1 : 0),
  );
}

/** A time span with two units at most: `12s`, `3m 20s`, `2d 4h`. A negative one counts as none. */
export function spanWords(spanMs: number): string {
  const seconds = Math.max(0, Math.round(spanMs / 1_000));
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3_600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ] as const;
  const first = parts.findIndex(([amount]) => amount > 0);
  if (first === -1) return '0s';
  return parts
    .slice(first, first + 2)
    .filter(([amount]) => amount > 0)
    .map(([amount, unit]) => `${amount}${unit}`)
    .join(' ');
}

/** `512 B`, `1.2 MiB`. */
export function sizeWords(sizeBytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let size = sizeBytes;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${size.toFixed(unit === 0 || size >= 100 ? 0 : 1)} ${units[unit]}`;
}
