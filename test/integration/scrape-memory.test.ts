import assert from 'node:assert/strict';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { type TestContext, test } from 'node:test';
import { scrapeSize, startLargeEnvoy } from '../agent/status/large-envoy.ts';
import { openMetricsType, type Peer, startPage } from '../agent/status/status-fixture.ts';
import { AgentProcess } from '../support/agent-process.ts';
import { freePorts } from '../support/free-ports.ts';
import { createWorkspace } from '../support/workspace.ts';

const mebibyte = 1024 * 1024;
const pageBytes = 50 * mebibyte;
const warmUpBytes = 4 * mebibyte;
const maxGrowthKibibytes = 10 * 1024;

/** The whole agent, beside a program that only stays: its metrics are played. */
async function startAgent(t: TestContext, envoy: Peer, application: Peer | undefined): Promise<AgentProcess> {
  const workspace = await createWorkspace();
  t.after(() => workspace.close());
  const program = await workspace.write('envoy', '#!/bin/sh\nexec sleep 600\n');
  await chmod(program, 0o755);
  const [status = 0, admin = 0, envoyStatus = 0] = await freePorts(3);
  const agent = await AgentProcess.start({
    workspace,
    role: 'sidecar',
    discoveryAddress: '127.0.0.1:1',
    envoyPath: program,
    ports: { status, admin, envoyStatus, envoyPrometheus: envoy.port },
    test: t,
    ...(application === undefined
      ? {}
      : {
          env: {
            ISTIO_PROMETHEUS_ANNOTATIONS: JSON.stringify({
              scrape: 'true',
              port: String(application.port),
              path: '/metrics',
            }),
          },
        }),
  });
  await agent.waitForLog(/Opening status port/);
  return agent;
}

/** From now on the high-water mark of its memory counts anew (proc(5), `clear_refs`). */
async function forgetPeak(agent: AgentProcess): Promise<void> {
  await writeFile(`/proc/${agent.pid}/clear_refs`, '5');
}

async function peakKibibytes(agent: AgentProcess): Promise<number> {
  const status = await readFile(`/proc/${agent.pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]);
}

for (const [format, encoding] of [
  ['text', 'identity'],
  ['text', 'gzip'],
  ['text', 'zstd'],
  ['OpenMetrics', 'identity'],
] as const) {
  test(`the agent passes a 50 MB page of Envoy on as ${format}, ${encoding}, in less than 10 MB more memory`, async (t) => {
    await using envoy = await startLargeEnvoy();
    await using application = await startPage('# EOF\n', { 'content-type': openMetricsType });
    const agent = await startAgent(t, envoy, format === 'text' ? undefined : application);
    await scrapeSize(`${agent.statusUrl}/stats/prometheus`, warmUpBytes, encoding);
    await forgetPeak(agent);
    const before = await peakKibibytes(agent);
    const wireBytes = await scrapeSize(`${agent.statusUrl}/stats/prometheus`, pageBytes, encoding);
    const growth = (await peakKibibytes(agent)) - before;
    t.diagnostic(`${wireBytes} bytes on the wire, ${growth} KiB more than ${before} KiB`);
    assert.ok(encoding !== 'identity' || wireBytes >= pageBytes, `${wireBytes} bytes`);
    assert.ok(growth < maxGrowthKibibytes, `memory has grown by ${growth} KiB`);
  });
}
