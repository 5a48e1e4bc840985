/** Composition root: builds every part from one frozen config, starts them in order and stops them in reverse. */
import { access, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { IdentityMetrics } from '../metrics/identity-metrics.ts';
import { ProcessMetrics } from '../metrics/process-metrics.ts';
import { MetricRegistry } from '../metrics/registry.ts';
import { StatusMetrics } from '../metrics/status-metrics.ts';
import { WasmMetrics } from '../metrics/wasm-metrics.ts';
import { XdsMetrics } from '../metrics/xds-metrics.ts';
import { exposeCollector } from './collector.ts';
import { turnOffTopTiers } from './compiler.ts';
import type { AgentConfig } from './config/agent-config.ts';
import { HttpAdminClient } from './envoy/admin.ts';
import { type BootstrapFacts, buildBootstrap } from './envoy/bootstrap.ts';
import { writeBootstrapFile, writeGrpcBootstrapFile } from './envoy/bootstrap-file.ts';
import { Drain } from './envoy/drain.ts';
import { buildGrpcBootstrap, GrpcBootstrapReadiness } from './envoy/grpc-bootstrap.ts';
import { PluginVms, reportVms, type VmReading } from './envoy/plugin-vms.ts';
import { describeArguments, describeExit, type EnvoyExit, EnvoyProcess } from './envoy/process.ts';
import { EnvoyReadiness } from './envoy/readiness.ts';
import type { WorkloadIdentity } from './identity/identity.ts';
import { IdleCollection } from './idle-collection.ts';
import type { Logger, LogRoot } from './log.ts';
import type { PolicyStore } from './policy/policy-store.ts';
import { openSideParts, type SideParts } from './side-parts.ts';
import { logLevelRoute } from './status/log-level-route.ts';
import { profileRoutes } from './status/profile-routes.ts';
import { Readiness, type ReadinessCheck } from './status/readiness.ts';
import { StatsMerge } from './status/stats-merge.ts';
import { statusRoutes } from './status/status-routes.ts';
import { StatusServer } from './status/status-server.ts';
import type { Termination } from './termination.ts';
import { lastKnownGoodFile } from './wasm/data-files.ts';
import { shortPluginName } from './wasm/plugin-name.ts';
import type { WasmPart } from './wasm-part.ts';
import { ecdsInterceptor } from './xds/ecds-interceptor.ts';
import { AdsRelay } from './xds/relay.ts';
import { checkCompliance } from './xds/tls-limits.ts';
import { readRoots } from './xds/tls-material.ts';

export interface AgentContext {
  readonly logRoot: LogRoot;
  /** Epoch ms. */
  readonly processStartedAt: number;
  /** Listens since the start of the process; stays the caller's. */
  readonly termination: Termination;
}

/** What is there before the agent itself is made. */
interface AgentParts extends AgentContext {
  readonly registry: MetricRegistry;
  readonly side: SideParts;
}

/** Why the agent ends. */
type EndCause =
  | { readonly kind: 'signal'; readonly name: string }
  | { readonly kind: 'quit' }
  | { readonly kind: 'envoy-exited'; readonly exit: EnvoyExit };

/**
 * Runs the agent until a signal, `/quitquitquit` or Envoy's end. Resolves with the exit code, with nothing left
 * running. A signal during the start ends it before Envoy is started. Throws when a part does not start; what had
 * started is stopped first.
 */
export async function runAgent(config: AgentConfig, context: AgentContext): Promise<number> {
  const log = context.logRoot.scope('default');
  const end = Promise.withResolvers<EndCause>();
  const { termination } = context;
  const onSignal = () => end.resolve({ kind: 'signal', name: termination.received ?? 'SIGTERM' });
  if (termination.signal.aborted) onSignal();
  else termination.signal.addEventListener('abort', onSignal, { once: true });
  const registry = new MetricRegistry();
  await using side = await openSideParts({ config, registry, logRoot: context.logRoot });
  await using agent = new Agent(config, { ...context, registry, side }, (cause) => end.resolve(cause));
  await agent.start();
  turnOffTopTiers();
  collectAfterStart();
  agent.preload();
  using _ = new IdleCollection({ log });
  const cause = await end.promise;
  logCause(cause, log);
  await agent.shutDown(cause);
  return 0;
}

/**
 * Until its first full collection V8 lowers, with each young one, the size of the heap at which it begins one; a start has
 * so many that it would begin with the first plugin, in the midst of its download (docs/decisions/start-up.md). Now Envoy
 * starts, and asks for nothing yet.
 */
function collectAfterStart(): void {
  exposeCollector('dead')();
}

function logCause(cause: EndCause, log: Logger): void {
  switch (cause.kind) {
    case 'signal':
      log.info('Received signal, shutting down', { signal: cause.name });
      return;
    case 'quit':
      log.info('/quitquitquit called, shutting down');
      return;
    case 'envoy-exited': {
      const { level, text } = describeExit(cause.exit);
      log[level](text);
      return;
    }
    default:
      cause satisfies never;
  }
}

/**
 * A path that can never be a folder is an error of the configuration, to be seen at start and not with the first
 * plugin. A folder that cannot be written now (read-only, full) is not: modules on it still serve.
 */
async function checkDataFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o750 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOTDIR' && code !== 'EEXIST') return;
    const message = `the cache folder of Wasm modules cannot be ${folder}: part of the path is a file; remove it or set WASM_DATA_DIR`;
    throw new Error(message, { cause: error });
  }
}

