import { lookup } from 'node:dns/promises';
import { readFile, stat } from 'node:fs/promises';
import { availableParallelism, networkInterfaces } from 'node:os';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { AgentInputs, FileContent, ProxyFlags } from '../config/agent-inputs.ts';
import { isYamlNeeded } from '../config/document.ts';
import { parseDownwardFile } from '../config/downward-api.ts';
import type { EnvironmentRecord } from '../config/environment.ts';
import { type InterfaceAddress, isAddressPending } from '../config/instance-addresses.ts';
import type { LogFlags } from '../config/log-config.ts';
import { findStatsdHost } from '../config/parse-agent-config.ts';

/** Settings are small; a larger file is a mistake in a mount. */
const maxFileBytes = 4 * 1024 * 1024;
const addressPollMs = 100;
const addressWaitMs = 120_000;
const lookupTimeoutMs = 15_000;

/**
 * Reads everything the parser needs from the file system, the network interfaces and DNS. Does not throw. Once `signal`
 * has aborted nothing is waited for any more.
 */
export async function readProxyInputs(given: {
  readonly type: string | undefined;
  readonly flags: ProxyFlags;
  readonly logFlags: LogFlags;
  readonly environment: EnvironmentRecord;
  readonly root: string;
  readonly signal: AbortSignal;
}): Promise<AgentInputs> {
  const { signal, ...settings } = given;
  const { environment, flags, root } = settings;
  const overridePath = environment['ISTIO_BOOTSTRAP_OVERRIDE'] ?? '';
  const [
    meshConfig,
    podLabels,
    podAnnotations,
    bootstrapOverride,
    isLegacyRootPresent,
    areCertificatesPresent,
  ] = await Promise.all([
    readInput(root, flags.meshConfig),
    readInput(root, 'etc/istio/pod/labels'),
    readInput(root, 'etc/istio/pod/annotations'),
    readInput(root, overridePath),
    isRegularFile(root, 'etc/certs/root-cert.pem'),
    areWorkloadCertificatesPresent(root),
  ]);
  const texts = [textOf(meshConfig), environment['PROXY_CONFIG'] ?? '', textOf(bootstrapOverride)];
  const annotation = proxyConfigAnnotation(podAnnotations);
  const isNeeded = [...texts, annotation].some(isYamlNeeded);
  const inputs: AgentInputs = {
    ...settings,
    files: {
      meshConfig,
      podLabels,
      podAnnotations,
      bootstrapOverride,
      isLegacyRootPresent,
      areWorkloadCertificatesPresent: areCertificatesPresent,
    },
    interfaces: await waitForAddresses({ signal }),
    cpuCount: availableParallelism(),
    userId: process.geteuid?.() ?? -1,
    resolvedHosts: new Map(),
    // Most settings are JSON, and the YAML parser costs start-up time.
    documents: { parseYaml: isNeeded ? (await import('../config/yaml-text.ts')).parseYaml : undefined },
  };
  return { ...inputs, resolvedHosts: await resolveHost(findStatsdHost(inputs), { signal }) };
}

async function readInput(root: string, path: string): Promise<FileContent> {
  if (path === '') return { kind: 'absent' };
  const absolute = resolve(root, path);
  try {
    const { size } = await stat(absolute);
    if (size > maxFileBytes) return { kind: 'unreadable', reason: `is over ${maxFileBytes} bytes` };
    return { kind: 'text', text: await readFile(absolute, 'utf8') };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return { kind: 'absent' };
    return { kind: 'unreadable', reason: `cannot be read (${code ?? 'unknown error'})` };
  }
}

function textOf(file: FileContent): string {
  return file.kind === 'text' ? file.text : '';
}

function proxyConfigAnnotation(file: FileContent): string {
  const parsed = parseDownwardFile(textOf(file));
  return parsed.kind === 'parsed' ? (parsed.values['proxy.istio.io/config'] ?? '') : '';
}

async function isRegularFile(root: string, path: string): Promise<boolean> {
  try {
    return (await stat(resolve(root, path))).isFile();
  } catch {
    return false;
  }
}

async function areWorkloadCertificatesPresent(root: string): Promise<boolean> {
  const folder = 'var/run/secrets/workload-spiffe-credentials';
  const names = ['cert-chain.pem', 'key.pem', 'root-cert.pem'];
  const found = await Promise.all(names.map((name) => isRegularFile(root, `${folder}/${name}`)));
  return found.every(Boolean);
}

/** Addresses of the interfaces that are up; waits while one of them has none yet. */
async function waitForAddresses({
  signal,
}: {
  readonly signal: AbortSignal;
}): Promise<readonly InterfaceAddress[]> {
  const deadlineMs = Date.now() + addressWaitMs;
  for (;;) {
    const found = Object.entries(networkInterfaces()).flatMap(([interfaceName, addresses]) =>
      (addresses ?? []).map(({ address, internal }) => ({ interfaceName, address, isInternal: internal })),
    );
    if (!isAddressPending(found) || Date.now() >= deadlineMs || signal.aborted) return found;
    await delay(addressPollMs, undefined, { signal }).catch(() => undefined);
  }
}

async function resolveHost(
  host: string | undefined,
  { signal }: { readonly signal: AbortSignal },
): Promise<ReadonlyMap<string, string>> {
  if (host === undefined) return new Map();
  const timeout = new AbortController();
  try {
    const found = await Promise.race([
      lookup(host, { all: true }),
      delay(lookupTimeoutMs, [], { signal: AbortSignal.any([timeout.signal, signal]) }),
    ]);
    const chosen = found.find(({ family }) => family === 4) ?? found[0];
    return chosen === undefined ? new Map() : new Map([[host, chosen.address]]);
  } catch {
    return new Map();
  } finally {
    timeout.abort();
  }
}
