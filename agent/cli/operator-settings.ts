import { resolve } from 'node:path';
import type { WasmConfig } from '../config/agent-config.ts';
import { ConfigReport, formatConfigError } from '../config/config-report.ts';
import { readEnvironment } from '../config/environment.ts';
import { parseGoDuration, parseGoInteger } from '../config/go-values.ts';
import { readWasmConfig } from '../config/wasm-config.ts';
import { CommandError } from './command-error.ts';
import { exitCodes, flagText, type OperatorFlags, usageError } from './operator-run.ts';

/**
 * The Wasm settings of the agent, from the environment of this process: in the proxy's container they are the same.
 * Throws CommandError. Warnings go to standard error.
 */
export function readWasmSettings(): WasmConfig {
  const report = new ConfigReport();
  const values = readEnvironment(process.env, report);
  const config = readWasmConfig(values, process.env, process.cwd(), report);
  if (report.errors.length > 0) {
    throw new CommandError(report.errors.map(formatConfigError), { exitCode: exitCodes.usage });
  }
  // The environment is read whole; what is said of other settings is no matter of this command.
  const warnings = report.warnings.filter((text) => /WASM|CIDR/.test(text));
  process.stderr.write(warnings.map((text) => `Warning: ${text}\n`).join(''));
  return config;
}

/** The folder of `--data-folder`, else the agent's. Throws CommandError. */
export function readDataFolder(flags: OperatorFlags): string {
  const folder = flagText(flags, 'data-folder');
  return folder === '' ? readWasmSettings().dataFolder : resolve(folder);
}

/** A duration in ms. Throws CommandError. */
export function readDuration(flags: OperatorFlags, name: string): number {
  const text = flagText(flags, name);
  const valueMs = parseGoDuration(text);
  if (valueMs !== undefined && valueMs > 0) return valueMs;
  throw usageError(`--${name}: ${JSON.stringify(text)} is no time span; write it as 30s, 10m or 1h30m`);
}

/** A port, or 0. Throws CommandError. */
export function readPort(flags: OperatorFlags, name: string): number {
  const text = flagText(flags, name);
  const port = parseGoInteger(text);
  if (port !== undefined && port >= 0 && port <= 65_535) return port;
  throw usageError(`--${name}: ${JSON.stringify(text)} is no port; use 1 to 65535, or 0 for none`);
}
