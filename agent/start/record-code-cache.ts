/**
 * Runs a bundle's agent and adds V8's code of what ran to a file:
 *
 *   node agent/start/record-code-cache.ts <bundle> <cache file> start|plugins < <table as JSON>
 *
 * `start`: until it serves Envoy. `plugins`: until Envoy has had its first plugins; what the file already has stays. Run by
 * agent/build.ts with the Node and the V8 flags that the agent is run with: others refuse the file. The agent has a
 * folder of its own, and there is no Envoy.
 */
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { rootCertificates } from 'node:tls';
import { setFlagsFromString } from 'node:v8';
import type { Script } from 'node:vm';
import { turnOffTopTiers } from '../compiler.ts';
import { encodeCodeCache, KeptCode } from './code-cache-file.ts';
import { FirstPlugins } from './first-plugins.ts';
import { PartLoader, type PartTable } from './part-loader.ts';

/** Longer than any start; the build must not hang. */
const deadlineMs = 30_000;
const pollMs = 20;
/** For what follows the listening: Envoy's bootstrap and start. */
const settleMs = 500;
/** Nothing listens there. */
const noAddress = 'localhost:9';

/** Runs the agent in this process, in `root`; what it loads is given to `onCompiled`. */
function startAgent(
  root: string,
  bundle: {
    readonly path: string;
    readonly table: PartTable;
    readonly statusPort: number;
    /** Default: there is no control plane, and it would have TLS. */
    readonly plugins: FirstPlugins | undefined;
    readonly onCompiled: (name: string, script: Script) => void;
  },
): void {
  const { plugins } = bundle;
  const tokens = join(root, 'var/run/secrets/tokens');
  const roots = join(root, 'var/run/secrets/istio');
  for (const folder of [tokens, roots, join(root, 'data')]) mkdirSync(folder, { recursive: true });
  writeFileSync(join(tokens, 'istio-token'), 'none');
  // Any certificate will do: nobody is met.
  writeFileSync(join(roots, 'root-cert.pem'), rootCertificates[0] ?? '');
  const envoyPath = join(root, 'envoy');
  writeFileSync(envoyPath, '#!/bin/sh\nexec sleep 60\n');
  chmodSync(envoyPath, 0o755);
  for (const name of Object.keys(process.env)) {
    if (!['PATH', 'HOME', 'TMPDIR'].includes(name)) delete process.env[name];
  }
  Object.assign(process.env, {
    POD_NAME: 'build-0',
    POD_NAMESPACE: 'build',
    INSTANCE_IP: '127.0.0.1',
    PROXY_CONFIG: JSON.stringify({
      binaryPath: envoyPath,
      statusPort: bundle.statusPort,
      discoveryAddress: plugins?.discoveryAddress ?? noAddress,
      ...(plugins === undefined ? {} : { controlPlaneAuthPolicy: 'NONE' }),
    }),
    WASM_DATA_DIR: join(root, 'data'),
    WASM_INSECURE_REGISTRIES: plugins?.webHost ?? '',
    CA_ADDR: noAddress,
    CLOUD_PLATFORM: 'none',
  });
  process.chdir(root);
  process.argv = [process.execPath, bundle.path, 'proxy', 'sidecar'];
  new PartLoader({
    bundlePath: bundle.path,
    cachePath: undefined,
    table: bundle.table,
    require: createRequire(bundle.path),
    onCompiled: bundle.onCompiled,
  }).run();
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function untilListening(socketPath: string): Promise<void> {
  for (const startedAt = Date.now(); ; ) {
    const socket = connect({ path: socketPath });
    const isOpen = await new Promise<boolean>((resolve) => {
      socket.once('data', () => resolve(true)).once('error', () => resolve(false));
    });
    socket.destroy();
    if (isOpen) return;
    if (Date.now() - startedAt > deadlineMs) {
      throw new Error(`the bundle's agent did not listen on ${socketPath} within ${deadlineMs} ms`);
    }
    await delay(pollMs);
  }
}

const [bundlePath = '', cachePath = '', run = 'start'] = process.argv.slice(2);
const table = JSON.parse(readFileSync(0, 'utf8')) as PartTable;
using plugins = run === 'plugins' ? await FirstPlugins.start() : undefined;
let scripts = new Map<string, Script>();
const root = mkdtempSync(join(tmpdir(), 'ferry-build-'));
process.once('exit', () => rmSync(root, { recursive: true, force: true }));
startAgent(root, {
  path: bundlePath,
  table,
  statusPort: await freePort(),
  plugins,
  onCompiled: (name, script) => scripts.set(name, script),
});
const socketPath = join(root, 'etc/istio/proxy/XDS');
await untilListening(socketPath);
await delay(settleMs);
const ofStart = scripts;
scripts = new Map();
await plugins?.play(socketPath);
const kept = KeptCode.open(cachePath, table.bundleId);
const codes = new Map<string, Uint8Array>();
for (const name of kept?.names ?? []) {
  const code = kept?.take(name);
  if (code !== undefined) codes.set(name, code);
}
const add = (ran: ReadonlyMap<string, Script>): void => {
  for (const [name, script] of ran) if (!codes.has(name)) codes.set(name, script.createCachedData());
};
// The code says for which flags it is: now those that the agent has set since, before those of its start.
turnOffTopTiers();
add(scripts);
for (const flag of ['--turbofan', '--wasm-tier-up', '--wasm-dynamic-tiering']) setFlagsFromString(flag);
add(ofStart);
writeFileSync(cachePath, encodeCodeCache({ bundleId: table.bundleId, codes }));
process.exit(0);
