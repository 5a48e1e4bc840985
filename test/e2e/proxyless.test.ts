import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { AgentProcess } from '../support/agent-process.ts';
import { Child } from '../support/child-process.ts';
import { ControlPlane } from '../support/control-plane/control-plane.ts';
import { createWorkspace } from '../support/workspace.ts';
import { proxylessWorld } from './proxyless-world.ts';

const clientProgram = fileURLToPath(new URL('proxyless-client.ts', import.meta.url));

/** An echo service on a free port. */
async function startEcho(): Promise<AsyncDisposable & { readonly port: number }> {
  const plain = (bytes: Buffer) => bytes;
  const server = new Server();
  server.addService(
    {
      echo: {
        path: '/test.Echo/Echo',
        requestStream: false,
        responseStream: false,
        requestSerialize: plain,
        requestDeserialize: plain,
        responseSerialize: plain,
        responseDeserialize: plain,
      },
    },
    {
      echo: (call: { readonly request: Buffer }, callback: (error: null, answer: Buffer) => void) =>
        callback(null, Buffer.concat([Buffer.from('echo of '), call.request])),
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return {
    port,
    [Symbol.asyncDispose]: async () => server.forceShutdown(),
  };
}

describe('an application without a proxy', () => {
  test('reads the bootstrap the agent wrote, and finds its service by xDS through the agent', async (t) => {
    await using workspace = await createWorkspace();
    await using echo = await startEcho();
    const name = 'echo.shop.svc.cluster.local:80';
    await using controlPlane = await ControlPlane.start({ world: proxylessWorld(name, echo.port) });
    const agent = await AgentProcess.start({
      workspace,
      role: 'sidecar',
      discoveryAddress: controlPlane.address,
      envoyPath: undefined,
      test: t,
    });
    await agent.waitUntilReady();
    const socket = await stat(workspace.path('etc/istio/proxy/XDS'));
    assert.equal(socket.mode & 0o777, 0o666);
    const client = new Child({
      command: process.execPath,
      args: [clientProgram, `xds:///${name}`],
      cwd: workspace.root,
      env: {
        PATH: process.env['PATH'],
        GRPC_XDS_BOOTSTRAP: workspace.path('etc/istio/proxy/grpc-bootstrap.json'),
      },
    });
    const { code } = await client.exited;
    assert.equal(client.output.tail(20).trim(), 'answer echo of hello');
    assert.equal(code, 0);
  });
});
