/**
 * Starts the image's file system as each init container of injection, then as the proxy container of each template, and
 * checks what the kubelet and people do with it. Run it by `run-pod-scene.ts`, in namespaces of its own: the ports are
 * the stock ones, and its mounts go with it.
 *
 *   node test/deploy/pod-scene.ts <empty folder> image <root of the image>
 *   node test/deploy/pod-scene.ts <empty folder> host <node> <folder of the bundle> <launcher> <folder of the stand-ins> <envoy>
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { WorkloadConnection } from '../e2e/mesh-sidecar.ts';
import { Authority } from '../support/certificate-authority/authority.ts';
import { CaServer } from '../support/certificate-authority/ca-server.ts';
import { Child } from '../support/child-process.ts';
import { ControlPlane } from '../support/control-plane/control-plane.ts';
import { gatewayWorld } from '../support/control-plane/gateway-world.ts';
import { httpGet } from '../support/http-get.ts';
import { poll } from '../support/polling.ts';
import { enterContainer, entryPoint, imageVariables } from './container-command.ts';
import { checkInitContainers } from './init-containers.ts';
import {
  type InjectedContainer,
  injectedGateway,
  injectedKubeGateway,
  injectedSidecar,
  injectedWaypoint,
} from './injected-container.ts';
import { mountPodRoot, type PodBase } from './pod-root.ts';

/** The kubelet may be more patient. */
const maxReadyDeadlineMs = 40_000;
/** The listener with mutual TLS. */
const meshPort = 18_080;
/** Where the injected probe and the metrics annotation look. */
const applicationPort = 8080;
const workloadId = 'spiffe://cluster.local/ns/shop/sa/web';

function readBase(words: readonly string[]): PodBase {
  const [kind, first = '', bundleFolder = '', launcherPath = '', standInFolder = '', envoyPath = ''] = words;
  if (kind === 'image') return { kind, folder: first };
  assert.equal(kind, 'host');
  const layout = { nodePath: first, bundleFolder, launcherPath, standInFolder, envoyPath };
  return { kind: 'host', layout };
}

function environmentOf({ env }: InjectedContainer): NodeJS.ProcessEnv {
  return { ...imageVariables, ...env };
}

/** What `kubectl exec` does. */
function execute(
  root: string,
  container: InjectedContainer,
  words: readonly string[],
): { readonly code: number | null; readonly stdout: string; readonly stderr: string } {
  const [command = '', ...args] = [...enterContainer(root, container.userId), ...words];
  const env = environmentOf(container);
  const { status, stdout, stderr } = spawnSync(command, args, { env, encoding: 'utf8', timeout: 30_000 });
  return { code: status, stdout, stderr };
}

/** Number outside of the namespace of a child of this process, by its place. */
function firstChildOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0]);
}

function statusOf(pid: number, name: string): string {
  const line = readFileSync(`/proc/${pid}/status`, 'utf8')
    .split('\n')
    .find((candidate) => candidate.startsWith(`${name}:`));
  return line?.slice(name.length + 1).trim() ?? '';
}

async function run(folder: string, base: PodBase): Promise<void> {
  execFileSync('ip', ['link', 'set', 'lo', 'up']);
  const istiod = Authority.createRoot('istiod root');
  const workloads = Authority.createRoot('workload root');
  const served = istiod.issue(['istiod.istio-system.svc']);
  await using controlPlane = await ControlPlane.start({
    world: gatewayWorld({ listenerPort: meshPort, backendPort: applicationPort, tls: {} }),
    port: 15_012,
    tls: { cert: served.certificate, key: served.key },
  });
  await using ca = await CaServer.start({
    authority: workloads,
    tls: { server: served },
    spiffeId: workloadId,
    port: 15_013,
  });
  const application = createServer((request, response) => {
    response.end(request.url === '/metrics' ? 'shop_orders_total 7\n' : 'the application\n');
  }).listen(applicationPort, '127.0.0.1');
  await once(application, 'listening');
  const pod = {
    discoveryAddress: `localhost:${controlPlane.port}`,
    caAddress: `localhost:${ca.port}`,
    rootCertificate: istiod.certificate,
    token: 'the-token',
    instanceIp: '127.0.0.1',
  };
  const templates = [injectedSidecar, injectedGateway, injectedKubeGateway, injectedWaypoint];
  try {
    checkInitContainers(folder, base);
    for (const template of templates) {
      const container = template(pod);
      const place = join(folder, container.name);
      mkdirSync(place);
      await runContainer(place, base, container, { workloads, ca, controlPlane });
    }
  } finally {
    application.closeAllConnections();
    application.close();
  }
}

