import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { CommandError } from './command-error.ts';

/** Where the image keeps the stock binary. */
const stockAgentPath = '/usr/local/bin/pilot-agent.stock';

/**
 * `istio-iptables`: the redirection rules are programmed by the stock binary of the base image, with the same
 * arguments, output and exit code. Throws CommandError where there is none.
 */
export function runStockCommand(
  words: readonly string[],
  options: { readonly stockPath?: string } = {},
): number {
  const { stockPath = stockAgentPath } = options;
  if (!existsSync(stockPath)) {
    throw new CommandError([
      `istio-iptables is done by the stock agent, and ${stockPath} is not there: use an image built from Istio's ` +
        'proxy image, or name the stock image for istio-init (values.global.proxy_init.image)',
    ]);
  }
  const { status, signal, error } = spawnSync(stockPath, words, { stdio: 'inherit' });
  if (error !== undefined) {
    throw new CommandError([`cannot run ${stockPath}: ${error.message}`], { cause: error });
  }
  // As a shell does for a command that a signal ended.
  return signal === null ? (status ?? 1) : 128 + constants.signals[signal];
}
