import assert from 'node:assert/strict';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe, type TestContext, test } from 'node:test';
import {
  findClosedPort,
  startGrpcPeer,
  startHttpPeer,
  startTcpPeer,
  startTlsPeer,
} from '../agent/health/probe-peers.ts';
import { type AgentOptions, AgentProcess } from '../support/agent-process.ts';
import { type HttpAnswer, type HttpGetOptions, httpGet } from '../support/http-get.ts';
import { createWorkspace } from '../support/workspace.ts';

interface Probed {
  readonly agent: AgentProcess;
  readonly ask: (path: string, options?: HttpGetOptions) => Promise<HttpAnswer>;
}

/** The agent of a pod whose containers have these probes; the injector writes the variable like this. */
async function start(
  t: TestContext,
  probers: Readonly<Record<string, object>>,
  options: Partial<AgentOptions> = {},
): Promise<Probed> {
  const workspace = await createWorkspace();
  t.after(() => workspace.close());
  const agent = await AgentProcess.start({
    workspace,
    role: 'sidecar',
    // The agent has no stream to keep up: nobody connects to it.
    discoveryAddress: '127.0.0.1:1',
    envoyPath: undefined,
    test: t,
    ...options,
    env: { ISTIO_KUBE_APP_PROBERS: JSON.stringify(probers), GRPC_XDS_BOOTSTRAP: '', ...options.env },
  });
  await agent.waitForLog(/Opening status port/);
  return { agent, ask: (path, options) => httpGet(`${agent.statusUrl}${path}`, options) };
}

const healthy = 1;
const path = '/app-health/web/readyz';