/** What a container is checked against. */
interface Mesh {
  readonly workloads: Authority;
  readonly ca: CaServer;
  readonly controlPlane: ControlPlane;
}

/** Runs one container from its start to its end by SIGTERM. */
async function runContainer(
  folder: string,
  base: PodBase,
  container: InjectedContainer,
  mesh: Mesh,
): Promise<void> {
  const root = join(folder, 'root');
  mkdirSync(root);
  mountPodRoot(root, base, container.mounts);

  const script = `mount -t proc proc ${root}/proc && exec "$@"`;
  const enter = enterContainer(root, container.userId);
  const words = [...enter, entryPoint, ...container.args];
  const child = new Child({
    command: 'unshare',
    args: ['--pid', '--fork', '--kill-child=SIGKILL', 'sh', '-c', script, 'sh', ...words],
    cwd: '/',
    env: environmentOf(container),
  });
  let isEnded = false;
  // The kubelet starts it together with the container, and holds the application until it has ended.
  const [hook = '', ...hookArgs] = [...enter, ...(container.hooks?.postStart ?? ['true'])];
  const postStart = new Child({ command: hook, args: hookArgs, cwd: '/', env: environmentOf(container) });
  try {
    const gone = new AbortController();
    void child.exited.then(({ code }) => gone.abort(new Error(`the container ended with ${code}`)));
    await waitUntilReady(container, gone.signal);
    const { code } = await postStart.exited;
    assert.equal(code, 0, `postStart: ${postStart.output.tail(50)}`);
    await checkMesh(container, mesh);
    await checkRunning(root, container, firstChildOf(child.pid ?? 0));
    process.kill(firstChildOf(child.pid ?? 0), 'SIGTERM');
    const exit = await child.exited;
    isEnded = true;
    assert.equal(exit.code, 0, 'exit code of the container');
    assert.equal(exit.hasLeftProcesses, false);
    const ending =
      container.hooks === undefined
        ? /Agent draining Proxy for termination/
        : /Agent already drained, exiting immediately/;
    assert.match(child.output.tail(50), ending);
  } catch (error) {
    console.error(child.output.tail(200));
    throw error;
  } finally {
    postStart.kill();
    if (!isEnded) child.kill();
    await Promise.allSettled([child.exited, postStart.exited]);
  }
}

/** As the startup probe of the kubelet: it must be answered in time, and with success before its patience ends. */
async function waitUntilReady(
  { readinessUrl, startupProbe }: InjectedContainer,
  gone: AbortSignal,
): Promise<void> {
  const { periodSeconds = 1, timeoutSeconds = 3, failureThreshold = Infinity } = startupProbe ?? {};
  await poll(
    async (signal) => {
      const { status } = await httpGet(readinessUrl, { signal, timeoutMs: timeoutSeconds * 1_000 });
      return status === 200 ? { done: true, value: undefined } : { done: false, seen: `status ${status}` };
    },
    {
      what: 'Readiness on 15021',
      deadlineMs: Math.min(maxReadyDeadlineMs, periodSeconds * failureThreshold * 1_000),
      signal: gone,
    },
  );
}

/** What istiod is told of each: the type decides what it sends. */
const nodeTypes: Readonly<Record<InjectedContainer['name'], string>> = {
  sidecar: 'sidecar',
  gateway: 'router',
  'kube-gateway': 'router',
  waypoint: 'waypoint',
};

