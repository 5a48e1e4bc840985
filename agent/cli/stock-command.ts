import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { CommandError } from './command-error.ts';

/** Where the image keeps the stock binary. */
export const stockAgentPath = '/usr/local/bin/pilot-agent.stock';

/**
 * `istio-iptables` and `istio-clean-iptables`: the redirection rules are programmed by the stock binary of the base
 * image, with the same arguments, output and exit code. The image's start script does it without Node where the command
 * is the first word. Throws CommandError where there is no stock binary.
 */
export function runStockCommand(
  words: readonly string[],
  options: { readonly stockPath?: string } = {},
): number {
  const { stockPath = stockAgentPath } = options;
  if (!existsSync(stockPath)) {
    throw new CommandError([
      `the redirection rules are the work of the stock agent, and ${stockPath} is not there: use an image built from Istio's ` +
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
