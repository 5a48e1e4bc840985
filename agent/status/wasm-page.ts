import { shortPluginName } from '../wasm/plugin-name.ts';
import { html, Markup } from './html.ts';
import {
  byUrgency,
  connectionWords,
  countWords,
  eventWords,
  inForceWords,
  nextTryWords,
  situationOf,
  sizeWords,
  spanWords,
} from './plugin-words.ts';
import { otherVms, vmOf, vmWords } from './vm-words.ts';
import { pageScript, pageStyle } from './wasm-page-assets.ts';
import type { ReportedEvent, ReportedPlugin, ReportedVm, WasmReport } from './wasm-report.ts';

/**
 * `/debug/wasm` for people: one HTML document that needs nothing else, to be sent with `pagePolicy`. Every value of
 * the report is escaped. Pure.
 */
export function formatWasmPage(report: WasmReport, nowMs: number): string {
  const plugins = byUrgency(report.plugins);
  const failedCount = plugins.filter(({ state }) => state === 'failed').length;
  const title = `${failedCount > 0 ? `${failedCount} failed - ` : ''}Wasm plugins`;
  return document(
    title,
    html`<main>
<h1>Wasm plugins</h1>
<p class="counts">${countWords(plugins)}</p>
${alarms(plugins)}
${policyNote(report, nowMs)}
<p class="muted small">Node <code>${report.nodeId}</code><br>
istiod ${connectionWords(report, nowMs)}<br>
As of ${timeOf(new Date(nowMs).toISOString())}, <a href="?format=json">as JSON</a></p>
${emptyNote(report)}
${vmNotes(report)}
${plugins.map((plugin) => pluginCard(plugin, vmOf(report, plugin.name), nowMs))}
</main>`,
  );
}

/** The page for a report that cannot be shown. `reason` may be of any origin. */
export function formatBrokenPage(reason: string): string {
  return document(
    'Wasm plugins',
    html`<main>
<h1>Wasm plugins</h1>
<p class="why">${reason}</p>
<p><a href="?format=json">as JSON</a></p>
</main>`,
  );
}

function document(title: string, main: Markup): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<link rel="icon" href="data:,">
<style>${new Markup(pageStyle)}</style>
</head>
<body>
<p class="stale" role="status"></p>
${main}
<script>${new Markup(pageScript)}</script>
</body>
</html>
`.text;
}

/** What must not be overlooked: requests that pass unguarded, or do not pass at all. */
function alarms(plugins: readonly ReportedPlugin[]): Markup[] {
  const names = (action: 'allow' | 'deny'): string =>
    plugins
      .filter(({ inForce, fallbackAction }) => inForce === 'fallback' && fallbackAction === action)
      .map(({ name }) => shortPluginName(name))
      .join(', ');
  const [bypassed, denied] = [names('allow'), names('deny')];
  return [
    ...(bypassed === '' ? [] : [html`<p class="alarm">Requests pass WITHOUT ${bypassed}</p>`]),
    ...(denied === '' ? [] : [html`<p class="alarm">Requests are DENIED in the place of ${denied}</p>`]),
  ];
}

/** Nothing where no policy file is named. */
function policyNote({ policy }: WasmReport, nowMs: number): Markup | undefined {
  if (policy === undefined) return undefined;
  const { file, generation, revision, loadedAt, problems, refusedAt } = policy;
  const words = html`policy <code>${file}</code>, version ${generation} since the start (<code>${revision.slice(0, 12)}</code>), read ${since(loadedAt, nowMs)}`;
  if (problems.length === 0) return html`<p class="muted small">Under the ${words}</p>`;
  return html`<p class="alarm">The policy file is NOT in force since ${since(refusedAt, nowMs)}: it has ${problems.length} ${problems.length === 1 ? 'fault' : 'faults'}</p>
<ul class="why">${problems.map((problem) => html`<li>${problem}</li>`)}</ul>
<p class="muted small">In force stays the ${words}</p>`;
}

function emptyNote({ isConversionEnabled, plugins }: WasmReport): Markup | undefined {
  if (!isConversionEnabled) {
    return html`<p>Extension configs are relayed untouched: ISTIO_AGENT_ENABLE_WASM_REMOTE_LOAD_CONVERSION is false.</p>`;
  }
  return plugins.length > 0 ? undefined : html`<p>istiod has sent no extension config to this proxy.</p>`;
}

function pluginCard(plugin: ReportedPlugin, vm: ReportedVm | undefined, nowMs: number): Markup {
  const { name, state, inForce, history } = plugin;
  const runs = inForce !== 'plugin' ? inForce : state === 'active' ? 'newest' : 'earlier';
  const isOpen = state === 'failed';
  // Stays with the plugin when the order changes.
  const id = encodeURIComponent(name);
  return html`<article class="plugin ${state}" data-plugin="${name}">
<header><h2>${shortPluginName(name)}</h2><span class="badge ${state}">${state}</span><span
 class="badge ${runs}">runs ${inForceWords(plugin)}</span></header>