/** The probes of a container, each as Kubernetes has it. */
describe('the agent carries out what injection has rewritten', () => {
  test('HTTP with the headers of the kubelet, HTTPS, TCP and gRPC', async (t) => {
    const seen: IncomingMessage[] = [];
    const plain = await startHttpPeer(t, (request, response) => {
      seen.push(request);
      response.writeHead(201).end('plain');
    });
    const secure = await startTlsPeer(t, (request, response) => {
      response.end(`HTTP/${request.httpVersion}`);
    });
    const tcp = await startTcpPeer(t);
    const grpc = await startGrpcPeer(t, (service) => (service === 'web' ? healthy : 2));
    const closed = await findClosedPort();
    const { agent, ask } = await start(t, {
      '/app-health/web/readyz': {
        httpGet: {
          path: '/ready?full=1',
          port: plain.port,
          httpHeaders: [{ name: 'X-A', value: 'ignored' }],
        },
        timeoutSeconds: 10,
        periodSeconds: 5,
      },
      '/app-health/web/startupz': {
        httpGet: { path: '/', port: secure.port, scheme: 'HTTPS' },
        timeoutSeconds: 10,
      },
      '/app-health/web/livez': { tcpSocket: { port: tcp.port }, timeoutSeconds: 10 },
      '/app-health/dead/livez': { tcpSocket: { port: closed }, timeoutSeconds: 10 },
      '/app-health/dead/readyz': { httpGet: { path: '/', port: closed }, timeoutSeconds: 10 },
      '/app-health/rpc/livez': { gRPC: { port: grpc.port, service: 'web' }, timeoutSeconds: 10 },
      '/app-health/rpc/readyz': { grpc: { port: grpc.port, service: null }, timeoutSeconds: 10 },
    });
    const headers = { 'User-Agent': 'kube-probe/1.33', 'X-A': 'b', Host: `web.local:${agent.ports.status}` };
    const answer = await ask('/app-health/web/readyz', { headers });
    assert.deepEqual([answer.status, answer.text], [201, 'plain']);
    const [request] = seen;
    assert.equal(request?.url, '/ready?full=1');
    assert.equal(request?.headers['user-agent'], 'kube-probe/1.33');
    assert.equal(request?.headers['x-a'], 'b');
    assert.equal(request?.headers.host, `web.local:${plain.port}`);
    assert.deepEqual(plain.sources, ['127.0.0.6'], 'the traffic rules let only this address pass');
    const upgraded = await ask('/app-health/web/startupz');
    assert.deepEqual([upgraded.status, upgraded.text], [200, 'HTTP/2.0']);
    const statuses = Object.entries({
      '/app-health/web/livez': 200,
      '/app-health/dead/livez': 500,
      '/app-health/dead/readyz': 500,
      '/app-health/rpc/livez': 200,
      // NOT_SERVING as a whole.
      '/app-health/rpc/readyz': 500,
    });
    for (const [path, status] of statuses) assert.equal((await ask(path)).status, status, path);
    assert.deepEqual(
      // The loader of this peer gives nothing for an empty text.
      grpc.calls.map(({ service }) => service ?? ''),
      ['web', ''],
    );
    await agent.waitForLog(/error\tprobes\tRequest to probe app failed\tpath=\/app-health\/dead\/livez/);
  });

  test('a path that is not configured is 400, also in a pod without any probe', async (t) => {
    const text = `app prober config does not exists for /app-health/other/livez`;
    const probe = { [path]: { tcpSocket: { port: 1 } } };
    for (const probers of [probe, {}]) {
      const { agent, ask } = await start(t, probers);
      const { status, text: said } = await ask('/app-health/other/livez');
      assert.deepEqual([status, said], [400, text]);
      await agent.stop();
    }
  });

  test('redirects on the same host are followed, another host is the answer', async (t) => {
    const app = await startHttpPeer(t, ({ url }, response) => {
      if (url === '/ready') response.writeHead(302, { Location: '/there' }).end();
      else if (url === '/away') response.writeHead(302, { Location: 'http://192.0.2.1/there' }).end();
      else if (url === '/round') response.writeHead(302, { Location: '/round' }).end();
      else response.writeHead(299).end('there');
    });
    const http = (path: string) => ({ httpGet: { path, port: app.port }, timeoutSeconds: 10 });
    const { ask } = await start(t, {
      '/app-health/web/readyz': http('/ready'),
      '/app-health/web/livez': http('/away'),
      '/app-health/web/startupz': http('/round'),
    });
    const { status, text } = await ask('/app-health/web/readyz');
    assert.deepEqual([status, text], [299, 'there']);
    const away = await ask('/app-health/web/livez');
    assert.deepEqual([away.status, away.text], [200, '']);
    assert.equal((await ask('/app-health/web/startupz')).status, 500);
  });

  test('the time of the probe is kept, and no more than the kubelet reads is passed on', async (t) => {
    const hung: ServerResponse[] = [];
    const app = await startHttpPeer(t, ({ url }, response) => {
      if (url === '/hung') hung.push(response);
      else response.end('x'.repeat(50_000));
    });
    const { ask } = await start(t, {
      '/app-health/web/readyz': { httpGet: { path: '/hung', port: app.port }, timeoutSeconds: 1 },
      '/app-health/web/livez': { httpGet: { path: '/long', port: app.port }, timeoutSeconds: 10 },
    });
    assert.equal((await ask('/app-health/web/readyz')).status, 500);
    assert.equal(hung.length, 1);
    assert.equal((await ask('/app-health/web/livez')).body.length, 10_240);
  });

  test('the switches are those of the stock agent', async (t) => {
    const secure = await startTlsPeer(t, (request, response) => response.end(`HTTP/${request.httpVersion}`));
    const probers = {
      [path]: { httpGet: { path: '/', port: secure.port, scheme: 'HTTPS' }, timeoutSeconds: 10 },
    };
    const { ask } = await start(t, probers, {
      env: {
        // An address that no machine has: the local host must be asked instead.
        INSTANCE_IP: '192.0.2.1',
        REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION: 'true',
        ISTIO_ENABLE_HTTP2_PROBING: 'false',
        ENABLE_PROBE_KEEPALIVE_CONNECTIONS: 'true',
      },
    });
    for (let round = 0; round < 3; round += 1) assert.equal((await ask(path)).text, 'HTTP/1.1');
    assert.equal(secure.sources.length, 1, 'the connection was not kept');
  });

  test('a lifecycle hook may take as long as the application does', async (t) => {
    const waiting = Promise.withResolvers<ServerResponse>();
    const app = await startHttpPeer(t, ({ url }, response) => {
      if (url === '/stop') waiting.resolve(response);
    });
    const { ask } = await start(t, {
      '/app-lifecycle/web/prestopz': { httpGet: { path: '/stop', port: app.port } },
      '/app-lifecycle/web/poststartz': { tcpSocket: { port: app.port } },
      '/app-health/web/livez': { httpGet: { path: '/hung', port: app.port } },
    });
    const hook = ask('/app-lifecycle/web/prestopz', { timeoutMs: 30_000 });
    const response = await waiting.promise;
    // A probe without a time of its own is given up after the default, which the hook outlives.
    assert.equal((await ask('/app-health/web/livez')).status, 500);
    response.end('stopped');
    assert.equal((await hook).text, 'stopped');
    assert.equal((await ask('/app-lifecycle/web/poststartz')).status, 200);
  });

  test('a probe that cannot be read ends the agent with every reason', async (t) => {
    const workspace = await createWorkspace();
    t.after(() => workspace.close());
    const agent = await AgentProcess.start({
      workspace,
      discoveryAddress: '127.0.0.1:1',
      envoyPath: undefined,
      test: t,
      env: {
        ISTIO_KUBE_APP_PROBERS: JSON.stringify({
          '/app-health/web/readyz': { httpGet: { port: 'http' } },
          '/elsewhere': { tcpSocket: { port: 1 } },
        }),
      },
    });
    const { code } = await agent.exited;
    assert.equal(code, 255);
    const log = agent.logTail();
    assert.match(log, /invalid prober config for \/app-health\/web\/readyz, the port must be int type/);
    assert.match(log, /\["\/elsewhere"\]: invalid path, must be in form of regex pattern/);
  });
});