/** The workload's certificate by the token's volume, mutual TLS to the application, its probe and its metrics. */
async function checkMesh(
  { name, env }: InjectedContainer,
  { workloads, ca, controlPlane }: Mesh,
): Promise<void> {
  const { node } = await controlPlane.waitForStream();
  const { POD_NAME: podName, POD_NAMESPACE: namespace } = env;
  const address = `127.0.0.1~${podName}.${namespace}~${namespace}.svc.cluster.local`;
  assert.equal(node?.id, `${nodeTypes[name]}~${address}`);
  assert.equal(node.metadata['SERVICE_ACCOUNT'], env['SERVICE_ACCOUNT']);
  assert.equal(node.metadata['ISTIO_VERSION'], '1.27.0');
  const connection = await WorkloadConnection.open(meshPort, workloads, workloads.certificate);
  const { subjectAltName, statusLine } = await connection.get();
  connection.close();
  assert.deepEqual([subjectAltName, statusLine], [`URI:${workloadId}`, 'HTTP/1.1 200 OK']);
  assert.deepEqual(ca.calls.at(-1)?.headers.get('authorization'), ['Bearer the-token']);
  const { text } = await httpGet('http://127.0.0.1:15020/stats/prometheus');
  assert.match(text, /^envoy_server_live(?:\{\})? 1$/m);
  const probe = await httpGet('http://127.0.0.1:15020/app-health/web/readyz');
  switch (name) {
    case 'sidecar':
      assert.deepEqual([probe.status, probe.text], [200, 'the application\n']);
      assert.match(text, /^shop_orders_total 7$/m);
      return;
    case 'gateway':
    case 'kube-gateway':
    case 'waypoint':
      // Their pods have no application.
      assert.equal(probe.status, 400);
      assert.doesNotMatch(text, /shop_orders_total/);
      return;
    default:
      name satisfies never;
  }
}

async function checkRunning(root: string, container: InjectedContainer, agentPid: number): Promise<void> {
  const user = `${container.userId}\t${container.userId}\t${container.userId}\t${container.userId}`;
  for (const pid of [agentPid, firstChildOf(agentPid)]) {
    assert.equal(statusOf(pid, 'Uid'), user);
    assert.equal(statusOf(pid, 'Gid'), user);
    assert.equal(statusOf(pid, 'CapEff'), '0000000000000000');
    assert.equal(statusOf(pid, 'NoNewPrivs'), '1');
  }
  assert.match(statusOf(agentPid, 'NSpid'), /\t1$/);

  for (const path of ['/x', '/tmp/x', '/etc/x', '/usr/local/bin/x', '/var/run/secrets/tokens/x']) {
    assert.notEqual(execute(root, container, ['touch', path]).code, 0, `${path} could be written`);
  }
  for (const folder of ['/etc/istio/proxy', '/var/lib/istio/data']) {
    assert.equal(execute(root, container, ['touch', `${folder}/x`]).code, 0, `${folder} must be writable`);
  }

  const info = execute(root, container, ['pilot-agent', 'request', 'GET', 'server_info']);
  assert.equal((JSON.parse(info.stdout) as { state: string }).state, 'LIVE');
  const bootstrap = execute(root, container, ['cat', '/etc/istio/proxy/grpc-bootstrap.json']);
  assert.match(bootstrap.stdout, /"server_uri": "unix:\/\/\/etc\/istio\/proxy\/XDS"/);
  assert.match(
    (await httpGet('http://127.0.0.1:15020/stats/prometheus')).text,
    /^istio_agent_startup_duration_seconds /m,
  );
  assert.match((await httpGet('http://127.0.0.1:15090/stats/prometheus')).text, /^envoy_server_state/m);
  const levels = ['pilot-agent', 'request', '--debug-port=15020', 'POST', 'debug/logging?xdsproxy=debug'];
  assert.match(execute(root, container, levels).stdout, /xdsproxy: debug/);

  if (container.hooks === undefined) return;
  const drained = execute(root, container, container.hooks.preStop);
  assert.deepEqual([drained.code, drained.stdout], [0, 'OK\n'], drained.stderr);
}

const [folder = '', ...words] = process.argv.slice(2);
await run(folder, readBase(words));
console.log('the injected containers run as they should');
