import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { IdentityMetrics, ServedCertificate } from '../../metrics/identity-metrics.ts';
import { type Clock, systemClock } from '../clock.ts';
import type { IdentityConfig } from '../config/identity-config.ts';
import type { BootstrapFacts } from '../envoy/bootstrap.ts';
import type { LogRoot } from '../log.ts';
import type { CertificateIssuer } from './certificate-issuer.ts';
import { CertificateStore } from './certificate-store.ts';
import { FileCertificates } from './file-certificates.ts';
import { IdentityError } from './identity-error.ts';
import { OutputFiles } from './output-files.ts';
import type { SdsServer } from './sds-server.ts';
import { workloadName, workloadRootName } from './secret-name.ts';
import { probeSocket } from './socket-probe.ts';
import { WarmUp } from './warm-up.ts';

export interface WorkloadIdentityOptions {
  readonly config: IdentityConfig;
  readonly metrics: IdentityMetrics;
  readonly logRoot: LogRoot;
  readonly clock?: Clock;
  /** In [0, 1). */
  readonly random?: () => number;
}

/** All that start has made. */
interface Parts {
  readonly store: CertificateStore;
  readonly warmUp: WarmUp;
  /** Undefined without Envoy. */
  readonly server: SdsServer | undefined;
}

/** Which certificates the agent itself provides. */
type Mode =
  /** The workload's, from the CA or from files, and those of files. */
  | 'own'
  /** Only those of files: an external provider, such as SPIRE, serves the workload's. */
  | 'files-only';

/** The certificate side of the agent: who the workload is, whom it trusts, and how Envoy learns of both. */
export class WorkloadIdentity {
  readonly #options: WorkloadIdentityOptions;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #closing = new AbortController();
  #starting: Promise<BootstrapFacts> | undefined;
  #parts: Parts | undefined;

  constructor(options: WorkloadIdentityOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
  }

  /** The issued certificate, for metrics. */
  get served(): readonly ServedCertificate[] {
    return this.#parts?.store.served ?? [];
  }

  /**
   * Looks at the sockets, then serves, and asks for the first certificate in the background: neither Envoy nor the CA
   * is waited for. To be called once, before Envoy's bootstrap is made. Throws IdentityError `socket`, `bad_config`,
   * `bad_root` or `file`: the agent cannot work then, and nothing is left running.
   */
  async start(): Promise<BootstrapFacts> {
    this.#closing.signal.throwIfAborted();
    this.#starting = this.#start();
    return await this.#starting;
  }

