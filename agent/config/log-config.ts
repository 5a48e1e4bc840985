import { type LogLevel, logLevels } from '../log.ts';
import type { LogConfig } from './agent-config.ts';
import { type ConfigReport, quoteValue } from './config-report.ts';

/** The log flags of the root command, as given. */
export interface LogFlags {
  /** `scope:level,...`; a bare level is the scope `default`. */
  readonly outputLevel: string;
  readonly asJson: boolean;
}

/** Levels and format of the agent's own log (istio/istio `pkg/log/options.go`). */
export function readLogConfig(flags: LogFlags, report: ConfigReport): LogConfig {
  const levels = new Map<string, LogLevel>([
    ['default', 'info'],
    ['grpc', 'none'],
  ]);
  for (const item of flags.outputLevel === '' ? [] : flags.outputLevel.split(',')) {
    const [first = '', second, ...rest] = item.split(':');
    const [scope, levelText] = second === undefined ? ['default', first] : [first, second];
    const level = logLevels.find((candidate) => candidate === levelText);
    if (level !== undefined && rest.length === 0) levels.set(scope, level);
    else {
      report.error(
        '--log_output_level',
        `${quoteValue(item)} is not scope:level`,
        `use a level of ${logLevels.join(', ')}`,
      );
    }
  }
  return { format: flags.asJson ? 'json' : 'text', levels };
}
