import type { IncomingMessage } from 'node:http';
import { describeError } from '../log.ts';
import { readWasmReport, type WasmReport } from '../status/wasm-report.ts';
import { CommandError } from './command-error.ts';
import { sendRequest } from './http-exchange.ts';
import { formatStatusTable } from './status-table.ts';

/** The agent answers at once; what takes longer hangs. */
const timeoutMs = 10_000;

/** Far more than the status of all plugins of one proxy. */
const maxAnswerBytes = 32 * 1024 * 1024;

export interface WasmStatusOptions {
  /** Status port of the agent on this machine. */
  readonly port: number;
  /** Print the agent's JSON as it is. */
  readonly isJson: boolean;
  /** The table has colours. */
  readonly isColoured: boolean;
  readonly now?: () => number;
}

/**
 * `wasm status`: what `/debug/wasm` of the running agent says, as the text to print. Throws CommandError where there
 * is no agent, or something else in its place.
 */
export async function wasmStatus(options: WasmStatusOptions): Promise<string> {
  const { port } = options;
  if (port < 1 || port > 65_535) {
    throw new CommandError([`invalid argument "${port}" for "--status-port": use a port from 1 to 65535`]);
  }
  const url = new URL(`http://localhost:${port}/debug/wasm`);
  const text = await readAnswer(url);
  const value = parseJson(url, text);
  if (options.isJson) return text.endsWith('\n') ? text : `${text}\n`;
  const report = readReport(url, value);
  return formatStatusTable(report, { nowMs: (options.now ?? Date.now)(), isColoured: options.isColoured });
}

async function readAnswer(url: URL): Promise<string> {
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    const response = await sendRequest({ url, method: 'GET', signal });
    const text = await readText(response);
    if (response.statusCode === 200) return text;
    const seen = `status ${response.statusCode}${text === '' ? '' : `: ${firstLine(text)}`}`;
    throw new CommandError([
      `GET ${url.href} was answered with ${seen}. Is it a Ferry agent? The stock agent has no such page. ` +
        'Name the port with --status-port (statusPort of ProxyConfig) if it is another one',
    ]);
  } catch (error) {
    if (error instanceof CommandError) throw error;
    const seen = signal.aborted ? `no full answer within ${timeoutMs / 1_000} s` : describeError(error);
    throw new CommandError(
      [
        `cannot reach the agent at ${url.href}: ${seen}. Run this in the proxy's container while the agent runs, ` +
          'and name the port with --status-port if it is another one',
      ],
      { cause: error },
    );
  }
}

async function readText(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > maxAnswerBytes) throw new Error(`the answer is longer than ${maxAnswerBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function readReport(url: URL, value: unknown): WasmReport {
  const reading = readWasmReport(value);
  if (reading.kind === 'report') return reading.report;
  throw new CommandError([
    `${url.href} gives JSON of another form (${reading.problem}): the agent there is of another version. ` +
      'See what it says with --json, or run the program it was started from',
  ]);
}

function parseJson(url: URL, text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new CommandError(
      [
        `GET ${url.href} was answered with ${JSON.stringify(firstLine(text))}, which is no JSON: another program listens there. ` +
          "Name the agent's port with --status-port",
      ],
      { cause: error },
    );
  }
}

function firstLine(text: string): string {
  return (text.split('\n', 1)[0] ?? '').slice(0, 200);
}
