import { systemClock, timeoutSignal, wait } from '../clock.ts';
import { describeError, type Logger } from '../log.ts';
import { CommandError } from './command-error.ts';
import { sendRequest } from './http-exchange.ts';

export interface WaitOptions {
  readonly url: string;
  readonly timeoutMs: number;
  readonly requestTimeoutMs: number;
  /** Pause before every attempt, the first included. */
  readonly periodMs: number;
}

/**
 * `wait`: returns when the URL has answered 200 with its body read to the end. Throws CommandError when the time is
 * over (istio/istio `pilot/cmd/pilot-agent/app/wait.go`).
 */
export async function waitUntilReady(options: WaitOptions, log: Logger): Promise<void> {
  if (!URL.canParse(options.url)) {
    throw new CommandError([
      `--url: ${JSON.stringify(options.url)} is not a URL; use one such as http://localhost:15021/healthz/ready`,
    ]);
  }
  const url = new URL(options.url);
  log.info(`Waiting for Envoy proxy to be ready (timeout: ${options.timeoutMs / 1000} seconds)...`);
  // Of a clock that never jumps: at the start of a machine the time of day is often set.
  const deadlineMs = performance.now() + options.timeoutMs;
  let lastError = 'no attempt was made';
  for (;;) {
    const leftMs = deadlineMs - performance.now();
    await wait(systemClock, Math.max(0, Math.min(options.periodMs, leftMs)));
    if (leftMs <= options.periodMs) break;
    const failure = await ask(url, options.requestTimeoutMs);
    if (failure === undefined) {
      log.info('Envoy is ready!');
      return;
    }
    lastError = failure;
    log.debug(`Not ready yet: ${failure}`);
  }
  throw new CommandError([`timeout waiting for Envoy proxy to become ready. Last error: ${lastError}`]);
}

async function ask(url: URL, timeoutMs: number): Promise<string | undefined> {
  // Zero means no limit, as for Go's HTTP client.
  const signal = timeoutMs === 0 ? new AbortController().signal : timeoutSignal(timeoutMs);
  try {
    const response = await sendRequest({ url, method: 'GET', signal });
    for await (const _ of response) {
      // The body counts only as far as it ends.
    }
    return response.statusCode === 200 ? undefined : `HTTP status code ${response.statusCode}`;
  } catch (error) {
    if (signal.aborted) return `GET ${url.href}: no full answer within ${timeoutMs} ms`;
    return `GET ${url.href}: ${describeError(error)}`;
  }
}
