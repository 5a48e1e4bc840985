import type { AgentConfig } from '../config/agent-config.ts';
import type { ProxyFlags } from '../config/agent-inputs.ts';
import { ConfigReport, formatConfigError } from '../config/config-report.ts';
import { proxyFlags, rootFlags } from '../config/flags.ts';
import { readLogConfig } from '../config/log-config.ts';
import { parseAgentConfig } from '../config/parse-agent-config.ts';
import { IdentityError } from '../identity/identity-error.ts';
import { describeError, LogRoot } from '../log.ts';
import type { Termination } from '../termination.ts';
import { buildInfo } from './build-info.ts';
import { CommandError } from './command-error.ts';
import { openLogTargets } from './log-target.ts';
import { readProxyInputs } from './proxy-inputs.ts';

/** Of a fatal log in the stock agent (`pkg/istio-agent/plugins.go`). */
const missingRootExitCode = 1;

/** Values of the flags as text, by name; a list flag holds its items. */
export type FlagValues = Readonly<Record<string, string | readonly string[]>>;

/**
 * `proxy`: reads the configuration, writes the stock agent's start lines and runs the agent until it ends. Resolves
 * with the exit code. A signal before the agent runs is an end in order too. Throws CommandError when the
 * configuration is wrong or the agent does not start.
 */
export async function runProxy(given: {
  readonly type: string | undefined;
  readonly flags: FlagValues;
  readonly unknownFlags: readonly string[];
  /** Epoch ms. */
  readonly processStartedAt: number;
  readonly termination: Termination;
}): Promise<number> {
  const { termination } = given;
  const root = process.cwd();
  const text = (name: string): string => String(given.flags[name]);
  const logFlags = { outputLevel: text('log_output_level'), asJson: text('log_as_json') === 'true' };
  using target = openLogTargets([given.flags['log_target'] ?? 'stdout'].flat(), root);
  // Faulty levels are reported with all the other errors.
  const logRoot = new LogRoot({
    ...readLogConfig(logFlags, new ConfigReport()),
    write: (line) => target.write(line),
  });
  const log = logRoot.scope('default');
  try {
    logStart(given, (line) => log.info(line));
    const inputs = await readProxyInputs({
      type: given.type,
      // Every flag of the table has a value.
      flags: Object.fromEntries(proxyFlags.map(({ name }) => [name, text(name)])) as unknown as ProxyFlags,
      logFlags,
      environment: process.env,
      root,
      signal: termination.signal,
    });
    const parsed = parseAgentConfig(inputs);
    if (parsed.errors !== undefined) throw new CommandError(parsed.errors.map(formatConfigError));
    logConfig(parsed.ok, log);
    if (given.unknownFlags.length > 0) {
      log.warn('ignoring unknown flags', { flags: given.unknownFlags.join(' ') });
    }
    const { runAgent } = await import('../agent.ts');
    return await runAgent(parsed.ok, { logRoot, termination, processStartedAt: given.processStartedAt });
  } catch (error) {
    const lines = error instanceof CommandError ? error.lines : [describeError(error)];
    for (const line of lines) log.error(line);
    if (error instanceof CommandError) throw error;
    const exitCode = isProvisionedRootMissing(error) ? { exitCode: missingRootExitCode } : {};
    throw new CommandError(lines, { cause: error, ...exitCode });
  }
}

/** Whether the root file in the folder of PROV_CERT is not there: the one start failure with a code of its own. */
function isProvisionedRootMissing(error: unknown): boolean {
  if (!(error instanceof IdentityError && error.code === 'bad_root')) return false;
  const { CA_ROOT_CA = '', PILOT_CERT_PROVIDER, PROV_CERT = '' } = process.env;
  if (CA_ROOT_CA !== '' || PILOT_CERT_PROVIDER === 'custom' || PROV_CERT === '') return false;
  for (let cause = error.cause; cause instanceof Error; cause = cause.cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return true;
  }
  return false;
}

function logStart(given: { readonly flags: FlagValues }, info: (line: string) => void): void {
  const names = [...rootFlags, ...proxyFlags].map(({ name }) => name);
  for (const name of [...names, 'help'].sort()) {
    const value = name === 'help' ? 'false' : (given.flags[name] ?? '');
    const shown = typeof value === 'string' ? value : `[${value.join(',')}]`;
    info(`FLAG: --${name}=${JSON.stringify(shown)}`);
  }
  const build = buildInfo();
  info(`Version ${build.version}-${build.revision}-${build.status}`);
}

function logConfig(config: AgentConfig, log: ReturnType<LogRoot['scope']>): void {
  log.info('Proxy role', {
    ips: `[${config.instanceIps.join(' ')}]`,
    type: config.role,
    id: config.nodeId.split('~')[2],
    domain: config.domain,
  });
  // On one line: JSON is YAML too, and a log record is one line.
  log.info(`Effective config: ${JSON.stringify(config.effectiveProxyConfig)}`);
  for (const warning of config.warnings) log.warn(warning);
}
