import { httpGet } from '../support/http-get.ts';
import { poll } from '../support/polling.ts';

/** One request and the answer that a step of the story promises. */
export interface Expectation {
  readonly path: string;
  /** `user:password` */
  readonly credentials?: string;
  readonly status: number;
}

/** How long a change may take from the control plane to Envoy's answer. */
const deadlineMs = 10_000;

/**
 * Asks until the expected status comes, each time on a new connection. Returns it with the time that took as a text.
 * Throws Error with what was expected and what was seen.
 */
export async function expectAnswer(
  gatewayUrl: string,
  expectation: Expectation,
  options: { readonly signal: AbortSignal },
): Promise<string> {
  const { path, credentials, status } = expectation;
  const headers: Record<string, string> =
    credentials === undefined ? {} : { authorization: `Basic ${encodeCredentials(credentials)}` };
  await poll(
    async (signal) => {
      const answer = await httpGet(`${gatewayUrl}${path}`, { headers, signal });
      const seen = `${answer.status} ${JSON.stringify(answer.text.trim().slice(0, 200))}`;
      return answer.status === status ? { done: true, value: undefined } : { done: false, seen };
    },
    { what: `Expected: ${describe(expectation)}, which`, deadlineMs, signal: options.signal },
  );
  return describe(expectation);
}

/** Looks until `find` returns a text, and returns that. Throws Error with what was seen instead. */
export async function expectText(
  what: string,
  find: (signal: AbortSignal) => Promise<{ readonly found: string | undefined; readonly seen: string }>,
  options: { readonly signal: AbortSignal },
): Promise<string> {
  return poll(
    async (signal) => {
      const { found, seen } = await find(signal);
      return found === undefined ? { done: false, seen } : { done: true, value: found };
    },
    { what: `Expected: ${what}, which`, deadlineMs, signal: options.signal },
  );
}

/** What stands after `Basic ` in the header. */
export function encodeCredentials(credentials: string): string {
  return Buffer.from(credentials).toString('base64');
}

function describe({ path, credentials, status }: Expectation): string {
  return `${path}${credentials === undefined ? '' : ` as ${credentials}`} -> ${status}`;
}
