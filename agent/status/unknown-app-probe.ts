import type { Logger } from '../log.ts';
import type { Exchange, Route } from './route.ts';

/** Where injection points the probes and the lifecycle hooks of containers. */
export const appProbePaths = ['/app-health/', '/app-lifecycle/'] as const;

/** Tells the kubelet that the agent was not told about this probe (text of the stock agent). */
export async function answerUnknownProbe({ path, answer }: Exchange, log: Logger): Promise<void> {
  log.error('Prober does not exist', { path });
  return answer.endWithText(400, `app prober config does not exists for ${path}`);
}

/** The routes of an agent that has no probe to carry out. */
export function unknownProbeRoutes(log: Logger): readonly Route[] {
  return appProbePaths.map((path) => ({
    path,
    localOnly: false,
    method: undefined,
    handle: (exchange) => answerUnknownProbe(exchange, log),
  }));
}
