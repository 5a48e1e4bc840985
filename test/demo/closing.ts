import { httpGet } from '../support/http-get.ts';
import type { Steps } from '../support/steps.mjs';
import { encodeCredentials } from './expectation.ts';
import type { Stage } from './stage.ts';
import { firstUser } from './story.ts';

/** Metrics that the story must have moved. */
const movedMetrics = [
  /^istio_agent_wasm_cache_entries [1-9]/m,
  /^istio_agent_wasm_cache_lookup_count\{hit="false"\} [1-9]/m,
  /^istio_agent_wasm_remote_fetch_count\{result="success"\} [1-9]/m,
  /^istio_agent_wasm_remote_fetch_count\{result="manifest_failure"\} [1-9]/m,
  /^istio_agent_wasm_config_conversion_count\{result="success"\} [1-9]/m,
  /^istio_agent_wasm_config_conversion_count\{result="fetch_failure"\} [1-9]/m,
];

/** Shows the metrics of the story and checks that it is in them. Throws Error naming what is missing. */
export async function showMetrics(stage: Stage, steps: Steps, signal: AbortSignal): Promise<void> {
  const url = `${stage.agent.statusUrl}/stats/prometheus`;
  const lines = await steps.run('Metrics tell the story', async (step) => {
    const { text } = await httpGet(url, { signal });
    const missing = movedMetrics.filter((pattern) => !pattern.test(text));
    const shown = text.split('\n').filter((line) => line.startsWith('istio_agent_wasm_'));
    if (missing.length > 0) {
      throw new Error(
        `Expected in ${url}: ${missing.join(', ')}. Seen:\n${shown.join('\n') || '(no such line)'}`,
      );
    }
    step.detail(url);
    return shown.filter((line) => !line.includes('_bucket{'));
  });
  for (const line of lines) steps.line(`    ${line}`);
}

/** Where to look, with commands to paste when everything keeps running. */
export function showAddresses(stage: Stage, steps: Steps, isKept: boolean): void {
  const { agent, gatewayUrl } = stage;
  steps.line();
  steps.heading('Where to look');
  const places: readonly (readonly [string, string])[] = [
    ['gateway', gatewayUrl],
    ['plugins', `${agent.statusUrl}/debug/wasm`],
    ['metrics', `${agent.statusUrl}/stats/prometheus`],
    ['Envoy admin', agent.admin.url],
    ['control plane', `${stage.controlPlaneUrl}/debug/syncz`],
    ['registry', `${stage.registry.http.url}/v2/`],
    ['files', stage.workspaceRoot],
  ];
  for (const [name, place] of places) steps.line(`    ${name.padEnd(14)} ${place}`);
  if (!isKept) {
    steps.line('    These are gone now; `npm run demo -- --keep` leaves them running.');
    return;
  }
  steps.line();
  steps.heading('Try it (basic-auth is applied again)');
  const page = `${gatewayUrl}/productpage`;
  steps.line(`    curl -i ${page}`);
  steps.line(`    curl -i -H 'Authorization: Basic ${encodeCredentials(firstUser)}' ${page}`);
  steps.line(`    curl -s ${agent.statusUrl}/debug/wasm`);
  steps.line(`    curl -s ${agent.statusUrl}/stats/prometheus | grep istio_agent_wasm_`);
  steps.line(`    curl -s ${agent.admin.url}/config_dump`);
  steps.line(`    curl -s ${stage.controlPlaneUrl}/metrics`);
  steps.line();
  steps.line('Ctrl-C ends everything.');
}
