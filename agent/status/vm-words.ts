import { shortPluginName } from '../wasm/plugin-name.ts';
import type { ReportedVm, WasmReport } from './wasm-report.ts';

/** What became of a VM that failed while it served, in one sentence. */
export function vmWords({ reloadCount, failedReloadCount, refusedCount }: ReportedVm): string {
  const parts = [
    reloadCount === 0 ? '' : `Envoy started it again ${times(reloadCount)}`,
    failedReloadCount === 0 ? '' : `could not start it again ${times(failedReloadCount)}`,
    refusedCount === 0
      ? ''
      : `${refusedCount} ${refusedCount === 1 ? 'request was' : 'requests were'} refused meanwhile`,
  ].filter((part) => part !== '');
  return `The VM failed while it served: ${parts.join(', ')}.`;
}

/** The failed VM of one plugin; undefined where Envoy tells of none. */
export function vmOf({ vms }: WasmReport, name: string): ReportedVm | undefined {
  return vms?.failed.find(({ plugin }) => shortPluginName(plugin) === shortPluginName(name));
}

/** Failed VMs that belong to no plugin of istiod's, as one of a listener's own filter. */
export function otherVms({ vms, plugins }: WasmReport): readonly ReportedVm[] {
  const known = new Set(plugins.map(({ name }) => shortPluginName(name)));
  return (vms?.failed ?? []).filter(({ plugin }) => !known.has(shortPluginName(plugin)));
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`;
}
