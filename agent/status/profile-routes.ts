import { getHeapSpaceStatistics, getHeapStatistics } from 'node:v8';
import { describeError, type Logger } from '../log.ts';
import { ClientGoneError } from './answer.ts';
import type { Exchange, Route } from './route.ts';

const defaultSeconds = 10;

/** The status server breaks an answer on which nothing moves, and a profile costs the proxy CPU. */
const maxSeconds = 60;

const pprofAnswer =
  'There are no Go profiles: this agent runs on Node.js. Ask instead for\n' +
  '  /debug/profile/cpu?seconds=10   CPU profile as JSON: save it as agent.cpuprofile, open it in Chrome DevTools or speedscope\n' +
  '  /debug/profile/heap             heap and process memory as JSON\n';

/**
 * Profiles of the agent itself for local peers, in place of Go's pprof. Left out with `--profiling=false`. No heap dump:
 * it would hold keys and tokens.
 */
export function profileRoutes(log: Logger): readonly Route[] {
  let isRecording = false;
  const common = { localOnly: true, method: undefined };
  return [
    {
      ...common,
      path: '/debug/profile/cpu',
      handle: async (exchange) => {
        const seconds = parseSeconds(exchange.rawQuery);
        if (seconds === undefined) {
          return exchange.answer.endWithText(400, `seconds is a whole number from 1 to ${maxSeconds}\n`);
        }
        if (isRecording) {
          exchange.answer.setHeader('Retry-After', String(maxSeconds));
          return exchange.answer.endWithText(429, 'a profile is being recorded: one at a time\n');
        }
        isRecording = true;
        try {
          return await answerCpuProfile(exchange, seconds, log);
        } finally {
          isRecording = false;
        }
      },
    },
    { ...common, path: '/debug/profile/heap', handle: answerHeap },
    ...['/debug/pprof', '/debug/pprof/'].map((path) => ({
      ...common,
      path,
      handle: ({ answer }: Exchange) => answer.endWithText(501, pprofAnswer),
    })),
  ];
}

/** Undefined for anything but `seconds=<1..60>` or an empty query. */
export function parseSeconds(rawQuery: string): number | undefined {
  if (rawQuery === '') return defaultSeconds;
  const match = /^seconds=(\d{1,3})$/.exec(rawQuery);
  const seconds = Number(match?.[1] ?? Number.NaN);
  return seconds >= 1 && seconds <= maxSeconds ? seconds : undefined;
}

async function answerCpuProfile({ answer }: Exchange, seconds: number, log: Logger): Promise<void> {
  let profile: string;
  try {
    // Loaded for the first profile: the inspector costs start-up time.
    const { recordCpuProfile } = await import('./cpu-profile.ts');
    log.info('recording a CPU profile', { seconds });
    profile = await recordCpuProfile(seconds * 1_000, { signal: answer.clientGone });
  } catch (error) {
    if (error instanceof ClientGoneError) throw error;
    return answer.endWithText(500, `the profile cannot be recorded: ${describeError(error)}\n`);
  }
  answer.setHeader('Content-Type', 'application/json');
  answer.setHeader('Content-Disposition', 'attachment; filename="agent.cpuprofile"');
  await answer.end(Buffer.from(profile));
}

/** Numbers only: nothing of what the memory holds. */
async function answerHeap({ answer }: Exchange): Promise<void> {
  answer.setHeader('Content-Type', 'application/json');
  answer.setHeader('Cache-Control', 'no-store');
  const page = {
    process: process.memoryUsage(),
    heap: getHeapStatistics(),
    spaces: getHeapSpaceStatistics(),
  };
  await answer.end(Buffer.from(`${JSON.stringify(page, undefined, 2)}\n`));
}
