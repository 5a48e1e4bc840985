import assert from 'node:assert/strict';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { status as grpcStatus } from '@grpc/grpc-js';
import { startGrpcPeer, startHttpPeer } from '../agent/health/probe-peers.ts';
import type { RequestReceived } from '../support/control-plane/journal.ts';
import { typeUrls } from '../support/control-plane/type-urls.ts';
import { httpGet } from '../support/http-get.ts';
import { type Mode, modes, skipReason } from './gateway.ts';
import { Pod } from './pod.ts';

/** What istiod was told about the workload, in order. */
function reports(pod: Pod): readonly RequestReceived[] {
  return pod.controlPlane.journal.entries.flatMap((entry) =>
    entry.kind === 'request' && entry.request.typeUrl === typeUrls.health ? [entry] : [],
  );
}

/** The first report of this kind after an entry of the journal. */
async function report(pod: Pod, kind: 'healthy' | 'unhealthy', after = 0): Promise<RequestReceived> {
  return await pod.controlPlane.journal.waitFor(
    `a report that says ${kind}, after entry ${after}`,
    () =>
      reports(pod).find(
        ({ seq, request }) => seq > after && (request.error === undefined) === (kind === 'healthy'),
      ),
    { timeoutMs: 30_000 },
  );
}

async function startProbedPod(
  t: TestContext,
  mode: Mode,
  probe: (workspace: Pod['workspace']) => object,
): Promise<Pod> {
  return await Pod.start(t, {
    mode,
    prepare: ({ workspace }) => ({
      proxyConfig: { readinessProbe: { timeoutSeconds: 10, periodSeconds: 1, ...probe(workspace) } },
    }),
  });
}

for (const mode of modes) {
  describe(`the health of a workload entry over ${mode}`, { skip: skipReason }, () => {
    test('istiod hears each change behind the first listener request, and the last one on a new stream', async (t) => {
      let status = 200;
      const app = await startHttpPeer(t, (_request, response) => response.writeHead(status).end());
      const pod = await startProbedPod(t, mode, () => ({ httpGet: { path: '/ready', port: app.port } }));
      const { controlPlane, agent } = pod;
      const healthy = await report(pod, 'healthy');
      const { names, nonce, version, node } = healthy.request;
      assert.deepEqual(
        { names, nonce, version, node },
        { names: [], nonce: '', version: '', node: undefined },
      );
      const listeners = await controlPlane.waitForRequest(
        'the first request for listeners',
        ({ request }) => request.typeUrl === typeUrls.lds,
      );
      const [first] = reports(pod);
      assert.ok(listeners.seq < (first?.seq ?? 0), 'health came before the listeners were asked for');

      status = 503;
      const sick = await report(pod, 'unhealthy', healthy.seq);
      assert.deepEqual(sick.request.error, {
        code: 13,
        message: 'status code was not from [200,400), bad code 503',
      });
      controlPlane.closeStreams({ code: grpcStatus.UNAVAILABLE, details: 'istiod moves' });
      const again = await report(pod, 'unhealthy', sick.seq);
      assert.ok(again.streamId > sick.streamId);
      assert.deepEqual(again.request.error, sick.request.error);

      status = 204;
      await report(pod, 'healthy', again.seq);
      // istiod alone hears of the workload: readiness of the pod is that of Envoy.
      assert.equal((await httpGet(`${agent.statusUrl}/healthz/ready`)).status, 200);
    });
  });
}

describe('the health of a workload entry', { skip: skipReason }, () => {
  test('is found by TCP', async (t) => {
    const app = createServer((socket) => socket.end()).listen(0, '127.0.0.1');
    await once(app, 'listening');
    t.after(() => app.close());
    const { port } = app.address() as AddressInfo;
    const pod = await startProbedPod(t, 'delta', () => ({ tcpSocket: { port } }));
    const { seq } = await report(pod, 'healthy');
    app.close();
    const { error } = (await report(pod, 'unhealthy', seq)).request;
    assert.match(error?.message ?? '', /cannot connect to 127\.0\.0\.1:\d+: .*ECONNREFUSED/);
  });

  test('is found by the gRPC health protocol', async (t) => {
    let status = 1;
    const app = await startGrpcPeer(t, () => status);
    const pod = await startProbedPod(t, 'delta', () => ({ grpc: { port: app.port, service: 'web' } }));
    const { seq } = await report(pod, 'healthy');
    status = 2;
    const { error } = (await report(pod, 'unhealthy', seq)).request;
    assert.match(error?.message ?? '', /health status is NOT_SERVING, not SERVING/);
    assert.equal(app.calls[0]?.service, 'web');
  });

  test('is found by a command', async (t) => {
    const pod = await startProbedPod(t, 'delta', (workspace) => ({
      exec: { command: ['test', '-d', workspace.path('healthy')] },
    }));
    await pod.workspace.write('healthy/here', '');
    const { seq } = await report(pod, 'healthy');
    await rm(pod.workspace.path('healthy'), { recursive: true });
    const { error } = (await report(pod, 'unhealthy', seq)).request;
    assert.match(error?.message ?? '', /command test ended with exit code 1/);
  });

  test('is told to nobody where there is no probe', async (t) => {
    const pod = await Pod.start(t, { mode: 'delta' });
    await pod.agent.waitUntilReady();
    assert.deepEqual(reports(pod), []);
  });
});
