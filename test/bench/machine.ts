import { readFileSync } from 'node:fs';
import { arch, availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import type { MachineDescription } from './bench-result.ts';
import { cpuSecondsWithChildren, ticksPerSecond } from './process-usage.ts';

const bytesPerMib = 1024 * 1024;
/** Load per core from which something else plainly is using the machine. */
const busyLoadPerCore = 0.25;
/** Part of the CPUs that the kernel and its daemons take on a machine that is ours alone, with some room. */
const quietCpuShare = 0.05;

/** Sees what else runs on the machine during a run: figures taken beside others are not to be trusted. */
export class MachineWatch {
  readonly #loadBefore = loadavg()[0] ?? 0;
  readonly #startedAtMs = performance.now();
  readonly #busyBefore = busyCpuSeconds();
  readonly #ownBefore = cpuSecondsWithChildren(process.pid);

  /** What is already worth a warning before the run. */
  get startWarnings(): readonly string[] {
    const coreCount = availableParallelism();
    const warnings: string[] = [];
    if (this.#loadBefore > busyLoadPerCore * coreCount) {
      warnings.push(
        `The load average was ${this.#loadBefore.toFixed(2)} on ${coreCount} cores before the run: something else was using the machine.`,
      );
    }
    if (coreCount < 2)
      warnings.push('With one core, server, client and agent take turns: figures show their sum.');
    return warnings;
  }

  /** Call it when all processes of the run have ended: the CPU time of a child is known from then on. */
  finish(): { readonly machine: MachineDescription; readonly warnings: readonly string[] } {
    const coreCount = availableParallelism();
    const elapsedSeconds = (performance.now() - this.#startedAtMs) / 1000;
    const others =
      busyCpuSeconds() - this.#busyBefore - (cpuSecondsWithChildren(process.pid) - this.#ownBefore);
    const othersCpuShare = Math.min(1, Math.max(0, others / (elapsedSeconds * coreCount)));
    return {
      machine: {
        cpuModel: cpus()[0]?.model.trim() ?? 'unknown CPU',
        coreCount,
        memoryMib: Math.round(totalmem() / bytesPerMib),
        kernel: release(),
        architecture: arch(),
        nodeVersion: process.version,
        loadBefore: this.#loadBefore,
        othersCpuShare,
      },
      warnings:
        othersCpuShare > quietCpuShare
          ? [
              `Other processes used ${(othersCpuShare * 100).toFixed(0)} % of the CPUs during the run: its figures are not to be quoted.`,
            ]
          : [],
    };
  }
}

/** CPU time of all processes since the machine began, and what its host took away. Source: proc(5), /proc/stat. */
function busyCpuSeconds(): number {
  const [, user = 0, nice = 0, system = 0, , , , , steal = 0] = (
    readFileSync('/proc/stat', 'latin1').split('\n', 1)[0] ?? ''
  )
    .split(/\s+/)
    .map(Number);
  return (user + nice + system + steal) / ticksPerSecond;
}
