import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describeError } from '../log.ts';
import { CommandError } from './command-error.ts';
import { sendRequest } from './http-exchange.ts';

const allowedPorts = [15_000, 15_004, 15_020, 15_021];
const timeoutMs = 60_000;

/** An error body is printed whole up to this size. */
const maxErrorBodyLength = 64 * 1024;

export interface RequestOptions {
  readonly port: number;
  readonly method: string;
  readonly path: string;
  readonly body: string;
}

/**
 * `request`: one HTTP request to a local port; the body and one newline go to `output` and nothing else does, because
 * istioctl parses it. A status above 399 but 404 is a CommandError (istio/istio `pilot/pkg/request/command.go`).
 */
export async function requestLocal(options: RequestOptions, output: Writable): Promise<void> {
  const { port, method, path, body } = options;
  if (!allowedPorts.includes(port)) {
    throw new CommandError([`debug port ${port} is not in allowed list [${allowedPorts.join(' ')}]`]);
  }
  const address = `http://localhost:${port}/${path.startsWith('/') ? path.slice(1) : path}`;
  if (!URL.canParse(address)) throw new CommandError([`${JSON.stringify(path)} is not the path of a URL`]);
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    const response = await sendRequest({ url: new URL(address), method, body, signal });
    const status = response.statusCode ?? 0;
    if (status > 399 && status !== 404) {
      throw new CommandError([`received unsuccessful status code ${status}: ${await readStart(response)}`]);
    }
    await pipeline(response, output, { end: false });
    output.write('\n');
  } catch (error) {
    if (error instanceof CommandError) throw error;
    const reason = signal.aborted ? `no full answer within ${timeoutMs / 1000} s` : describeError(error);
    throw new CommandError([`${method} ${address}: ${reason}`], { cause: error });
  }
}

async function readStart(response: AsyncIterable<Buffer>): Promise<string> {
  let text = '';
  for await (const chunk of response) {
    text += chunk.toString();
    if (text.length > maxErrorBodyLength) return `${text.slice(0, maxErrorBodyLength)}...`;
  }
  return text;
}
