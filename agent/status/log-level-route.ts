import { type LogLevel, logLevels, logScopes } from '../log.ts';
import type { Exchange, Route } from './route.ts';

/** What the route needs of the log; LogRoot is one. */
export interface LogLevels {
  levelOf(scope: string): LogLevel;
  setLevel(scope: string, level: LogLevel): void;
  resetLevels(): void;
}

/** What a query asks for. */
export type LevelChange =
  | { readonly kind: 'set'; readonly levels: readonly (readonly [scope: string, level: LogLevel])[] }
  | { readonly kind: 'reset' }
  | { readonly kind: 'bad'; readonly problem: string };

/** Every scope, and the one that overrides them. */
const changeableScopes: readonly string[] = ['all', ...logScopes];

/**
 * `/debug/logging`, in the form of Envoy's own `/logging`: a GET lists the levels, a POST or PUT with
 * `?scope=level&...` changes them until the agent ends, with `?reset` takes the changes back. The stock agent can only
 * be restarted with another flag.
 */
export function logLevelRoute(levels: LogLevels): Route {
  return {
    path: '/debug/logging',
    localOnly: true,
    method: undefined,
    handle: (exchange) => answerLevels(exchange, levels),
  };
}

/** Reads `scope=level&...` or `reset`. All or nothing: one bad part makes it bad. */
export function parseLevelChange(rawQuery: string): LevelChange {
  const pairs = [...new URLSearchParams(rawQuery)];
  if (pairs.length === 1 && pairs[0]?.[0] === 'reset') return { kind: 'reset' };
  if (pairs.length === 0)
    return { kind: 'bad', problem: 'nothing is asked for: use ?<scope>=<level> or ?reset' };
  const chosen: (readonly [string, LogLevel])[] = [];
  for (const [scope, text] of pairs) {
    const level = logLevels.find((candidate) => candidate === text);
    if (!changeableScopes.includes(scope)) {
      const problem = `there is no scope ${JSON.stringify(scope.slice(0, 60))}: use one of ${changeableScopes.join(', ')}`;
      return { kind: 'bad', problem };
    }
    if (level === undefined) {
      const problem = `there is no level ${JSON.stringify(text.slice(0, 60))}: use one of ${logLevels.join(', ')}`;
      return { kind: 'bad', problem };
    }
    chosen.push([scope, level]);
  }
  return { kind: 'set', levels: chosen };
}

async function answerLevels({ request, rawQuery, answer }: Exchange, levels: LogLevels): Promise<void> {
  answer.setHeader('Cache-Control', 'no-store');
  switch (request.method) {
    case 'GET':
    case 'HEAD':
      if (rawQuery === '') return answer.endWithText(200, listLevels(levels));
      return answer.endWithText(405, 'Method Not Allowed: a change is a POST or PUT\n');
    case 'POST':
    case 'PUT': {
      const change = parseLevelChange(rawQuery);
      switch (change.kind) {
        case 'bad':
          return answer.endWithText(400, `${change.problem}\n`);
        case 'reset':
          levels.resetLevels();
          return answer.endWithText(200, listLevels(levels));
        case 'set':
          for (const [scope, level] of change.levels) levels.setLevel(scope, level);
          return answer.endWithText(200, listLevels(levels));
        default:
          return change satisfies never;
      }
    }
    default:
      return answer.endWithText(405, 'Method Not Allowed\n');
  }
}

function listLevels(levels: LogLevels): string {
  return `levels in force:\n${logScopes.map((scope) => `  ${scope}: ${levels.levelOf(scope)}\n`).join('')}`;
}
