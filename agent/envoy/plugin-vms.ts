import { describeError } from '../log.ts';
import type { AdminClient } from './admin.ts';
import { parseStats } from './stats-text.ts';

/**
 * What Envoy counts of a plugin whose VM failed while it served, since Envoy's start. It counts for plugins with the
 * fail strategy FAIL_RELOAD only; of others whose VM is dead no stat of Envoy speaks (seen with Envoy 1.40).
 */
export interface PluginVm {
  /** `PluginConfig.name`. */
  readonly plugin: string;
  /** Times that a failed VM was started again. */
  readonly reloadCount: number;
  /** Times that starting it failed. */
  readonly failedReloadCount: number;
  /** Requests and connections that were refused because it was too soon to start it again. */
  readonly refusedCount: number;
}

/** What a look at Envoy's stats gives. */
export type VmReading =
  | { readonly kind: 'seen'; readonly vms: readonly PluginVm[] }
  | { readonly kind: 'unseen'; readonly reason: string };

const path = String.raw`/stats?usedonly&filter=^wasm\..+\.vm_reload_`;
/** A page and a scrape wait for it. */
const timeoutMs = 1_000;

/**
 * Reads what Envoy says of the VMs of plugins, when somebody asks. A scrape asks Envoy for its whole page as well, but
 * these counters cannot be picked from that as it streams by: the agent's own metrics stand before Envoy's, as in the
 * stock agent, so Envoy's page would have to be held. The scraper's query may also leave them out there, and
 * Prometheus names fold the plugin's own characters, such as its dots, to underscores.
 */
export class PluginVms {
  readonly #admin: Pick<AdminClient, 'get'>;
  #look: Promise<VmReading> | undefined;

  constructor(options: { readonly admin: Pick<AdminClient, 'get'> }) {
    this.#admin = options.admin;
  }

  /** Calls at the same time share one look. Never rejects. */
  look(): Promise<VmReading> {
    this.#look ??= this.#read().finally(() => {
      this.#look = undefined;
    });
    return this.#look;
  }

  async #read(): Promise<VmReading> {
    try {
      return { kind: 'seen', vms: parsePluginVms(await this.#admin.get(path, { timeoutMs })) };
    } catch (error) {
      return { kind: 'unseen', reason: describeError(error) };
    }
  }
}

/** The VMs in a `/stats` body that have failed, by name. Pure. */
export function parsePluginVms(body: string): readonly PluginVm[] {
  const vms = new Map<string, PluginVm>();
  for (const { name, value } of parseStats(body)) {
    const [, plugin, stat] = /^wasm\.(.+)\.vm_reload_(success|failure|backoff)$/.exec(name) ?? [];
    if (plugin === undefined || value === 0) continue;
    const vm = vms.get(plugin) ?? { plugin, reloadCount: 0, failedReloadCount: 0, refusedCount: 0 };
    const count =
      stat === 'success'
        ? { reloadCount: value }
        : stat === 'failure'
          ? { failedReloadCount: value }
          : { refusedCount: value };
    vms.set(plugin, { ...vm, ...count });
  }
  return [...vms.values()].sort((left, right) => (left.plugin < right.plugin ? -1 : 1));
}

/** The reading as `/debug/wasm` has it. Pure. */
export function reportVms(reading: VmReading | undefined): unknown {
  switch (reading?.kind) {
    case undefined:
      return undefined;
    case 'seen':
      return { failed: reading.vms };
    case 'unseen':
      return { failed: [], problem: reading.reason };
    default:
      return reading satisfies never;
  }
}