  async #start(): Promise<BootstrapFacts> {
    const { config, logRoot } = this.#options;
    const log = logRoot.scope('sds');
    if (config.workloadFiles.areRequired) await requireFiles(config);
    const { signal } = this.#closing;
    const mode = await this.#chooseMode();
    const isCredentialSocketPresent = await probeSocket(config.credentialSocketPath, { log, signal });
    const parts = await this.#build(mode);
    this.#parts = parts;
    signal.throwIfAborted();
    await parts.server?.listen();
    const isWarmUpDue = mode === 'own' && (!config.isFileMounted || !config.isEnvoyEnabled);
    if (isWarmUpDue) parts.warmUp.start();
    return { isCredentialSocketPresent, isFileCredentialServed: mode === 'files-only' };
  }

  /** Takes over the roots of the mesh, as istiod sent them (`ca_certificates_pem` of ProxyConfig over xDS). */
  setMeshAnchors(certificates: readonly string[]): void {
    this.#parts?.store.setMeshAnchors(certificates);
  }

  /** Ends all that start has begun. Safe twice, and before start. */
  async close(): Promise<void> {
    this.#closing.abort(new IdentityError('closed', 'the agent is ending'));
    await this.#starting?.catch(() => undefined);
    const parts = this.#parts;
    if (parts === undefined) return;
    await parts.server?.close();
    await parts.warmUp.close();
    await parts.store.close();
  }

  async #chooseMode(): Promise<Mode> {
    const { config, logRoot } = this.#options;
    const { workloadSocketPath } = config;
    const log = logRoot.scope('default');
    if (await probeSocket(workloadSocketPath, { log, signal: this.#closing.signal })) {
      log.info('Existing workload SDS socket found. Default Istio SDS Server will only serve files', {
        path: workloadSocketPath,
      });
      return 'files-only';
    }
    if (config.isDefaultSocketName) return 'own';
    throw new IdentityError(
      'socket',
      `agent configured for non-default SDS socket path: ${workloadSocketPath} but no socket found; start the provider first, or unset WORKLOAD_IDENTITY_SOCKET_FILE`,
    );
  }

  async #build(mode: Mode): Promise<Parts> {
    const { config, metrics, logRoot } = this.#options;
    const clock = this.#clock;
    const random = this.#random;
    const log = logRoot.scope('cache');
    const onUpdate = (name: string): void => this.#onUpdate(name, mode);
    const issuer = mode === 'own' && !config.isFileMounted ? await this.#makeIssuer() : undefined;
    const store = new CertificateStore({
      resolvePath: (path) => resolve(config.root, path),
      workloadFiles: config.workloadFiles,
      files: new FileCertificates({
        debounceMs: config.fileDebounceMs,
        onChange: onUpdate,
        metrics,
        log,
        clock,
        random,
      }),
      issue: issuer === undefined ? undefined : (options) => issuer.issue(options),
      rotation: config.rotation,
      output: config.output === undefined ? undefined : new OutputFiles({ ...config.output, log }),
      onUpdate,
      log,
      clock,
      random,
    });
    const warmUp = new WarmUp({ source: store, log: logRoot.scope('sds'), clock, random });
    const server = config.isEnvoyEnabled ? await this.#makeServer(mode, store) : undefined;
    return { store, warmUp, server };
  }

  async #makeIssuer(): Promise<CertificateIssuer> {
    const { config, metrics, logRoot } = this.#options;
    const { ca, csr, certificateTtlMs } = config;
    // Start-up time and memory of pods whose certificates come from elsewhere.
    const [{ CaClient }, { CertificateIssuer }] = await Promise.all([
      import('./ca-client.ts'),
      import('./certificate-issuer.ts'),
    ]);
    const signer = new CaClient({
      config: ca,
      metrics,
      log: logRoot.scope('citadelclient'),
      clock: this.#clock,
      random: this.#random,
    });
    await signer.check();
    logRoot.scope('default').info('CA Endpoint', { address: ca.address, provider: ca.provider });
    return new CertificateIssuer({
      csr,
      certificateTtlMs,
      certSigner: ca.certSigner,
      signer,
      metrics,
      log: logRoot.scope('cache'),
      clock: this.#clock,
    });
  }

  async #makeServer(mode: Mode, source: CertificateStore): Promise<SdsServer> {
    const { SdsServer } = await import('./sds-server.ts');
    const { config, metrics, logRoot } = this.#options;
    const { crlPath, keyProvider } = config;
    return new SdsServer({
      socketPath: mode === 'own' ? config.workloadSocketPath : config.fileSocketPath,
      purpose: mode === 'own' ? 'workload certificates' : 'file certificates only',
      source,
      crlPath,
      keyProvider,
      metrics,
      log: logRoot.scope('sds'),
      clock: this.#clock,
    });
  }

  #onUpdate(name: string, mode: Mode): void {
    const { config } = this.#options;
    this.#parts?.server?.push(name);
    // Files for others must be renewed also where no stream of Envoy asks for it.
    const isWritten = config.output !== undefined || !config.isEnvoyEnabled;
    const isOfWorkload = name === workloadName || name === workloadRootName;
    if (mode === 'own' && isWritten && isOfWorkload) this.#parts?.warmUp.start();
  }
}

/** GKE mounts them before the containers start (`pilot/cmd/pilot-agent/options/security.go`). */
async function requireFiles({ workloadFiles }: IdentityConfig): Promise<void> {
  const { certificatePath, keyPath, rootPath } = workloadFiles;
  for (const path of [certificatePath, keyPath, rootPath]) {
    const found = await stat(path).catch(() => undefined);
    if (found !== undefined) continue;
    const message = `workload certificate file ${path} is not present: check the volume, or set CA_PROVIDER to Citadel`;
    throw new IdentityError('file', message);
  }
}
