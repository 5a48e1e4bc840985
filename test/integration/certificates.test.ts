import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import test, { type TestContext } from 'node:test';
import { AgentProcess } from '../support/agent-process.ts';
import { Authority } from '../support/certificate-authority/authority.ts';
import { CaServer } from '../support/certificate-authority/ca-server.ts';
import { httpGet } from '../support/http-get.ts';
import { createWorkspace } from '../support/workspace.ts';

const spiffeId = 'spiffe://cluster.local/ns/default/sa/gateway';

/** A pod without Envoy, as of proxyless gRPC, whose CA waits until it is let go. */
async function startProxyless(t: TestContext, env: Readonly<Record<string, string>> = {}) {
  const parts = new AsyncDisposableStack();
  t.after(() => parts.disposeAsync());
  const workspace = parts.use(await createWorkspace());
  const authority = Authority.createRoot('mesh root');
  const ca = parts.use(
    await CaServer.start({
      authority,
      tls: { server: authority.issue(['istiod.istio-system.svc']) },
      spiffeId,
    }),
  );
  const gate = Promise.withResolvers<void>();
  ca.failNext({ kind: 'delay', until: gate.promise });
  await workspace.write('var/run/secrets/istio/root-cert.pem', authority.certificate);
  await workspace.write('var/run/secrets/tokens/istio-token', 'the-token');
  const agent = parts.use(
    await AgentProcess.start({
      workspace,
      discoveryAddress: '127.0.0.1:1',
      envoyPath: undefined,
      test: t,
      env: { FILE_MOUNTED_CERTS: undefined, CA_ADDR: `localhost:${ca.port}`, ...env },
    }),
  );
  return { workspace, agent, authority, ca, letGo: gate.resolve };
}

for (const [name, env, mode] of [
  ['outside of Kubernetes, for their owner alone', {}, 0o600],
  ['in Kubernetes, readable for other containers', { KUBERNETES_SERVICE_HOST: '10.0.0.1' }, 0o644],
] as const) {
  test(`the pod gets ready when the files of OUTPUT_CERTS are there: ${name}`, async (t) => {
    const { workspace, agent, authority, ca, letGo } = await startProxyless(t, {
      OUTPUT_CERTS: 'var/lib/istio/data',
      ...env,
    });
    await ca.waitForCalls(1);
    assert.equal((await httpGet(`${agent.statusUrl}/healthz/ready`)).status, 503);
    await agent.waitForLog(/NOT ready: \S+\/data\/cert-chain\.pem does not exist/);
    letGo();
    await agent.waitUntilReady();
    const path = (file: string): string => workspace.path(`var/lib/istio/data/${file}`);
    for (const file of ['key.pem', 'cert-chain.pem', 'root-cert.pem']) {
      assert.equal((await stat(path(file))).mode & 0o777, mode, file);
    }
    const leaf = new X509Certificate(await readFile(path('cert-chain.pem')));
    assert.equal(leaf.subjectAltName, `URI:${spiffeId}`);
    assert.ok(leaf.checkPrivateKey(createPrivateKey(await readFile(path('key.pem')))));
    assert.equal((await readFile(path('root-cert.pem'), 'utf8')).trim(), authority.certificate.trim());
    // Without Envoy nobody asks at the socket.
    assert.deepEqual(await readdir(workspace.path('var/run/secrets/workload-spiffe-uds')), []);
  });
}

test('an agent that waits for its CA ends at once when it is told to', async (t) => {
  const { agent, ca } = await startProxyless(t);
  await ca.waitForCalls(1);
  assert.deepEqual(await agent.stop(), { code: 0, signal: null, hasLeftProcesses: false });
});

test('an agent without the root file of PROV_CERT ends with the code of a fatal log; any other bad root with 255', async (t) => {
  const exitOf = async (env: Readonly<Record<string, string>>, rootFile?: string) => {
    await using workspace = await createWorkspace();
    if (rootFile !== undefined) await workspace.write('ca/root.pem', rootFile);
    await using agent = await AgentProcess.start({
      workspace,
      discoveryAddress: '127.0.0.1:1',
      envoyPath: undefined,
      args: ['--flagOfOldTemplates=1', '--another', 'x'],
      test: t,
      env: { FILE_MOUNTED_CERTS: undefined, CA_ADDR: 'localhost:1', ...env },
    });
    const { code } = await agent.exited;
    return { code, log: agent.logLines };
  };
  const missing = await exitOf({ PROV_CERT: 'provisioned' });
  assert.equal(missing.code, 1);
  assert.match(
    missing.log.join('\n'),
    /provisioned\/root-cert\.pem\) cannot be used: ENOENT.*set CA_ROOT_CA/,
  );
  // Templates of other versions pass flags that this one does not know.
  const ignored = missing.log.filter((line) => line.includes('ignoring unknown flags'));
  assert.equal(ignored.length, 1);
  assert.match(ignored[0] ?? '', /flags=--flagOfOldTemplates --another$/);
  for (const others of [{}, { PROV_CERT: 'provisioned' }]) {
    assert.equal((await exitOf({ CA_ROOT_CA: 'ca/root.pem', ...others })).code, 255);
  }
  assert.equal((await exitOf({ PROV_CERT: 'provisioned', PILOT_CERT_PROVIDER: 'custom' })).code, 255);
  assert.equal((await exitOf({ CA_ROOT_CA: 'ca/root.pem' }, 'no certificate')).code, 255);
  assert.equal((await exitOf({})).code, 255);
});