<p>${situationOf(plugin)}${nextTry(plugin, nowMs)}</p>
${vm === undefined ? undefined : html`<p class="why past">${vmWords(vm)}</p>`}
${refusedRunning(plugin)}${failure(plugin)}
${factList(mainFacts(plugin, nowMs))}
<details id="more-${id}"><summary>Digests, file, version</summary>
${factList(moreFacts(plugin))}</details>
<details class="history" id="history-${id}"${isOpen ? new Markup(' open') : undefined}><summary>History, newest first (${history.length})</summary>
<ol>${history.toReversed().map((event) => historyItem(event, nowMs))}</ol></details>
</article>
`;
}

/** VMs of no plugin here, and why nothing is known of any. */
function vmNotes(report: WasmReport): Markup[] {
  const problem = report.vms?.problem;
  return [
    ...otherVms(report).map((vm) => html`<p class="why past">${vm.plugin}: ${vmWords(vm)}</p>`),
    ...(problem === undefined
      ? []
      : [html`<p class="muted small">Whether VMs fail is not known: ${problem}</p>`]),
  ];
}

function nextTry(plugin: ReportedPlugin, nowMs: number): Markup | undefined {
  const words = nextTryWords(plugin, nowMs);
  if (words === undefined) return undefined;
  const tries = plugin.failedAttemptCount > 1 ? ` (${plugin.failedAttemptCount} tries failed)` : '';
  return html` <strong>Next try ${words}</strong>${tries}.`;
}

function refusedRunning({ policyRefusal }: ReportedPlugin): Markup | undefined {
  if (policyRefusal === undefined) return undefined;
  return html`<p class="why">Envoy runs what the policy refuses now; after a restart of the pod it is not loaded again: ${policyRefusal}</p>
`;
}

function failure({ state, lastError, lastErrorAt }: ReportedPlugin): Markup | undefined {
  if (lastError === undefined) return undefined;
  if (state === 'failed') return html`<p class="why">${lastError}</p>`;
  return html`<p class="why past">Before, ${timeOf(lastErrorAt)}: ${lastError}</p>`;
}

type Fact = readonly [label: string, value: string | Markup | undefined];

function factList(facts: readonly Fact[]): Markup {
  const present = facts.filter(([, value]) => value !== undefined && value !== '');
  return html`<dl>${present.map(([label, value]) => html`<dt>${label}</dt><dd>${value}</dd>`)}</dl>`;
}

/** What one wants to know first. */
function mainFacts(plugin: ReportedPlugin, nowMs: number): readonly Fact[] {
  const { digest, signature, state } = plugin;
  const isChecked = signature !== undefined;
  return [
    ['Module', plugin.url ?? (plugin.plan === 'fetch' ? undefined : 'nothing to download')],
    ['Fetched', fetchWords(plugin)],
    ['SHA-256', code(digest?.slice(0, 12))],
    ['Signature', isChecked ? `${signature.signer}: ${signature.proof}` : digest && 'none asked for'],
    ['Fail strategy', failWords(plugin)],
    ['Pushed', since(plugin.pushedAt, nowMs)],
    [stateLabel(state), since(plugin.stateSince, nowMs)],
    ['Last good', since(plugin.lastKnownGoodAt, nowMs)],
  ];
}

function stateLabel(state: ReportedPlugin['state']): string {
  return `${state[0]?.toUpperCase() ?? ''}${state.slice(1)}`;
}

function fetchWords(plugin: ReportedPlugin): string | undefined {
  const { source, sourceName, isStale, sizeBytes, fetchDurationMs } = plugin;
  if (source === undefined) return undefined;
  const size = sizeBytes === undefined ? '' : `, ${sizeWords(sizeBytes)}`;
  const time = fetchDurationMs === undefined ? '' : `, ready after ${Math.round(fetchDurationMs)} ms`;
  const place = source === 'cache' ? 'from the cache' : `by ${source}`;
  const stale = isStale ? ', MAY BE OUT OF DATE: nobody answered' : '';
  return `${place}${sourceName === undefined ? '' : ` (${sourceName})`}${size}${time}${stale}`;
}

/** What one wants to copy. */
function moreFacts(plugin: ReportedPlugin): readonly Fact[] {
  const { digest, digests, checksum, runningDigest, sizeBytes } = plugin;
  return [
    ['Resource', plugin.name],
    ['SHA-256', code(digest)],
    ['Checksum', checksum === digest || checksum === digests?.manifest ? undefined : code(checksum)],
    ...(digests?.index ?? []).map((index): Fact => ['Index', code(index)]),
    ['Manifest', code(digests?.manifest)],
    ['Layer', code(digests?.layer)],
    ['Archive', code(digests?.archive)],
    ['Matched pin', plugin.matchedPin],
    ['Running', runningDigest === digest ? undefined : code(runningDigest)],
    ['Bytes', sizeBytes === undefined ? undefined : String(sizeBytes)],
    ['File', code(plugin.file)],
    ['Version', plugin.version],
  ];
}

function failWords({ failAction, plan }: ReportedPlugin): string | undefined {
  if (failAction === undefined || plan === 'as-is') return undefined;
  return failAction === 'allow' ? 'all requests pass (FAIL_OPEN)' : 'all requests are denied (FAIL_CLOSE)';
}

function code(text: string | undefined): Markup | undefined {
  return text === undefined ? undefined : html`<code>${text}</code>`;
}

function since(iso: string | undefined, nowMs: number): Markup | undefined {
  return iso === undefined ? undefined : html`${timeOf(iso)}, ${spanWords(nowMs - Date.parse(iso))} ago`;
}

function timeOf(iso: string | undefined): Markup | undefined {
  if (iso === undefined) return undefined;
  return html`<time datetime="${iso}">${iso.replace('T', ' ').replace(/\.\d+/, '')}</time>`;
}

function historyItem({ what, why, at, lastAt, count }: ReportedEvent, nowMs: number): Markup {
  const again =
    count > 1
      ? html` <span class="again">${count} times, last ${since(lastAt ?? at, nowMs)}</span>`
      : undefined;
  return html`<li class="${what}"><span class="when">${timeOf(at)}</span><span><span class="event">${eventWords(what)}</span>${again}${
    why === undefined ? undefined : html`<span class="reason">${why}</span>`
  }</span></li>
`;
}