/** The graph of parts of one run. */
class Agent implements AsyncDisposable {
  readonly #config: AgentConfig;
  readonly #context: AgentContext;
  readonly #logRoot: LogRoot;
  readonly #onEnd: (cause: EndCause) => void;
  /** Closed in reverse order of start. */
  readonly #parts = new AsyncDisposableStack();
  readonly #side: SideParts;
  readonly #drain: Drain;
  readonly #envoyReadiness: EnvoyReadiness;
  readonly #vms: PluginVms;
  readonly #relay: AdsRelay;
  readonly #status: StatusServer | undefined;
  readonly #identityMetrics: IdentityMetrics;
  #identity: WorkloadIdentity | undefined;
  readonly #wasmMetrics: WasmMetrics;
  /** Undefined: no policy file is named. */
  #policy: PolicyStore | undefined;
  #wasm: Promise<WasmPart> | undefined;
  #openWasm: WasmPart | undefined;
  #envoy: EnvoyProcess | undefined;

  constructor(config: AgentConfig, parts: AgentParts, onEnd: (cause: EndCause) => void) {
    this.#config = config;
    this.#context = parts;
    this.#logRoot = parts.logRoot;
    this.#onEnd = onEnd;
    this.#side = parts.side;
    const { logRoot, registry } = parts;
    const processMetrics = new ProcessMetrics(registry);
    this.#parts.defer(() => processMetrics.close());
    this.#wasmMetrics = new WasmMetrics(registry);
    this.#identityMetrics = new IdentityMetrics(registry, () => this.#identity?.served ?? []);
    const admin = new HttpAdminClient({ host: config.envoy.localHost, port: config.envoy.adminPort });
    this.#drain = new Drain(config.envoy, { admin, log: logRoot.scope('default') });
    this.#envoyReadiness = new EnvoyReadiness({ admin });
    this.#vms = new PluginVms({ admin });
    this.#wasmMetrics.plugins.watchVms(async () => {
      const reading = await this.#lookAtVms();
      // An Envoy that does not answer is a failed scrape of Envoy's own part.
      if (reading?.kind !== 'seen') return [];
      return reading.vms.map((vm) => ({ ...vm, plugin: shortPluginName(vm.plugin) }));
    });
    this.#relay = new AdsRelay({
      config: config.xds,
      interceptors: [
        ...(config.wasm.isConversionEnabled
          ? [
              ecdsInterceptor({
                loadRollouts: async () => (await this.#loadWasm()).rollouts,
                log: logRoot.scope('xdsproxy'),
              }),
            ]
          : []),
        ...parts.side.interceptors({
          applyTrustBundle: (certificates) => this.#applyTrustBundle(certificates),
        }),
      ],
      metrics: new XdsMetrics(registry),
      log: logRoot.scope('xdsproxy'),
    });
    this.#status = this.#makeStatusServer(registry);
  }

  /** The status server first, Envoy last: its socket is there before it starts. */
  async start(): Promise<void> {
    const { envoy, wasm, xds, compliance } = this.#config;
    const { signal } = this.#context.termination;
    if (signal.aborted) return;
    if (compliance !== undefined) checkCompliance(compliance, this.#logRoot.scope('default'));
    if (wasm.isConversionEnabled) await checkDataFolder(wasm.dataFolder);
    await this.#openPolicy(wasm.policyFile);
    if (this.#status !== undefined) {
      const status = this.#status;
      await status.listen();
      this.#parts.defer(() => status.close());
    }
    this.#parts.defer(() => this.#closeWasm());
    const facts = await this.#startIdentity();
    // The kubelet then starts the pod's container again, until the root is there.
    if (xds.tls !== undefined) await readRoots(xds.tls.root);
    await this.#relay.listen();
    this.#parts.defer(() => this.#relay.close());
    this.#side.startHealthChecks();
    if (envoy.grpcBootstrap !== undefined) {
      const document = buildGrpcBootstrap(envoy.grpcBootstrap, envoy.bootstrap.node, facts);
      await writeGrpcBootstrapFile(envoy.grpcBootstrap.path, document);
    }
    // Nothing is in flight yet: an agent that is told to end now ends without an Envoy to drain.
    if (!envoy.isEnabled || signal.aborted) return;
    if (envoy.customConfigPath === undefined) {
      const document = buildBootstrap(envoy.bootstrap, facts);
      this.#parts.use(await writeBootstrapFile(envoy.bootstrapPath, document, envoy.runAs));
    }
    this.#logRoot.scope('default').info(`Envoy command: ${describeArguments(envoy.arguments)}`);
    const running = await EnvoyProcess.start(envoy, process.env);
    this.#envoy = running;
    this.#parts.defer(() => running.close());
    void running.exited.then((exit) => this.#onEnd({ kind: 'envoy-exited', exit }));
  }

  /**
   * A pod that had plugins before its container started again will be sent them again: what they need is loaded while
   * Envoy starts, which takes longer. Other pods never load it.
   */
  preload(): void {
    const { wasm } = this.#config;
    if (wasm.isConversionEnabled) void this.#preloadWasm(join(wasm.dataFolder, lastKnownGoodFile));
  }

  /** Readiness fails and the status port closes at once; Envoy drains as configured, then is killed. */
  async shutDown(cause: EndCause): Promise<void> {
    this.#envoyReadiness.terminate(cause.kind === 'quit' ? '/quitquitquit called' : cause.kind);
    this.#status?.stopListening();
    if (this.#envoy !== undefined && cause.kind !== 'envoy-exited') {
      if (cause.kind === 'quit') this.#drain.skip();
      const gone = new AbortController();
      void this.#envoy.exited.then(() => gone.abort());
      await this.#drain.drainForTermination({ signal: gone.signal });
      await this.#envoy.close();
    }
    await this.#status?.close();
  }

  async #startIdentity(): Promise<BootstrapFacts> {
    const { WorkloadIdentity } = await import('./identity/identity.ts');
    const identity = new WorkloadIdentity({
      config: this.#config.identity,
      metrics: this.#identityMetrics,
      logRoot: this.#logRoot,
    });
    this.#identity = identity;
    this.#parts.defer(() => identity.close());
    return await identity.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync();
  }

  /** In the stock order; the first reason decides. */
  #readinessChecks(): readonly ReadinessCheck[] {
    const { isEnabled, grpcBootstrap } = this.#config.envoy;
    return [
      ...(isEnabled ? [{ name: 'Envoy', check: () => this.#envoyReadiness.check() }] : []),
      ...(grpcBootstrap === undefined ? [] : [new GrpcBootstrapReadiness(grpcBootstrap.path)]),
      ...this.#side.readinessChecks,
    ];
  }

  #makeStatusServer(registry: MetricRegistry): StatusServer | undefined {
    const { status, envoy } = this.#config;
    if (status.port === 0) return undefined;
    const log = this.#logRoot.scope('default');
    const metrics = new StatusMetrics(registry);
    const readiness = new Readiness({
      checks: this.#readinessChecks(),
      metrics,
      log,
      uptimeSeconds: () => (Date.now() - this.#context.processStartedAt) / 1_000,
    });
    const stats = new StatsMerge({
      config: { ...status, isEnvoyStatsMerged: status.isEnvoyStatsMerged && envoy.isEnabled },
      registry,
      metrics,
      log,
    });
    return new StatusServer({
      port: status.port,
      routes: [
        ...statusRoutes({
          readiness,
          stats,
          isMetricsLocalOnly: status.isMetricsLocalOnly,
          debugPage: () => this.#debugPage(),
          nameTable: () => this.#side.nameTable(),
          quit: () => this.#onEnd({ kind: 'quit' }),
          drain: async () => {
            if (this.#envoy !== undefined) await this.#drain.drainNow();
          },
          log,
        }),
        logLevelRoute(this.#logRoot),
        ...(status.isProfilingOn ? profileRoutes(log) : []),
        ...this.#side.routes,
      ],
      log,
    });
  }

  /** They are trusted beside the root that the CA sends. */
  #applyTrustBundle(certificates: readonly string[]): void {
    this.#identity?.setMeshAnchors(certificates);
  }

  /** Throws PolicyFileError with every fault: nothing may run under rules that nobody could read. */
  async #openPolicy(path: string | undefined): Promise<void> {
    if (path === undefined) return;
    const { PolicyStore } = await import('./policy/policy-store.ts');
    const policy = await PolicyStore.open({ path, log: this.#logRoot.scope('wasm') });
    this.#policy = policy;
    this.#parts.defer(() => policy.close());
    this.#wasmMetrics.plugins.watchPolicy(() => policy.facts());
  }

  /** Undefined where there is nothing to look at: Envoy is not asked in pods without plugins. */
  async #lookAtVms(): Promise<VmReading | undefined> {
    const { isEnabled } = this.#config.envoy;
    if (!isEnabled || (this.#openWasm?.rollouts.names().length ?? 0) === 0) return undefined;
    return await this.#vms.look();
  }

  async #debugPage(): Promise<unknown> {
    return {
      nodeId: this.#config.nodeId,
      isConversionEnabled: this.#config.wasm.isConversionEnabled,
      policy: this.#policy?.status(),
      plugins: this.#openWasm?.rollouts.snapshot() ?? [],
      vms: reportVms(await this.#lookAtVms()),
      xds: this.#relay.snapshot,
    };
  }

  async #loadWasm(): Promise<WasmPart> {
    this.#wasm ??= this.#makeWasm();
    return await this.#wasm;
  }

  async #makeWasm(): Promise<WasmPart> {
    try {
      const [{ openWasmPart }, { noPolicy }] = await Promise.all([
        import('./wasm-part.ts'),
        import('./policy/policy-data.ts'),
      ]);
      this.#openWasm = await openWasmPart({
        config: this.#config.wasm,
        policy: this.#policy ?? noPolicy,
        metrics: this.#wasmMetrics,
        logRoot: this.#logRoot,
      });
      return this.#openWasm;
    } catch (error) {
      // The next stream tries again.
      this.#wasm = undefined;
      throw error;
    }
  }

  /** `trace`: the file that tells whether there were plugins. Never rejects. */
  async #preloadWasm(trace: string): Promise<void> {
    try {
      await access(trace);
      if (this.#parts.disposed) return;
      await Promise.all([this.#loadWasm(), import('./xds/ecds-session.ts')]);
    } catch {
      // No such pod. What else fails now fails again with the first message, where it is told.
    }
  }

  async #closeWasm(): Promise<void> {
    await this.#wasm?.then((part) => part.close()).catch(() => undefined);
  }
}
